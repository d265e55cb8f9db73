"""The command `flowfit`. Each verb is also a function of the same name in `fitting`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from flowfit.fitting.cli import compare as cli_compare
from flowfit.fitting.cli import evaluate as cli_evaluate
from flowfit.fitting.cli import lift as cli_lift
from flowfit.fitting.cli import multiview as cli_multiview
from flowfit.fitting.cli import sample as cli_sample
from flowfit.fitting.cli import train_image as cli_train_image
from flowfit.fitting.cli.options import person_number, use_threads
from flowfit.models.errors import InputError

USER_ERROR = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """One line for a mistake in the arguments, too."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"flowfit: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status.

    A user's mistake is one line on standard error and status 2; a traceback only with --debug.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and not (args.verb in ("fit", "sample") and _take_late_file(args, rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return int(args.run(args))
    except InputError as error:
        if args.debug:
            raise
        print(f"flowfit: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("flowfit: stopped; what was finished is kept", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _take_late_file(args: argparse.Namespace, rest: list[str]) -> bool:
    """`fit PICTURE --out DIR KEYPOINTS`: argparse takes the first file for the only one."""
    if args.image is not None or len(rest) != 1 or rest[0].startswith("-"):
        return False
    args.image, args.keypoints = args.keypoints, rest[0]
    return True


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="flowfit",
        description="Find the 3D human body (SMPL) that explains a picture's 2D keypoints.",
    )
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_fit(verbs, common)
    cli_compare.add(verbs, common)
    cli_multiview.add(verbs, common)
    cli_lift.add(verbs, common)
    cli_sample.add(verbs, common)
    _add_train(verbs, common)
    cli_evaluate.add(verbs, common)
    doctor = verbs.add_parser(
        "doctor", parents=[common], help="what this machine has, and how to get what is missing"
    )
    doctor.set_defaults(run=_doctor)
    return parser


def _add_fit(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    fit = verbs.add_parser(
        "fit",
        parents=[common],
        help="fit everyone in one picture",
        description="Fit everyone in one picture. Writes for each person STEM_N.npz, .json and "
        "meshes, and STEM_overlay.png and STEM_summary.json for the picture.",
    )
    fit.add_argument("image", nargs="?", help="the picture (left out with --image-size)")
    fit.add_argument("keypoints", help="its keypoints, as OpenPose writes them (JSON)")
    fit.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    fit.add_argument(
        *("--image-size",),
        nargs=2,
        type=int,
        metavar=("W", "H"),
        help="pixels, in place of the picture",
    )
    fit.add_argument(
        "--recipe",
        default=None,
        help="what is minimised: flow (default), prohmr, gmm, smplify, spin, smplifyx, regression",
    )
    fit.add_argument("--solver", help="lm, lbfgs or adam (default: the recipe's own)")
    fit.add_argument("--prior", help="built-in prior, or a file of one (default: the recipe's)")
    fit.add_argument(
        "--body", help="SMPL file or folder, or open, open-low (default: $FLOWFIT_BODY, then open)"
    )
    fit.add_argument(
        "--gender", choices=("neutral", "male", "female"), default="neutral", help="of --body DIR"
    )
    fit.add_argument("--schema", help="keypoint schema (default: by the number of keypoints)")
    fit.add_argument("--focal", type=float, metavar="PX", help="default: EXIF's, else the diagonal")
    fit.add_argument("--person", default="all", metavar="N", help="only this one, or all")
    fit.add_argument("--device", default="cpu")
    fit.add_argument("--threads", type=int, default=1, metavar="N", help="of the CPU (default: 1)")
    fit.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    fit.add_argument(
        "--mesh",
        nargs="+",
        choices=("obj", "glb", "ply", "none"),
        default=["obj", "glb"],
        help="mesh files to write (default: obj glb)",
    )
    fit.add_argument(
        "--samples", type=int, metavar="N", help="also draw N bodies of what is open after the fit"
    )
    fit.add_argument("--seed", type=int, default=0, help="of --samples (default: 0)")
    fit.add_argument("--no-overlay", action="store_true", help="draw no picture")
    fit.add_argument("--renderer", choices=("auto", "pyrender", "raycast"), default="auto")
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


def _add_train(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    train = verbs.add_parser(
        "train",
        parents=[common],
        help="train a posterior or a lifter on your own data",
        description="Train a posterior. Writes posterior.safetensors and .json, log.csv and "
        "state.pt; run again with the same arguments, it goes on where it was stopped.",
    )
    train.add_argument(
        "what", choices=("keypoints", "image", "lifting"), help="what is to be trained"
    )
    train.add_argument("--mocap", metavar="DIR", help="folder of AMASS npz files")
    cli_lift.add_training(train)
    train.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    train.add_argument("--validation", metavar="DIR", help="folder of other AMASS npz files")
    train.add_argument(
        "--config",
        metavar="JSON",
        help="what differs from the defaults; lifting: fast, paper; image: small, prohmr, too",
    )
    cli_train_image.add_arguments(train)
    train.add_argument(
        "--start",
        metavar="FILE",
        help="keypoints, image: a posterior to begin with (keypoints: or keypoint-flow, the "
        "built-in one; image: what fits of it is taken; prohmr: or a ResNet's weights)",
    )
    train.add_argument("--steps", type=int)
    train.add_argument("--batch", type=int, help="people a step")
    train.add_argument("--body", help="as in fit")
    train.add_argument("--device", default="cpu")
    train.add_argument(
        "--mixed",
        action="store_true",
        help="bfloat16 networks: for GPUs, and for CPUs with avx512_bf16",
    )
    train.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of the CPU (default: 1)"
    )
    train.add_argument("--credit", default="", help="of the motion capture, for the checkpoint")
    train.add_argument("--licence", default="", help="of the motion capture, for the checkpoint")
    train.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from flowfit.fitting.reading.inputs import check_device
    from flowfit.fitting.verbs.train_keypoints import train

    if args.what != "image" and (wrong := cli_train_image.given(args)):
        raise InputError(f"train {args.what} takes no {wrong[0]}; train image does")
    if args.what != "lifting" and (wrong := cli_lift.given(args)):
        raise InputError(f"train {args.what} takes no {wrong[0]}; train lifting does")
    if args.what == "lifting":
        if args.start is not None:
            raise InputError("train lifting takes no --start; train keypoints and image do")
        return cli_lift.run_training(args)
    use_threads(args.threads)
    check_device(args.device)
    if args.what == "image":
        return cli_train_image.run(args)
    if args.mocap is None:
        raise InputError("train keypoints: give --mocap DIR, a folder of AMASS npz files")
    path = train(
        args.mocap,
        args.out,
        validation=args.validation,
        config=args.config,
        steps=args.steps,
        batch=args.batch,
        start=args.start,
        body=args.body,
        device=args.device,
        mixed=args.mixed,
        credit=args.credit,
        licence=args.licence,
    )
    if path is not None:
        print(f"{path}: use it with flowfit fit --prior {path}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.doctor import doctor

    print(doctor())
    return 0


def run() -> NoReturn:
    """The installed command: `main`, then out at once.

    Python would take a second to take torch and OpenGL down; every file is closed by now.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
