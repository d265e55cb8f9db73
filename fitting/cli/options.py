"""Options that several verbs have, each said once; and what their arguments mean."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from flowfit.fitting.writing.meshes import FORMATS
from flowfit.models.errors import InputError


def add_picture(parser: argparse.ArgumentParser) -> None:
    """A picture and its keypoints, or the picture's size in its place."""
    parser.set_defaults(picture_first=True)
    parser.add_argument("image", nargs="?", help="the picture (left out with --image-size)")
    parser.add_argument("keypoints", help="its keypoints, as OpenPose writes them (JSON)")
    add_image_size(parser, "pixels, in place of the picture")


def add_image_size(parser: argparse.ArgumentParser, said: str) -> None:
    """`--image-size W H`."""
    option = parser.add_argument("--image-size", nargs=2, type=int, metavar=("W", "H"))
    option.help = said


def add_out(parser: argparse.ArgumentParser) -> None:
    """`--out DIR`, which must be given."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")


def add_person(parser: argparse.ArgumentParser) -> None:
    """`--person N`."""
    parser.add_argument("--person", default="all", metavar="N", help="only this one, or all")


def add_seen(
    parser: argparse.ArgumentParser, focal: str = "default: EXIF's, else the diagonal"
) -> None:
    """How what was seen is read: `--schema`, `--focal`."""
    parser.add_argument("--schema", help="keypoint schema (default: by the number of keypoints)")
    parser.add_argument("--focal", type=float, metavar="PX", help=focal)


def add_body(parser: argparse.ArgumentParser, *, gender: bool = True) -> None:
    """`--body` and, where a folder may hold several, `--gender`."""
    parser.add_argument(
        "--body", help="SMPL file or folder, or open, open-low (default: $FLOWFIT_BODY, then open)"
    )
    if gender:
        genders = ("neutral", "male", "female")
        parser.add_argument("--gender", choices=genders, default="neutral", help="of --body DIR")


def add_meshes(parser: argparse.ArgumentParser, default: list[str]) -> None:
    """`--mesh FORMAT ...`."""
    parser.add_argument(
        "--mesh",
        nargs="+",
        choices=(*FORMATS, "none"),
        default=default,
        help=f"mesh files to write (default: {' '.join(default)})",
    )


def add_drawing(parser: argparse.ArgumentParser, off: str = "--no-overlay") -> None:
    """The option that draws nothing, and `--renderer`."""
    parser.add_argument(off, action="store_true", help="draw no pictures")
    parser.add_argument("--renderer", choices=("auto", "pyrender", "raycast"), default="auto")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where is computed: `--device`, `--threads`."""
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of the CPU (default: 1)"
    )


def add_compute(parser: argparse.ArgumentParser, dtype: str = "float64") -> None:
    """Where and in what numbers is computed: `--device`, `--threads`, `--dtype`."""
    add_device(parser)
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default=dtype, help=f"default: {dtype}"
    )


def shared(args: argparse.Namespace) -> dict[str, Any]:
    """What the verbs' functions are given of the options that several verbs have."""
    import torch  # late: it would make `flowfit --help` slow

    given = vars(args)
    named = ("body", "gender", "schema", "focal", "device", "renderer")
    found: dict[str, Any] = {name: given[name] for name in named if name in given}
    if "image_size" in given:
        found["image_size"] = None if args.image_size is None else tuple(args.image_size)
    if "person" in given:
        found["person"] = _person_number(args.person)
    if "mesh" in given:
        found["meshes"] = [name for name in args.mesh if name != "none"]
    return found | {"dtype": getattr(torch, args.dtype), "progress": sys.stderr.isatty()}


def _person_number(text: str) -> int | None:
    """`--person N`, or None for all.

    Raises:
        InputError: it is neither.
    """
    if text == "all":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"--person {text[:40]!r}: give a number counted from 0, or all")
    return int(text)


def use_threads(count: int) -> None:
    """Compute on so many threads of the CPU.

    A few people make small matrices, on which threads mostly wait for each other.

    Raises:
        InputError: less than one.
    """
    import torch  # late: it would make `flowfit --help` slow

    if count < 1:
        raise InputError(f"--threads {count}: give 1 or more")
    torch.set_num_threads(count)
