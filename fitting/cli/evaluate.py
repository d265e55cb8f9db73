"""The command line of `flowfit evaluate`."""

from __future__ import annotations

import argparse
import json

from flowfit.fitting.cli.options import add_body, add_compute, shared
from flowfit.fitting.cli.printing import print_done
from flowfit.fitting.energy.recipes import EVALUATED

_SETS = ("plain", "truncated", "views")


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    evaluate = verbs.add_parser(
        "evaluate",
        parents=[common],
        help="the field's tables for a posterior, on made-up pictures or a dataset",
        description="Mode, best of n samples, fits with detected and true keypoints beside "
        "SMPLify, several views. Writes evaluation.json and evaluation.md; run again with the same "
        "arguments, it goes on where it was stopped.",
    )
    evaluate.add_argument(
        "dataset", help="synthetic, a registered dataset such as 3dpw-test, or a dataset file"
    )
    evaluate.add_argument("--out", metavar="DIR", help="folder for the results (default: none)")
    evaluate.add_argument("--prior", default="image-small", help="built-in posterior, or a file")
    evaluate.add_argument(
        "--recipes",
        nargs="+",
        metavar="NAME",
        default=EVALUATED,
        help=f"default: {' '.join(EVALUATED)}",
    )
    evaluate.add_argument("--mixture", default="smplify", help="of the classical recipes")
    evaluate.add_argument(
        "--keypoints",
        nargs="+",
        choices=("detected", "annotated"),
        default=("detected", "annotated"),
        help="which keypoints lead the fits (default: both, one after the other)",
    )
    evaluate.add_argument(
        "--samples", nargs="*", type=int, metavar="N", help="best of N (default: 1 5 10 25)"
    )
    evaluate.add_argument("--people", type=int, help="at most so many; of synthetic, so many a set")
    evaluate.add_argument("--sets", nargs="+", choices=_SETS, default=_SETS)
    evaluate.add_argument("--mocap", metavar="DIR", help="AMASS files with synthetic's poses")
    evaluate.add_argument("--files", metavar="DIR", help="folder of annotation files")
    evaluate.add_argument("--pictures", metavar="DIR", help="folder of the pictures")
    evaluate.add_argument(
        "--quick", action="store_true", help="a look at synthetic in a minute, without any files"
    )
    evaluate.add_argument("--seed", type=int, default=0)
    add_body(evaluate)
    add_compute(evaluate)
    evaluate.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.evaluate import DEFAULT_SAMPLES, evaluate

    done = evaluate(
        args.dataset,
        args.out,
        prior=args.prior,
        recipes=args.recipes,
        mixture=args.mixture,
        keypoints=args.keypoints,
        samples=DEFAULT_SAMPLES if args.samples is None else args.samples,
        people=args.people,
        sets=args.sets,
        mocap=args.mocap,
        files=args.files,
        pictures=args.pictures,
        quick=args.quick,
        seed=args.seed,
        **shared(args),
    )
    warnings = []
    missing = done.content["missing_pictures"]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        warnings.append(f"no picture {missing[0]}{more}; passed over")
    for one in done.content["sets"].values():
        for bad in one["passed_over"]:
            warnings.append(f"passed over {bad['picture']}: {bad['reason']}")
    print_done(args, [done.markdown], done.files, warnings=warnings)
    if args.quick:
        print(json.dumps(done.headline))
    return 0
