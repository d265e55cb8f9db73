"""People in pictures with whatever is known of them: the one form of all dataset files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowfit.models.errors import InputError
from flowfit.models.keypoints import PROHMR44
from flowfit.models.kinematics import NUM_JOINTS

SCHEMA = PROHMR44  # of every set: OpenPose's keypoints, then those that were annotated
BETAS = 10
SINGLE = -1  # frame of somebody whom one view alone shows


@dataclass(frozen=True, eq=False)
class PictureSet:
    """N people, each in a picture. What is not known is NaN, or has confidence 0.

    Attributes:
        name: of the dataset. root: folder that the pictures' names start from.
        pictures: (N) names of the picture files.
        center: (N, 2) and side: (N,) pixels, the square around each person.
        keypoints: (N, 44, 2) pixels and confidence: (N, 44), in the order of `SCHEMA`.
        points: (N, 44, 3) metres in the camera's axes (the origin means nothing) and
            points_confidence: (N, 44).
        pose: (N, 24, 3) axis-angle, radians, the root's first, body to camera. betas: (N, 10).
        has_pose, has_betas: (N,) boolean. gender: (N) "m", "f" or "".
        focal, principal, size: (N, 2) pixels, of the camera that took the picture.
        transl: (N, 3) metres, camera frame. frame: (N,) number that the views of one moment share.
    """

    name: str
    root: Path
    pictures: tuple[str, ...]
    center: np.ndarray
    side: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    points: np.ndarray
    points_confidence: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    has_pose: np.ndarray
    has_betas: np.ndarray
    gender: tuple[str, ...]
    focal: np.ndarray
    principal: np.ndarray
    size: np.ndarray
    transl: np.ndarray
    frame: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)

    def path(self, row: int) -> Path:
        """The picture file of a person."""
        return self.root / self.pictures[row]

    def rows(self, index: Sequence[int] | np.ndarray) -> PictureSet:
        """Some of the people, in the order asked for."""
        places = np.asarray(index, dtype=np.int64).reshape(-1)
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changed[field.name] = value[places]
            elif isinstance(value, tuple):
                changed[field.name] = tuple(value[i] for i in places)
        return replace(self, **changed)

    def with_pictures(self) -> tuple[PictureSet, tuple[str, ...]]:
        """The people whose picture is there, and the names of the pictures that are not.

        Raises:
            InputError: none is there.
        """
        known = {name: (self.root / name).is_file() for name in dict.fromkeys(self.pictures)}
        missing = tuple(name for name, there in known.items() if not there)
        if len(self) and len(missing) == len(known):
            raise InputError(
                f"{self.name}: none of its {len(known)} pictures is below {self.root} "
                f"(looked for {self.root / missing[0]}); give the folder that their names start at"
            )
        if not missing:
            return self, ()
        return self.rows([i for i, name in enumerate(self.pictures) if known[name]]), missing


def build(
    name: str,
    root: Path,
    pictures: Sequence[str],
    center: np.ndarray,
    side: np.ndarray,
    known: dict[str, np.ndarray],
    gender: Sequence[str] | None = None,
) -> PictureSet:
    """A set from what a file had; the rest is filled in as unknown.

    Args:
        known: arrays by the attributes' names, already of the right shapes.
    """
    count, keypoints = len(pictures), len(SCHEMA)

    def nan(*shape: int) -> np.ndarray:
        return np.full((count, *shape), np.nan)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape))

    filled = {
        "keypoints": zeros(keypoints, 2),
        "confidence": zeros(keypoints),
        "points": zeros(keypoints, 3),
        "points_confidence": zeros(keypoints),
        "pose": zeros(NUM_JOINTS, 3),
        "betas": zeros(BETAS),
        "has_pose": np.zeros(count, dtype=bool),
        "has_betas": np.zeros(count, dtype=bool),
        "focal": nan(2),
        "principal": nan(2),
        "size": nan(2),
        "transl": nan(3),
        "frame": np.full(count, SINGLE, dtype=np.int64),
        **known,
    }
    return PictureSet(
        name,
        root,
        tuple(pictures),
        center,
        side,
        gender=("",) * count if gender is None else tuple(gender),
        **filled,
    )


def join(sets: Sequence[PictureSet]) -> PictureSet:
    """Several sets below one root as one, in order."""
    first = sets[0]
    if any(one.root != first.root for one in sets):
        raise ValueError("sets of different roots are mixed, not joined")
    changed: dict[str, Any] = {}
    for field in fields(first):
        values = [getattr(one, field.name) for one in sets]
        if isinstance(values[0], np.ndarray):
            changed[field.name] = np.concatenate(values)
        elif isinstance(values[0], tuple):
            changed[field.name] = tuple(item for value in values for item in value)
    return replace(first, **changed)
