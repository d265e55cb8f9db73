"""The verb `fit` on the command line."""

from __future__ import annotations

import argparse
import sys

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_meshes,
    add_out,
    add_person,
    add_picture,
    add_seen,
    person_number,
    use_threads,
)


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
        default=None,
        help="what is minimised: flow (default), prohmr, gmm, smplify, spin, smplifyx, regression",
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
    fit.set_defaults(run=_fit)


def _fit(args: argparse.Namespace) -> int:
    # the verbs' own imports (torch, trimesh, ...) would make `flowfit --help` slow
    import torch

    from flowfit.fitting.verbs.fit import DEFAULT_RECIPE, fit

    use_threads(args.threads)
    done = fit(
        args.image,
        args.keypoints,
        args.out,
        image_size=None if args.image_size is None else tuple(args.image_size),
        recipe=args.recipe or DEFAULT_RECIPE,
        prior=args.prior,
        body=args.body,
        gender=args.gender,
        schema=args.schema,
        focal=args.focal,
        person=person_number(args.person),
        device=args.device,
        dtype=getattr(torch, args.dtype),
        meshes=[m for m in args.mesh if m != "none"],
        draw=not args.no_overlay,
        renderer=args.renderer,
        progress=sys.stderr.isatty(),
        solver=args.solver,
        samples=args.samples,
        seed=args.seed,
    )
    for line in done.warnings:
        print(f"flowfit: warning: {line}", file=sys.stderr)
    if done.result is None:
        print(f"nobody in {args.keypoints}")
    for person in done.report["people"]:
        error = person["reprojection_px"]
        place = ""
        if error is not None:
            share = 100 * person["reprojection_of_box"]
            place = f", median error {error:.1f} px ({share:.1f} % of the box)"
        trust = f"quality {person['quality']:.2f}, facing {person['facing']:.2f}"
        print(f"person {person['person']}: {person['status']}{place}, {trust}")
    report = done.report
    print(f"focal length {report['focal_px']:.0f} px: {report['focal_source']}")
    print(f"{len(done.files)} files in {args.out} ({report['seconds']:.1f} s)")
    return 0
