"""Pinhole cameras with OpenCV's lens distortion, and what happens behind them.

Frame: OpenCV's. x right, y down, z forward, x_cam = R x_world + t, metres; pixels with the origin
at the top left corner of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowfit.models.rows import Rows, shared_with

MIN_DEPTH = 0.05  # metres; nearer points, and points behind the camera, have no picture


@dataclass(frozen=True, eq=False)
class Camera(Rows):
    """A batch of cameras, or one for all; leading axes are free and broadcast against the points'.

    Attributes:
        focal: (..., 2) pixels. center: (..., 2) pixels.
        distortion: (..., 5) k1, k2, p1, p2, k3 (OpenCV's order), or None.
        rotation: (..., 3, 3) and translation: (..., 3) metres, world to camera; None when the
            points already are in the camera's frame.
    """

    focal: Tensor = field(metadata=shared_with(1))
    center: Tensor = field(metadata=shared_with(1))
    distortion: Tensor | None = field(default=None, metadata=shared_with(1))
    rotation: Tensor | None = field(default=None, metadata=shared_with(2))
    translation: Tensor | None = field(default=None, metadata=shared_with(1))

    @classmethod
    def from_size(cls, width: float, height: float, focal: float) -> Camera:
        """A camera that looks through the middle of its picture; pixels."""
        return cls(torch.tensor([focal, focal]), torch.tensor([width / 2, height / 2]))

    def world_to_camera(self, points: Tensor) -> Tensor:
        """World points (..., N, 3) in the camera's frame, metres."""
        if self.rotation is not None:
            points = points @ self.rotation.transpose(-1, -2)
        if self.translation is not None:
            points = points + self.translation[..., None, :]
        return points

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Picture of points in the camera's frame.

        Args:
            points: (..., N, 3) metres.

        Returns:
            Pixels (..., N, 2) and a mask (..., N) of the points in front of the camera. Of the
            others the pixels are finite but mean nothing.
        """
        depth = points[..., 2]
        in_front = depth > MIN_DEPTH
        xy = points[..., :2] / torch.where(in_front, depth, MIN_DEPTH)[..., None]
        if self.distortion is not None:
            xy = distort(xy, self.distortion[..., None, :])
        return xy * self.focal[..., None, :] + self.center[..., None, :], in_front

    def project_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`project`, and d pixels / d points (..., N, 2, 3), zero for points not in front."""
        depth = points[..., 2]
        in_front = depth > MIN_DEPTH
        inverse = 1 / torch.where(in_front, depth, MIN_DEPTH)
        xy = points[..., :2] * inverse[..., None]
        eye = torch.eye(2, dtype=points.dtype, device=points.device)
        to_plane = (
            torch.cat((eye.expand(*xy.shape, 2), -xy[..., None]), -1)
            * (inverse * in_front)[..., None, None]
        )
        if self.distortion is not None:
            to_plane = distortion_jacobian(xy, self.distortion[..., None, :]) @ to_plane
            xy = distort(xy, self.distortion[..., None, :])
        pixels = xy * self.focal[..., None, :] + self.center[..., None, :]
        return pixels, in_front, self.focal[..., None, :, None] * to_plane


def distort(xy: Tensor, coefficients: Tensor) -> Tensor:
    """Brown-Conrady distortion of normalised coordinates. (..., 2), (..., 5) -> (..., 2)."""
    k1, k2, p1, p2, k3 = coefficients.unbind(-1)
    x, y = xy.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return torch.stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ),
        -1,
    )


def distortion_jacobian(xy: Tensor, coefficients: Tensor) -> Tensor:
    """Derivative of `distort` by xy. -> (..., 2, 2)."""
    k1, k2, p1, p2, k3 = coefficients.unbind(-1)
    x, y = xy.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))  # d radial / d r2, doubled
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    xy_ = slope * x * y + 2 * p1 * x + 2 * p2 * y
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    return torch.stack((torch.stack((xx, xy_), -1), torch.stack((xy_, yy), -1)), -2)


def undistort(xy: Tensor, coefficients: Tensor, iterations: int = 20) -> Tensor:
    """Inverse of `distort` by Newton's method; for pixels that the lens can have made."""
    guess = xy
    for _ in range(iterations):
        step = torch.linalg.solve(
            distortion_jacobian(guess, coefficients), distort(guess, coefficients) - xy
        )
        guess = guess - step
    return guess
