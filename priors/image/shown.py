"""Priors that look at the picture: what they have in common, and how they are shown one.

Such a prior is loaded, shown the pictures of B people, and then told what keypoints were seen of
them, like any other (`PriorModel.given`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.priors.base import PICTURE, Crops, PriorModel, Shown
from flowfit.priors.data.pictures.crops import crop_box, cut
from flowfit.priors.networks.encoders import Boxes

Self = TypeVar("Self", bound="PicturePrior")


class WholePictures:
    """One whole picture (H, W, 3) uint8 a person, cut around the keypoints that are told."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def rows(self, index: Sequence[int]) -> WholePictures:
        """Those of some of the people."""
        return WholePictures([self.pictures[i] for i in index])

    def crops(self, keypoints: Tensor, confidence: Tensor, size: int) -> Crops:
        """See `Shown`; somebody without keypoints has no crop."""
        box = crop_box(keypoints, confidence)
        there = (confidence > 0).any(-1) & box.center.isfinite().all(-1) & box.side.isfinite()
        images = keypoints.new_zeros(len(self), 3, size, size)
        for row in there.nonzero()[:, 0].tolist():
            middle, side = box.center[row].cpu().numpy(), float(box.side[row])
            crop = cut(self.pictures[row], middle, side, size)
            images[row] = torch.from_numpy(crop).to(images).permute(2, 0, 1) / 255
        return Crops(images, there, box)


class ReadyCrops:
    """Crops (B, 3, N, N) that were cut before, 0 to 1, and where. They stay as they are."""

    def __init__(self, images: Tensor, box: Boxes) -> None:
        self.images, self.box = images, box

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: Sequence[int]) -> ReadyCrops:
        """Those of some of the people."""
        places = list(index)
        return ReadyCrops(
            self.images[places], Boxes(self.box.center[places], self.box.side[places])
        )

    def crops(self, keypoints: Tensor, confidence: Tensor, size: int) -> Crops:
        """See `Shown`.

        Raises:
            InputError: the crops have another size.
        """
        if tuple(self.images.shape[-2:]) != (size, size):
            raise InputError(f"crops of {tuple(self.images.shape)}; this prior wants {size} pixels")
        there = torch.ones(len(self), dtype=torch.bool, device=keypoints.device)
        center, side = self.box.center.to(keypoints), self.box.side.to(keypoints)
        return Crops(self.images.to(keypoints), there, Boxes(center, side))


class PicturePrior(PriorModel):
    """A prior that looks at pictures.

    Attributes:
        shown: what it was shown, or None.
    """

    sees: frozenset[str] = frozenset({PICTURE})
    image_size: int
    shown: Shown | None = None

    def show(self: Self, shown: Shown) -> Self:
        """The same prior, with pictures of the people it will be told of."""
        changed = copy.copy(self)
        changed.shown = shown
        return changed

    def rows(self: Self, index: Tensor) -> Self:
        """The prior of some of the people whose pictures it was shown."""
        return self if self.shown is None else self.show(self.shown.rows(index.tolist()))

    def look(self, keypoints: Tensor, confidence: Tensor) -> Crops:
        """The crops of everybody.

        Raises:
            InputError: it was shown none, or those of another number of people.
        """
        if self.shown is None:
            raise InputError(f"prior {self.name} looks at the picture, and none was given")
        if len(self.shown) != len(keypoints):
            raise ValueError(f"{len(self.shown)} pictures for {len(keypoints)} people")
        return self.shown.crops(keypoints, confidence, self.image_size)


def show(prior: PriorModel, pictures: Sequence[np.ndarray] | None) -> PriorModel:
    """The prior, shown one picture a person if it looks at pictures.

    Raises:
        InputError: it does, and there is none.
    """
    if prior.image_size is None:
        return prior
    if pictures is None:
        raise InputError(
            f"prior {prior.name} looks at the picture: give the picture, not only its size; "
            "without one, use keypoint-flow"
        )
    return prior.show(WholePictures(pictures))
