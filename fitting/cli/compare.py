"""The command line of `flowfit compare`."""

from __future__ import annotations

import argparse
import sys

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_out,
    add_seen,
    use_threads,
)


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
        help="default: regression flow smplify spin smplifyx; also gmm, prohmr; NAME+mode begins "
        "a classical recipe at the regression",
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
    compare.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    # these make `flowfit --help` slow
    import torch

    from flowfit.fitting.comparison.contestants import DEFAULT_RECIPES
    from flowfit.fitting.comparison.table import cells
    from flowfit.fitting.verbs.compare import compare

    use_threads(args.threads)
    done = compare(
        args.images,
        args.keypoints,
        args.out,
        recipes=args.recipes or DEFAULT_RECIPES,
        solver=args.solver,
        truth=args.truth,
        prior=args.prior,
        mixture=args.mixture,
        body=args.body,
        gender=args.gender,
        schema=args.schema,
        focal=args.focal,
        device=args.device,
        dtype=getattr(torch, args.dtype),
        draw=not args.no_pictures,
        renderer=args.renderer,
        progress=sys.stderr.isatty(),
    )
    for name, reason in done.passed_over:
        print(f"flowfit: warning: {name} passed over: {reason}", file=sys.stderr)
    headings, lines = cells(done.rows)
    table = [headings, *lines]
    widths = [max(len(line[k]) for line in table) for k in range(len(headings))]
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    print(f"{len(done.files)} files in {args.out}; look at compare.html")
    return 0
