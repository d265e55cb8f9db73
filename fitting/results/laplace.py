"""How sure a fit is, from the normal equations at its minimum (Laplace's approximation)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation, Objective, State
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.kinematics import joint_index


class Whitening(NamedTuple):
    """The free part of each person's Hessian as D^-1 L L' D^-1, with D diagonal.

    Attributes:
        scale: (B, F), D. factor: (B, F, F), L. good: (B,), whether there is one.
    """

    scale: Tensor
    factor: Tensor
    good: Tensor


def whitening(evaluation: Evaluation, columns: Tensor) -> Whitening:
    """Of an exact evaluation; where there is none, the factor is the identity."""
    hessian = evaluation.hessian[:, columns[:, None], columns].double()
    scale = hessian.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).rsqrt()
    eye = torch.eye(len(columns), dtype=hessian.dtype, device=hessian.device)
    # unit diagonal before factoring: the blocks' units differ by orders of magnitude
    # and as positive definite as the rounding errors of its own number type allow
    rounding = max(1e-9, 16 * torch.finfo(evaluation.hessian.dtype).eps)
    unit = scale[:, :, None] * hessian * scale[:, None] + rounding * eye
    factor, info = torch.linalg.cholesky_ex(unit)
    good = info == 0
    return Whitening(scale, torch.where(good[:, None, None], factor, eye), good)


def step_covariance(evaluation: Evaluation, columns: Tensor) -> Tensor:
    """Covariance (B, P, P) of the step: inverse of the Gauss-Newton Hessian on the free columns.

    NaN for people whose Hessian has no inverse.
    """
    scale, factor, good = whitening(evaluation, columns)
    inverse = scale[:, :, None] * torch.cholesky_inverse(factor) * scale[:, None]
    size = evaluation.gradient.shape[-1]
    full = inverse.new_zeros(len(inverse), size, size)
    full[:, columns[:, None], columns] = torch.where(good[:, None, None], inverse, torch.nan)
    return full.to(evaluation.gradient.dtype)


def keypoint_sd(objective: Objective, state: State, evaluation: Evaluation) -> Tensor:
    """Standard deviation of each keypoint's place relative to the pelvis.

    The pelvis is held because the distance to the camera, known only through the body's size and
    the assumed focal length, would drown everything else.

    Returns:
        (B, K) metres: root of the summed variances along x, y and z. Infinite for keypoints that
        the body does not have.
    """
    body, problem = objective.body, objective.problem
    columns = objective.free_columns(state.transl.device)
    scale, factor, good = whitening(evaluation, columns)
    pose, pull_back = objective.prior.linearize(state.latent)
    model = body.keypoint_model(problem.schema)
    moved = keypoints_with_jacobian(body, model, pose.betas, pose.rotations)
    by_betas = moved.by_betas - body.joint_directions[joint_index("pelvis")]
    by_pose = torch.cat((moved.by_rotation, by_betas), -1)
    by_step = pull_back(by_pose.flatten(1, 2))
    missing = evaluation.gradient.shape[-1] - by_step.shape[-1]  # the translation moves the pelvis
    rows = torch.nn.functional.pad(by_step, (0, missing))[..., columns].to(scale)
    # |L^-1 D row|^2 is row' H^-1 row, without the whole inverse
    whitened = torch.linalg.solve_triangular(factor, (rows * scale[:, None]).mT, upper=False)
    variance = (whitened * whitened).sum(1).unflatten(-1, by_pose.shape[1:3]).sum(-1)
    variance = torch.where(good[:, None], variance, torch.nan).to(state.transl.dtype)
    return torch.where(model.available, variance.sqrt(), torch.inf)
