"""What the verbs take: the picture and its size, the focal length, whom, and on what device."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch

from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.pictures import Picture, read_picture
from flowfit.models.errors import InputError

_FOCAL_RANGE = (0.1, 100.0)  # in picture diagonals; outside it somebody mixed up units
NAME_ENDINGS = ("_keypoints", "_openpose")


def picture_and_size(
    image: str | os.PathLike[str] | None, image_size: tuple[int, int] | None
) -> tuple[Picture | None, tuple[int, int]]:
    """The picture, if there is one, and its width and height; InputError for neither or both."""
    if image is None:
        if image_size is None:
            raise InputError("give the picture, or its size in pixels (--image-size W H)")
        if min(image_size) < 1:
            raise InputError(f"image size {image_size[0]} x {image_size[1]}: both must be positive")
        return None, image_size
    if image_size is not None:
        raise InputError("give the picture or --image-size, not both")
    picture = read_picture(image)
    return picture, (picture.width, picture.height)


def focal_length(
    given: float | None, picture: Picture | None, size: tuple[int, int]
) -> tuple[float, str]:
    """Focal length in pixels and where it is from; InputError for one that no camera has."""
    diagonal = math.hypot(*size)
    if given is not None:
        low, high = _FOCAL_RANGE[0] * diagonal, _FOCAL_RANGE[1] * diagonal
        if not low <= given <= high:
            raise InputError(
                f"focal length {given:g}: give pixels, for this picture between {low:.0f} and "
                f"{high:.0f} (the default is its diagonal, {diagonal:.0f})"
            )
        return float(given), "given"
    if picture is not None and picture.focal is not None:
        return float(picture.focal), "exif"
    return diagonal, "image diagonal (assumed)"


def check_device(device: str) -> None:
    """InputError when torch cannot compute on a device."""
    try:
        kind = torch.device(device).type
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {device!r}: torch sees no CUDA device here; use cpu")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}") from None


def only_person(detections: Detections, person: int | None) -> Detections:
    """The detections without everybody else."""
    if person is None:
        return detections
    if person in detections.indices:
        row = detections.indices.index(person)
        one = slice(row, row + 1)
        return replace(
            detections,
            keypoints=detections.keypoints[one],
            confidence=detections.confidence[one],
            person_ids=detections.person_ids[one],
            indices=(person,),
            skipped=(),
            frames=detections.frames[one],
        )
    for place, reason in detections.skipped:
        if place == person:
            raise InputError(f"{detections.path}: {reason}")
    total = len(detections) + len(detections.skipped)
    raise InputError(f"{detections.path}: no person {person}; there are {total}, counted from 0")


def stem_of(keypoints: Path) -> str:
    """The picture's name in that of its keypoint file."""
    stem = keypoints.stem
    for ending in NAME_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem or keypoints.stem


def version() -> str:
    """Flowfit's own."""
    try:
        return metadata.version("flowfit")
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
