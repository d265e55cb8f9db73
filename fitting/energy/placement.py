"""Where a posed body stands, in closed form, so that its keypoints are where they were seen."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.models.cameras import MIN_DEPTH


def place(problem: FitProblem, points: Tensor, trust: Tensor) -> Tensor:
    """Translation that best explains the keypoints, in closed form.

    Linear least squares of the projection equations, with a weak pull towards the depth at which
    the body's spread equals the keypoints' (which decides when there are one or two keypoints).

    Args:
        problem: of B people. points: (B, M, K, 3) metres, body points of M candidates.
        trust: (B, K) weights, zero where not seen.

    Returns:
        (B, M, 3) metres, depth positive.
    """
    plane = (problem.keypoints - problem.camera.center[..., None, :]) / problem.camera.focal[
        ..., None, :
    ]
    plane = plane[:, None]
    weight = trust[:, None, :, None]
    total = weight.sum(-2).clamp(min=1e-20)  # a billionth of it still is a number in float32
    mean_seen = (weight * plane).sum(-2, keepdim=True) / total[..., None, :]
    mean_body = (weight * points).sum(-2, keepdim=True) / total[..., None, :]
    spread_seen = (weight * (plane - mean_seen) ** 2).sum((-1, -2))
    spread_body = (weight * (points - mean_body)[..., :2] ** 2).sum((-1, -2))
    tiny = 1e-9 * total[..., 0]
    guess = ((spread_body + tiny) / (spread_seen + tiny)).sqrt().clamp(0.3, 300.0)

    # rows (-1, 0, u) t = X - u Z and (0, -1, v) t = Y - v Z for every keypoint, squared and summed
    seen = plane.expand_as(points[..., :2])
    rhs = points[..., :2] - seen * points[..., 2:]
    sum_w = weight.sum((-1, -2)).expand(points.shape[:2])
    sum_seen = (weight * seen).sum(-2)
    normal = torch.diag_embed(torch.stack((sum_w, sum_w, (weight * seen**2).sum((-1, -2))), -1))
    cross = torch.zeros_like(normal)
    cross[..., :2, 2] = -sum_seen
    normal = normal + cross + cross.transpose(-1, -2)
    vector = torch.cat(
        (-(weight * rhs).sum(-2), (weight * seen * rhs).sum((-1, -2))[..., None]), -1
    )
    pull = 1e-2 * spread_seen + tiny
    normal[..., 2, 2] = normal[..., 2, 2] + pull
    vector[..., 2] = vector[..., 2] + pull * guess
    normal = normal + torch.diag_embed(tiny[..., None].expand(*tiny.shape, 3))
    transl = torch.linalg.solve_ex(normal, vector[..., None])[0][..., 0]
    # an impossible depth: take the one of equal spreads, centred
    good = transl.isfinite().all(-1) & (transl[..., 2] > MIN_DEPTH)
    mean_seen, mean_body = mean_seen[..., 0, :], mean_body[..., 0, :]
    aside = mean_seen * (guess[..., None] + mean_body[..., 2:]) - mean_body[..., :2]
    fallback = torch.cat((aside, guess[..., None]), -1)
    return torch.where(good[..., None], transl, fallback)
