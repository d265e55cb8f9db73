"""The command line of `flowfit compare`."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_out,
    add_seen,
    shared,
)
from flowfit.fitting.cli.printing import print_done
from flowfit.fitting.energy.recipes import COMPARED, RECIPES


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    compare = verbs.add_parser(
        "compare",
        parents=[common],
        help="fit the same people with several recipes, side by side",
        description="Fit the same people with several recipes. Writes table.md, .csv and .json, "
        "STEM_N_compare.png and STEM_N_RECIPE.npz for each person, and compare.html with all.",
    )
    compare.add_argument("images", help="a picture, or a folder of pictures")
    compare.add_argument("keypoints", help="its OpenPose JSON, or a folder of NAME_keypoints.json")
    add_out(compare)
    compare.add_argument(
        "--recipes",
        nargs="+",
        metavar="NAME",
        default=COMPARED,
        help=f"default: {' '.join(COMPARED)}; also {', '.join(sorted(RECIPES.keys() - COMPARED))}; "
        "NAME+mode begins a classical recipe at the regression",
    )
    compare.add_argument("--solver", help="lm, lbfgs or adam for all (default: each recipe's own)")
    compare.add_argument(
        "--truth", metavar="FILE", help="known bodies: an npz, or a folder of them"
    )
    compare.add_argument("--prior", help="posterior of regression and flow: built-in name or file")
    compare.add_argument("--mixture", metavar="FILE", help="of the classical recipes: gmm_08.pkl")
    add_body(compare)
    add_seen(compare, "of all pictures; as in fit")
    add_compute(compare)
    add_drawing(compare, "--no-pictures")
    compare.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from flowfit.fitting.comparison.table import cells
    from flowfit.fitting.verbs.compare import compare

    done = compare(
        args.images,
        args.keypoints,
        args.out,
        recipes=args.recipes,
        solver=args.solver,
        truth=args.truth,
        prior=args.prior,
        mixture=args.mixture,
        draw=not args.no_pictures,
        **shared(args),
    )
    headings, rows = cells(done.rows)
    table = [headings, *rows]
    widths = [max(len(line[k]) for line in table) for k in range(len(headings))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in table
    ]
    warnings = [f"{name} passed over: {reason}" for name, reason in done.passed_over]
    return print_done(args, lines, done.files, warnings=warnings, after="; look at compare.html")
