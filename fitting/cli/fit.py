"""The verb `fit` on the command line."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_meshes,
    add_out,
    add_person,
    add_picture,
    add_seen,
    shared,
)
from flowfit.fitting.cli.printing import focal_line, print_done
from flowfit.fitting.energy.recipes import DEFAULT_RECIPE, RECIPES


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    fit = verbs.add_parser(
        "fit",
        parents=[common],
        help="fit everyone in one picture",
        description="Fit everyone in one picture. Writes for each person STEM_N.npz, .json and "
        "meshes, and STEM_overlay.png and STEM_summary.json for the picture.",
    )
    add_picture(fit)
    add_out(fit)
    fit.add_argument(
        "--recipe",
        default=DEFAULT_RECIPE,
        help=f"what is minimised: {', '.join(RECIPES)} (default: {DEFAULT_RECIPE})",
    )
    fit.add_argument("--solver", help="lm, lbfgs or adam (default: the recipe's own)")
    fit.add_argument("--prior", help="built-in prior, or a file of one (default: the recipe's)")
    add_body(fit)
    add_seen(fit)
    add_person(fit)
    add_compute(fit)
    add_meshes(fit, ["obj", "glb"])
    fit.add_argument(
        "--samples", type=int, metavar="N", help="also draw N bodies of what is open after the fit"
    )
    fit.add_argument("--seed", type=int, default=0, help="of --samples (default: 0)")
    add_drawing(fit)
    fit.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.fit import fit

    done = fit(
        args.image,
        args.keypoints,
        args.out,
        recipe=args.recipe,
        prior=args.prior,
        draw=not args.no_overlay,
        solver=args.solver,
        samples=args.samples,
        seed=args.seed,
        **shared(args),
    )
    lines = []
    for person in done.report["people"]:
        error = person["reprojection_px"]
        place = ""
        if error is not None:
            share = 100 * person["reprojection_of_box"]
            place = f", median error {error:.1f} px ({share:.1f} % of the box)"
        trust = f"quality {person['quality']:.2f}, facing {person['facing']:.2f}"
        lines.append(f"person {person['person']}: {person['status']}{place}, {trust}")
    lines = [*(lines or [f"nobody in {args.keypoints}"]), focal_line(done.report)]
    return print_done(
        args, lines, done.files, warnings=done.warnings, seconds=done.report["seconds"]
    )
