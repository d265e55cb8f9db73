"""The verb `multiview` on the command line."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import (
    add_body,
    add_compute,
    add_drawing,
    add_image_size,
    add_meshes,
    add_out,
    add_person,
    add_seen,
    shared,
)
from flowfit.fitting.cli.printing import print_done


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
    from flowfit.fitting.verbs.multiview import DEFAULT_PRIOR, multiview

    done = multiview(
        args.scene,
        args.out,
        frames=args.frames,
        views=args.views,
        uncalibrated=args.uncalibrated,
        refine_cameras=args.refine_cameras,
        estimate_cameras=args.estimate_cameras,
        match=args.match,
        prior=args.prior or DEFAULT_PRIOR,
        draw=not args.no_overlay,
        overwrite=args.overwrite,
        **shared(args),
    )
    lines = done.lines()
    if done.kept:
        lines.append(f"{len(done.kept)} frames were finished before and are kept")
    return print_done(
        args, lines, done.files, warnings=done.warnings, seconds=done.report["seconds"]
    )
