"""`flowfit train image`: its arguments, beside those that every training has, and the call."""

from __future__ import annotations

import argparse

from flowfit.models.errors import InputError


def add_arguments(train: argparse.ArgumentParser) -> None:
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


def given(args: argparse.Namespace) -> list[str]:
    """Names of the arguments for pictures that were given."""
    names = ("dataset", "images", "weight", "pictures", "base")
    return [f"--{name}" for name in names if getattr(args, name) is not None]


def run(args: argparse.Namespace) -> int:
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
