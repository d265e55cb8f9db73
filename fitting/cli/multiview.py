"""The verb `multiview` on the command line."""

from __future__ import annotations

import argparse
import sys

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_image_size,
    add_meshes,
    add_out,
    add_person,
    add_seen,
    person_number,
    use_threads,
)


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
    views = verbs.add_parser(
        "multiview",
        parents=[common],
        help="fit everyone in a scene that several cameras see",
        description="Fit everyone in a scene of several views. Writes for each frame and person "
        "FRAME_pN.npz and .json, pictures, and FRAME.json when the frame is done. Run again, it "
        "goes on after the frames that are done.",
    )
    views.add_argument("scene", help="folder of keypoints and, if known, cameras")
    add_out(views)
    views.add_argument("--frames", nargs="+", metavar="NAME", help="names, or START:END by place")
    views.add_argument("--views", nargs="+", metavar="NAME", help="cameras to use (default: all)")
    add_person(views)
    views.add_argument(
        "--match", action="store_true", help="match people by geometry, whatever person_id says"
    )
    views.add_argument(
        "--uncalibrated", action="store_true", help="take nothing for known of where cameras stand"
    )
    views.add_argument(
        "--refine-cameras", action="store_true", help="let the given cameras move a little"
    )
    views.add_argument(
        "--estimate-cameras", action="store_true", help="find from the bodies where cameras stand"
    )
    views.add_argument("--overwrite", action="store_true", help="fit finished frames again")
    views.add_argument("--prior", help="as in fit; one that looks at keypoints")
    add_body(views)
    add_seen(views, "of views without a camera file")
    add_image_size(views, "pixels, of views of which no camera file and no picture says")
    add_compute(views)
    add_meshes(views, ["none"])
    add_drawing(views)
    views.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import torch

    from flowfit.fitting.verbs.multiview import DEFAULT_PRIOR, multiview

    use_threads(args.threads)
    done = multiview(
        args.scene,
        args.out,
        frames=args.frames,
        views=args.views,
        person=person_number(args.person),
        uncalibrated=args.uncalibrated,
        refine_cameras=args.refine_cameras,
        estimate_cameras=args.estimate_cameras,
        match=args.match,
        prior=args.prior or DEFAULT_PRIOR,
        body=args.body,
        gender=args.gender,
        schema=args.schema,
        focal=args.focal,
        image_size=None if args.image_size is None else tuple(args.image_size),
        device=args.device,
        dtype=getattr(torch, args.dtype),
        meshes=[m for m in args.mesh if m != "none"],
        draw=not args.no_overlay,
        renderer=args.renderer,
        overwrite=args.overwrite,
        progress=sys.stderr.isatty(),
    )
    for line in done.warnings:
        print(f"flowfit: warning: {line}", file=sys.stderr)
    for line in done.lines():
        print(line)
    if done.kept:
        print(f"{len(done.kept)} frames were finished before and are kept")
    print(f"{len(done.files)} files in {args.out} ({done.report['seconds']:.1f} s)")
    return 0
