"""Several calibrated cameras that look at one world."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.cameras import Camera
from flowfit.models.rows import to


class Rig(NamedTuple):
    """Where cameras stand: x_cam = R x_world + t.

    Attributes:
        rotations: (..., V, 3, 3), world to camera. translations: (..., V, 3) metres.
    """

    rotations: Tensor
    translations: Tensor

    @property
    def centres(self) -> Tensor:
        """Where the cameras are in the world: (..., V, 3) metres."""
        return -(self.rotations.transpose(-1, -2) @ self.translations[..., None])[..., 0]

    def to_cameras(self, points: Tensor) -> Tensor:
        """World points (..., N, 3) in each camera's frame: (..., V, N, 3) metres."""
        turned = points[..., None, :, :] @ self.rotations.transpose(-1, -2)
        return turned + self.translations[..., None, :]

    def views(self, index: Tensor) -> Rig:
        """Some of the cameras."""
        return Rig(self.rotations[..., index, :, :], self.translations[..., index, :])

    def to(self, *, dtype: torch.dtype, device: torch.device | str | None = None) -> Rig:
        """The same in another number type or on another device."""
        return to(self, dtype=dtype, device=device)


def camera_rows(cameras: list[Camera]) -> Camera:
    """Single cameras (focal (2,), center (2,), distortion (5,) or None) as rows of one."""
    distortion = None
    if any(c.distortion is not None for c in cameras):
        distortion = torch.stack(
            [c.focal.new_zeros(5) if c.distortion is None else c.distortion for c in cameras]
        )
    return Camera(
        torch.stack([c.focal for c in cameras]),
        torch.stack([c.center for c in cameras]),
        distortion,
    )
