"""The verb `lift` on the command line."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import (
    add_compute,
    add_image_size,
    add_out,
    add_person,
    add_seen,
    shared,
)
from flowfit.fitting.cli.printing import focal_line, print_done


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    lift = verbs.add_parser(
        "lift",
        parents=[common],
        help="lift everyone's 2D keypoints to 3D skeletons, without a body model",
        description="Lift everyone in one keypoint file to 3D skeletons of 17 joints. Writes for "
        "each person STEM_N.npz and STEM_N_lift.png, and STEM_summary.json. Metres are those of "
        "an average adult.",
    )
    lift.add_argument("keypoints", help="as OpenPose writes them (JSON)")
    add_out(lift)
    add_image_size(lift, "pixels of the picture (default: assumed from the keypoints)")
    lift.add_argument("--image", help="the picture, in place of its size; it is drawn on, too")
    add_seen(lift)
    lift.add_argument("--samples", type=int, default=None, metavar="N", help="of each person (100)")
    lift.add_argument("--seed", type=int, default=0, help="of the samples")
    add_person(lift)
    lift.add_argument("--lifter", help="another lifter: a .safetensors of flowfit train lifting")
    add_compute(lift)
    lift.add_argument("--no-picture", action="store_true", help="draw nothing")
    lift.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.lift import DEFAULT_SAMPLES, SCALE_NOTE, lift
    from flowfit.priors.lifting.files import BUILT_IN

    done = lift(
        args.keypoints,
        args.out,
        image=args.image,
        samples=DEFAULT_SAMPLES if args.samples is None else args.samples,
        lifter=args.lifter or BUILT_IN,
        seed=args.seed,
        draw=not args.no_picture,
        **shared(args),
    )
    lines = []
    for person in done.report["people"]:
        spread = person["spread_mm"]
        said = "" if spread != spread else f", samples spread {spread:.0f} mm a joint"
        lines.append(f"person {person['person']}: {person['joints_told']} joints told{said}")
    lines = [*(lines or [f"nobody in {args.keypoints}"]), focal_line(done.report), SCALE_NOTE]
    return print_done(
        args, lines, done.files, warnings=done.warnings, seconds=done.report["seconds"]
    )
