"""The verb `multiview` on the command line."""

from __future__ import annotations

import argparse
import sys

from flowfit.fitting.cli.options import person_number, use_threads


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
    views.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    views.add_argument("--frames", nargs="+", metavar="NAME", help="names, or START:END by place")
    views.add_argument("--views", nargs="+", metavar="NAME", help="cameras to use (default: all)")
    views.add_argument("--person", default="all", metavar="N", help="only this one, or all")
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
    views.add_argument("--body", help="as in fit")
    views.add_argument("--gender", choices=("neutral", "male", "female"), default="neutral")
    views.add_argument("--schema", help="keypoint schema (default: by the number of keypoints)")
    views.add_argument("--focal", type=float, metavar="PX", help="of views without a camera file")
    views.add_argument(
        *("--image-size",),
        nargs=2,
        type=int,
        metavar=("W", "H"),
        help="pixels, of views of which no camera file and no picture says",
    )
    views.add_argument("--device", default="cpu")
    views.add_argument("--threads", type=int, default=1, metavar="N", help="of the CPU")
    views.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    views.add_argument(
        "--mesh",
        nargs="+",
        choices=("obj", "glb", "ply", "none"),
        default=["none"],
        help="mesh files to write (default: none)",
    )
    views.add_argument("--no-overlay", action="store_true", help="draw no pictures")
    views.add_argument("--renderer", choices=("auto", "pyrender", "raycast"), default="auto")
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
