"""Rigid motions and rotations that bring points and matrices together, through the SVD."""

from __future__ import annotations

import torch
from torch import Tensor


def rigid_alignment(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and shift that bring the source nearest to the target (Kabsch).

    Args:
        source, target: (..., N, 3). weight: (..., N), not negative.

    Returns:
        (..., 3, 3) and (..., 3): target = R source + t.
    """
    share = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-12))[..., None]
    middle, aim = (share * source).sum(-2), (share * target).sum(-2)
    product = (share * (target - aim[..., None, :])).transpose(-1, -2) @ (
        source - middle[..., None, :]
    )
    u, _, vh = torch.linalg.svd(_finite(product))
    sign = torch.linalg.det(u @ vh)
    last = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), -1)
    turn = (u * last[..., None, :]) @ vh
    return turn, aim - (turn @ middle[..., None])[..., 0]


def _finite(matrix: Tensor) -> Tensor:
    """The identity in place of a matrix that a decomposition would choke on."""
    good = matrix.isfinite().all(-1).all(-1)[..., None, None]
    return torch.where(good, matrix, torch.eye(3, dtype=matrix.dtype, device=matrix.device))


def procrustes(source: Tensor, target: Tensor) -> Tensor:
    """Source after the similarity that brings it closest to the target (Umeyama 1991).

    Args:
        source, target: (..., J, 3).

    Returns:
        (..., J, 3), without reflection.
    """
    source_mean, target_mean = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    a, b = source - source_mean, target - target_mean
    u, s, vh = torch.linalg.svd(a.transpose(-1, -2) @ b)
    sign = torch.ones_like(s)
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    rotation = (u * sign[..., None, :]) @ vh
    scale = (s * sign).sum(-1) / (a * a).sum((-1, -2)).clamp(min=torch.finfo(a.dtype).tiny)
    return scale[..., None, None] * (a @ rotation) + target_mean


def nearest_rotations(matrices: Tensor) -> Tensor:
    """The rotation nearest to each matrix (..., 3, 3)."""
    u, _, vh = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[..., 0])
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    return (u * sign[..., None, :]) @ vh
