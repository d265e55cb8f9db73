"""The verb `lift` on the command line, and `train lifting`."""

from __future__ import annotations

import argparse
import sys

from flowfit.fitting.cli.options import (
    add_compute,
    add_image_size,
    add_out,
    add_person,
    add_seen,
    person_number,
    use_threads,
)


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
    import torch

    from flowfit.fitting.verbs.lift import DEFAULT_SAMPLES, SCALE_NOTE, lift
    from flowfit.priors.lifting.files import BUILT_IN

    use_threads(args.threads)
    done = lift(
        args.keypoints,
        args.out,
        image=args.image,
        image_size=None if args.image_size is None else tuple(args.image_size),
        focal=args.focal,
        samples=DEFAULT_SAMPLES if args.samples is None else args.samples,
        schema=args.schema,
        person=person_number(args.person),
        lifter=args.lifter or BUILT_IN,
        seed=args.seed,
        device=args.device,
        dtype=getattr(torch, args.dtype),
        draw=not args.no_picture,
        progress=sys.stderr.isatty(),
    )
    for line in done.warnings:
        print(f"flowfit: warning: {line}", file=sys.stderr)
    if done.skeletons is None:
        print(f"nobody in {args.keypoints}")
    for person in done.report["people"]:
        spread = person["spread_mm"]
        said = "" if spread != spread else f", samples spread {spread:.0f} mm a joint"
        print(f"person {person['person']}: {person['joints_told']} joints told{said}")
    report = done.report
    print(f"focal length {report['focal_px']:.0f} px: {report['focal_source']}")
    print(SCALE_NOTE)
    print(f"{len(done.files)} files in {args.out} ({report['seconds']:.1f} s)")
    return 0
