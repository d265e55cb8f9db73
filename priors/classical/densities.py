"""Densities of body poses: one Gaussian, the max-mixture of SMPLify, the true mixture.

Max-mixture (Bogo et al., ECCV 2016): the energy is that of the best component alone, min over k of
0.5 d_k' P_k d_k - log w'_k with w'_k = w_k / sqrt(det S_k) up to a common factor. The true
mixture, -log sum_k w'_k exp(-0.5 d_k' P_k d_k), is `log_density`; the two are not the same.
`MaxMixturePose` costs the one, `TrueMixturePose` the other.
"""

from __future__ import annotations

import math

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


class MaxMixturePose:
    """Max-mixture over the 69 axis-angle numbers of the body joints.

    Args:
        means: (M, 69) radians, or (M, 72) with the direction of up in the root's axes.
        covariances: of the same. weights: (M,), sum 1.
    """

    name = "pose"

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor) -> None:
        self.means, self.covariances, self.weights = means, covariances, weights
        self.uses_up = means.shape[1] == POSE_SIZE + UP_SIZE
        lower = torch.linalg.cholesky(covariances.double())
        eye = torch.eye(means.shape[1], dtype=torch.float64, device=means.device)
        self._whiten = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False).to(
            means.dtype
        )
        half_log_det = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = half_log_det - weights.double().log()
        self._log_norm = constant + 0.5 * means.shape[1] * math.log(2 * math.pi)
        # the energy's zero is the best component's own mode, so that it is a sum of squares
        self._constant = (constant - constant.min()).to(means.dtype)

    def component_energies(self, body_pose: Tensor) -> Tensor:
        """0.5 d' P d - log w' of every component, shifted so that the least constant is 0.

        (B, 69) -> (B, M).
        """
        white = torch.einsum("mij,bmj->bmi", self._whiten, body_pose[:, None] - self.means)
        return 0.5 * (white * white).sum(-1) + self._constant

    def log_density(self, body_pose: Tensor) -> Tensor:
        """The true mixture's log density, nats. (B, 69) -> (B,)."""
        least = self._log_norm.min().to(body_pose.dtype)
        return torch.logsumexp(-self.component_energies(body_pose), -1) - least

    def linearize(self, body_pose: Tensor) -> Linear:
        """Residual of the best component: whitened distance, then its constant's root."""
        best = self.component_energies(body_pose).argmin(-1)
        whiten = self._whiten[best]
        white = (whiten @ (body_pose - self.means[best])[..., None])[..., 0]
        constant = (2 * self._constant[best]).sqrt()[:, None]
        return Linear(
            torch.cat((white, constant), -1), torch.nn.functional.pad(whiten, (0, 0, 0, 1))
        )

    def modes(self) -> Tensor:
        """The components' means (M, 69), the heaviest first."""
        return self.means[self.weights.argsort(descending=True), :POSE_SIZE]

    def mean_pose(self) -> Tensor:
        """The mean pose of the whole mixture (69,)."""
        return (self.weights @ self.means)[:POSE_SIZE]

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> MaxMixturePose:
        """The same in another number type or on another device."""
        return type(self)(
            self.means.to(dtype=dtype, device=device),
            self.covariances.to(dtype=dtype, device=device),
            self.weights.to(dtype=dtype, device=device),
        )


class TrueMixturePose(MaxMixturePose):
    """The true mixture over the same numbers: all components count, each as far as it is likely.

    As a sum of squares: with r_k the probability of component k at the pose, the energy is
    sum r_k (0.5 |white_k|^2 + constant_k + log r_k), and its gradient is sum r_k white_k' W_k. So
    the residuals are the components' whitened distances times root r_k, and the root of the rest,
    whose slope is left out.
    """

    def linearize(self, body_pose: Tensor) -> Linear:
        """Residual (B, M N + 1), the rest last, and its Jacobian by the N numbers."""
        white = torch.einsum("mij,bmj->bmi", self._whiten, body_pose[:, None] - self.means)
        energies = 0.5 * (white * white).sum(-1) + self._constant
        share = torch.softmax(-energies, -1)
        root = share.sqrt()[..., None]
        # least where one component is all there is; the last term keeps it positive
        rest = (share * self._constant + torch.special.xlogy(share, share)).sum(-1)
        rest = rest + math.log(len(self.means))
        residual = torch.cat(((root * white).flatten(1), _root(2 * rest)[:, None]), -1)
        slope = (root[..., None] * self._whiten).flatten(1, 2)
        return Linear(residual, torch.nn.functional.pad(slope, (0, 0, 0, 1)))


def _root(squared: Tensor) -> Tensor:
    return squared.clamp(min=0).sqrt()  # rounding may leave a last digit below zero
