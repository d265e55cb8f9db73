"""The verb `train` on the command line."""

from __future__ import annotations

import argparse

from flowfit.fitting.cli.options import add_body, add_device, add_out
from flowfit.models.errors import InputError


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb and its options; `common` has those of every verb."""
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
    train.add_argument(
        "--mocap", nargs="+", metavar="DIR", help="folders of AMASS npz files, at any depth"
    )
    _add_lifting(train)
    add_out(train)
    train.add_argument(
        "--validation", nargs="+", metavar="DIR", help="folders of other AMASS npz files"
    )
    train.add_argument(
        "--config",
        metavar="JSON",
        help="what differs from the defaults; lifting: fast, paper; image: small, prohmr, too",
    )
    _add_image(train)
    train.add_argument(
        "--start",
        metavar="FILE",
        help="keypoints, image: a posterior to begin with (keypoints: or keypoint-flow, the "
        "built-in one; image: what fits of it is taken; prohmr: or a ResNet's weights)",
    )
    train.add_argument("--steps", type=int)
    train.add_argument("--batch", type=int, help="people a step")
    add_body(train, gender=False)
    add_device(train)
    train.add_argument(
        "--mixed",
        action="store_true",
        help="bfloat16 networks: for GPUs, and for CPUs with avx512_bf16",
    )
    train.add_argument(
        "--export-now",
        action="store_true",
        help="keypoints: write the checkpoint of a run as far as it has come, and train no further",
    )
    train.add_argument("--credit", default="", help="of the motion capture, for the checkpoint")
    train.add_argument("--licence", default="", help="of the motion capture, for the checkpoint")
    train.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from flowfit.fitting.reading.inputs import check_device
    from flowfit.fitting.verbs.train import train

    if args.what != "image" and (wrong := _given_image(args)):
        raise InputError(f"train {args.what} takes no {wrong[0]}; train image does")
    if args.what != "keypoints" and args.export_now:
        raise InputError(f"train {args.what} takes no --export-now; train keypoints does")
    if args.what != "lifting" and (wrong := _given_lifting(args)):
        raise InputError(f"train {args.what} takes no {wrong[0]}; train lifting does")
    if args.what == "lifting":
        if args.start is not None:
            raise InputError("train lifting takes no --start; train keypoints and image do")
        return _train_lifting(args)
    check_device(args.device)
    if args.what == "image":
        return _train_image(args)
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
        export_now=args.export_now,
    )
    if path is not None:
        print(f"{path}: use it with flowfit fit --prior {path}")
    return 0


def _add_lifting(train: argparse.ArgumentParser) -> None:
    """The options of `train` that only lifting has."""
    train.add_argument(
        "--h36m",
        metavar="PATH",
        help="lifting: folder of data_3d_h36m.npz and data_2d_h36m_NAME.npz, or ProHMR's npz",
    )
    train.add_argument("--detections", metavar="NAME", help="lifting: which data_2d_h36m_NAME.npz")


def _given_lifting(args: argparse.Namespace) -> list[str]:
    """Names of the options that only lifting has, where they were given."""
    return [f"--{name}" for name in ("h36m", "detections") if getattr(args, name) is not None]


def _train_lifting(args: argparse.Namespace) -> int:
    """`train lifting`."""
    from flowfit.fitting.reading.inputs import check_device
    from flowfit.fitting.verbs.train_lifting import train_lifter

    check_device(args.device)
    path = train_lifter(
        args.out,
        mocap=args.mocap,
        h36m=args.h36m,
        detections=args.detections,
        validation=args.validation,
        config=args.config or "fast",
        steps=args.steps,
        batch=args.batch,
        body=args.body,
        device=args.device,
        mixed=args.mixed,
        credit=args.credit,
        licence=args.licence,
    )
    print(f"{path}: use it with flowfit lift --lifter {path}")
    return 0


def _add_image(train: argparse.ArgumentParser) -> None:
    """What only `train image` takes."""
    image = train.add_argument_group(
        "image", "pictures are made up from --mocap, or read from datasets; --config may also be "
        "small (the default) or prohmr",
    )  # fmt: skip
    image.add_argument(
        "--dataset", action="append", metavar="FILE", help="npz or pkl; may be given several times"
    )
    image.add_argument(
        "--images", action="append", metavar="DIR", help="of each dataset (default: its own folder)"
    )
    image.add_argument(
        "--weight", action="append", type=float, metavar="W", help="of each dataset (default: 1)"
    )
    image.add_argument("--pictures", type=int, metavar="N", help="how many are made up")
    image.add_argument("--base", metavar="FILE", help="the keypoint posterior that small stands on")


def _given_image(args: argparse.Namespace) -> list[str]:
    """Names of the arguments for pictures that were given."""
    names = ("dataset", "images", "weight", "pictures", "base")
    return [f"--{name}" for name in names if getattr(args, name) is not None]


def _train_image(args: argparse.Namespace) -> int:
    """Train, and say where the checkpoint is."""
    from flowfit.fitting.verbs.train_image import train_image

    if args.validation is not None:
        raise InputError("train image takes no --validation; flowfit evaluate measures checkpoints")
    path = train_image(
        args.out,
        mocap=args.mocap,
        datasets=_datasets(args),
        config=args.config or "small",
        steps=args.steps,
        batch=args.batch,
        pictures=args.pictures,
        base=args.base,
        start=args.start,
        body=args.body,
        device=args.device,
        mixed=args.mixed,
        threads=args.threads,
        credit=args.credit,
        licence=args.licence,
    )
    print(f"{path}: use it with flowfit fit --prior {path}")
    return 0


def _datasets(args: argparse.Namespace) -> list[tuple[str, str | None, float]] | None:
    if args.dataset is None:
        if args.images or args.weight:
            raise InputError("--images and --weight belong to --dataset; give that too")
        return None
    count = len(args.dataset)
    for name, values in (("--images", args.images), ("--weight", args.weight)):
        if values is not None and len(values) != count:
            raise InputError(f"{count} of --dataset, {len(values)} of {name}: give one for each")
    images = args.images or [None] * count
    weights = args.weight or [1.0] * count
    return list(zip(args.dataset, images, weights, strict=True))
