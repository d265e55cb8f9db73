"""One Gaussian over the body joints' axis-angle vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.priors.classical.prior import POSE_SIZE, UP_SIZE, Linear


class GaussianPose:
    """Energy 0.5 d' P d with d = body_pose - mean and P the inverse covariance.

    Args:
        mean: (69,) radians, or (72,) with the direction of up in the root's axes.
        covariance: of the same, positive definite.
    """

    name = "pose"

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean = mean
        self.uses_up = len(mean) == POSE_SIZE + UP_SIZE
        self.covariance = covariance
        # whitening W with W' W = inverse covariance, in float64 however it is used
        lower = torch.linalg.cholesky(covariance.double())
        eye = torch.eye(len(mean), dtype=torch.float64, device=mean.device)
        self._whiten = torch.linalg.solve_triangular(lower, eye, upper=False).to(mean.dtype)

    def linearize(self, body_pose: Tensor) -> Linear:
        """Whitened distance from the mean and its constant Jacobian, both of the mean's size."""
        return Linear((body_pose - self.mean) @ self._whiten.T, self._whiten)

    def modes(self) -> Tensor:
        """The mean (1, 69)."""
        return self.mean[None, :POSE_SIZE]

    def mean_pose(self) -> Tensor:
        """The mean (69,)."""
        return self.mean[:POSE_SIZE]

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> GaussianPose:
        """The same in another number type or on another device."""
        return GaussianPose(
            self.mean.to(dtype=dtype, device=device), self.covariance.to(dtype=dtype, device=device)
        )
