"""The verb `sample` on the command line."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_out,
    add_person,
    add_picture,
    add_seen,
    shared,
)
from flowfit.fitting.cli.printing import print_done


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    drawn = verbs.add_parser(
        "sample",
        parents=[common],
        help="bodies that could be each person, before anything is fitted",
        description="Draw bodies from the posterior of each person and quantise them to a few. "
        "Writes for each person STEM_N_samples.npz and .png, and STEM_samples.json.",
    )
    add_picture(drawn)
    add_out(drawn)
    drawn.add_argument(
        "-n", "--samples", type=int, default=4096, metavar="N", help="samples (default: 4096)"
    )
    drawn.add_argument(
        "-m", "--modes", type=int, default=5, metavar="M", help="bodies (default: 5)"
    )
    drawn.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    drawn.add_argument(
        "--interpolate",
        action="store_true",
        help="draw bodies along two random directions of the latent, too",
    )
    drawn.add_argument("--prior", help="a posterior: built in, or a file (default: keypoint-flow)")
    add_body(drawn)
    add_seen(drawn)
    add_person(drawn)
    add_compute(drawn, "float32")
    add_drawing(drawn)
    drawn.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.sample import sample

    done = sample(
        args.image,
        args.keypoints,
        args.out,
        count=args.samples,
        modes=args.modes,
        seed=args.seed,
        interpolate=args.interpolate,
        prior=args.prior,
        draw_pictures=not args.no_overlay,
        **shared(args),
    )
    lines = []
    for one in done.people:
        shares = ", ".join(f"{100 * w:.0f} %" for w in one.modes.weight.tolist())
        lines.append(f"person {one.person}: {len(one.draws)} samples, modes of {shares}")
    lines = lines or [f"nobody in {args.keypoints}"]
    return print_done(
        args, lines, done.files, warnings=done.warnings, seconds=done.report["seconds"]
    )
