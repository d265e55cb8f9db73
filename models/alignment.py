"""Rigid motions and rotations that bring points and matrices together, through the SVD."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation nearest to each matrix (..., 3, 3).

    Of a matrix that is not finite it is the identity: the decomposition would choke on it, and
    with it everybody else in the batch.
    """
    good = matrix.isfinite().all(-1).all(-1)[..., None, None]
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    u, s, vh = torch.linalg.svd(torch.where(good, matrix, eye))
    sign = torch.ones_like(s)
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    return (u * sign[..., None, :]) @ vh


def chordal_mean(rotations: Tensor, weight: Tensor) -> Tensor:
    """Rotation nearest to the weighted mean matrix, NaN where that is not finite.

    Args:
        rotations: (..., N, 3, 3). weight: (..., N).

    Returns:
        (..., 3, 3).
    """
    mean = (weight[..., None, None] * rotations).sum(-3)
    known = mean.isfinite().all(-1).all(-1)[..., None, None]
    return torch.where(known, nearest_rotation(mean), torch.nan)


def rigid_alignment(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and shift that bring the source nearest to the target (Kabsch).

    Args:
        source, target: (..., N, 3). weight: (..., N), not negative.

    Returns:
        (..., 3, 3) and (..., 3): target = R source + t.
    """
    share = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-12))[..., None]
    middle, aim = (share * source).sum(-2), (share * target).sum(-2)
    turn = nearest_rotation(
        (share * (target - aim[..., None, :])).mT @ (source - middle[..., None, :])
    )
    return turn, aim - (turn @ middle[..., None])[..., 0]


def procrustes(source: Tensor, target: Tensor) -> Tensor:
    """Source after the similarity that brings it closest to the target (Umeyama 1991).

    Args:
        source, target: (..., J, 3).

    Returns:
        (..., J, 3), without reflection.
    """
    target_mean = target.mean(-2, keepdim=True)
    a, b = source - source.mean(-2, keepdim=True), target - target_mean
    turned = a @ nearest_rotation(a.mT @ b)
    least = torch.finfo(a.dtype).tiny
    scale = (turned * b).sum((-1, -2)) / (a * a).sum((-1, -2)).clamp(min=least)
    return scale[..., None, None] * turned + target_mean
