"""What the verbs take: the picture and its size, the focal length, whom, and on what device."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.reading import formats
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.pictures import MAX_MEGAPIXELS, MIN_SIDE, Picture, read_picture
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.priors.base import PriorModel
from flowfit.priors.image.shown import show

_FOCAL_RANGE = (0.1, 100.0)  # in picture diagonals; outside it somebody mixed up units
_ASSUMED = "keypoints (assumed)"
NAME_ENDINGS = ("_keypoints", "_openpose")


@dataclass(frozen=True, eq=False)
class SeenPicture:
    """One picture's people, and the camera that they are seen with.

    Attributes:
        image, keypoints: the files; no image where only its size is known.
        picture: the picture, or None. size: its width and height in pixels.
        size_source: "image", "given", or "keypoints (assumed)".
        detections: the people. focal: focal length in pixels. focal_source: where it is from.
    """

    image: str | os.PathLike[str] | None
    keypoints: str | os.PathLike[str]
    picture: Picture | None
    size: tuple[int, int]
    size_source: str
    detections: Detections
    focal: float
    focal_source: str

    @property
    def stem(self) -> str:
        """The picture's name, by which files of results are called."""
        return stem_of(Path(self.keypoints)) if self.image is None else Path(self.image).stem

    @property
    def pixels(self) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB, where there is a picture."""
        return None if self.picture is None else self.picture.pixels

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines for the user: who was left out, what was changed or assumed."""
        lines = [*self.detections.reasons, *self.detections.notes]
        if self.size_source == _ASSUMED and len(self.detections):
            width, height = self.size
            lines.append(
                f"no picture size given: {width}x{height} px assumed from where the keypoints "
                "lie; give --image-size W H"
            )
        return tuple(lines)

    def check_drawable(self) -> None:
        """InputError where there is no picture and a canvas of its size would fill the memory."""
        width, height = self.size
        if self.picture is None and width * height > MAX_MEGAPIXELS * 1e6:
            raise InputError(
                f"image size {width} x {height}: pictures of more than {MAX_MEGAPIXELS} megapixels "
                "are not drawn; draw none (--no-overlay), or scale everything down"
            )

    def camera(self, dtype: torch.dtype, device: str) -> Camera:
        """The one camera, looking through the picture's middle."""
        return Camera.from_size(*self.size, self.focal).to(dtype=dtype, device=device)

    def problem(self, dtype: torch.dtype, device: str) -> FitProblem:
        """The people as the solver takes them."""
        return FitProblem.build(
            self.detections.schema,
            torch.tensor(self.detections.keypoints, dtype=dtype, device=device),
            torch.tensor(self.detections.confidence, dtype=dtype, device=device),
            self.camera(dtype, device),
        )

    def show_to(self, prior: PriorModel) -> PriorModel:
        """The prior, shown the picture for everybody if it looks at pictures."""
        return show(prior, None if self.pixels is None else [self.pixels] * len(self.detections))

    def report(self, **about: Any) -> dict[str, Any]:
        """How a verb's summary begins; `people` is still empty. about: what the verb adds."""
        return {
            "image": None if self.image is None else str(self.image),
            "keypoints": str(self.keypoints),
            "image_size": list(self.size),
            "focal_px": self.focal,
            "focal_source": self.focal_source,
            **about,
            "version": version(),
            "people": [],
            "skipped": [{"index": i, "reason": r} for i, r in self.detections.skipped],
            "notes": list(self.detections.notes),
        }


def see(
    image: str | os.PathLike[str] | None,
    keypoints: str | os.PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    schema: str | None = None,
    focal: float | None = None,
    person: int | None = None,
    assume_size: bool = False,
) -> SeenPicture:
    """Read a picture and its keypoints.

    Args:
        image: the picture, or None with `image_size`. keypoints: a file that `formats` knows.
        image_size: width and height in pixels, in place of a picture.
        schema: keypoint schema; None tells by count.
        focal: pixels; None takes EXIF's, else the picture's diagonal.
        person: place in the file of the only one wanted.
        assume_size: with neither picture nor size, take the smallest picture in whose middle the
            keypoints lie.

    Raises:
        InputError: something given cannot be used.
    """
    if image is not None and image_size is not None:
        raise InputError("give the picture or --image-size, not both")
    if image is None and image_size is None and not assume_size:
        raise InputError("give the picture, or its size in pixels (--image-size W H)")
    if image_size is not None:
        check_size(image_size)
    picture = None if image is None else read_picture(image)
    size = image_size if picture is None else (picture.width, picture.height)
    everyone = formats.read(keypoints, schema=schema, image_size=size)
    detections = only_person(everyone, person)
    source = "given" if picture is None else "image"
    if size is None:
        size, source = size_of(everyone), _ASSUMED
    px, px_source = focal_length(focal, picture, size)
    return SeenPicture(image, keypoints, picture, size, source, detections, px, px_source)


def check_size(size: tuple[int, int]) -> None:
    """InputError for a width and height that no picture has."""
    if min(size) < 1:
        raise InputError(f"image size {size[0]} x {size[1]}: both must be positive")


def size_of(detections: Detections) -> tuple[int, int]:
    """Width and height of the smallest picture in whose middle the seen keypoints lie."""
    seen = detections.keypoints[detections.confidence > 0]
    if not len(seen):
        return MIN_SIDE, MIN_SIDE
    far = seen.max(0) + seen.min(0).clip(min=0)
    width, height = (max(MIN_SIDE, math.ceil(side)) for side in far)
    return width, height


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
