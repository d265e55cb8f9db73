"""How sure a fit is, from the normal equations at its minimum (Laplace's approximation)."""

from __future__ import annotations

import torch
from torch import Tensor

from fitting.objective import Evaluation, Objective, State
from models.body_jacobian import keypoints_with_jacobian
from models.kinematics import joint_index


def step_covariance(evaluation: Evaluation, columns: Tensor) -> Tensor:
    """Covariance (B, P, P) of the step: inverse of the Gauss-Newton Hessian on the free columns."""
    hessian = evaluation.hessian[:, columns[:, None], columns].double()
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp(min=1e-12).rsqrt()
    eye = torch.eye(len(columns), dtype=hessian.dtype, device=hessian.device)
    # unit diagonal before inverting: the blocks' units differ by orders of magnitude
    # and as positive definite as the rounding errors of its own number type allow
    rounding = max(1e-9, 16 * torch.finfo(evaluation.hessian.dtype).eps)
    unit = scale[:, :, None] * hessian * scale[:, None] + rounding * eye
    factor, info = torch.linalg.cholesky_ex(unit)
    factor = torch.where((info == 0)[:, None, None], factor, eye)
    inverse = scale[:, :, None] * torch.cholesky_inverse(factor) * scale[:, None]
    inverse = torch.where((info == 0)[:, None, None], inverse, torch.nan)
    full = hessian.new_zeros(evaluation.hessian.shape)
    full[:, columns[:, None], columns] = inverse
    return full.to(evaluation.hessian.dtype)


def keypoint_sd(objective: Objective, state: State, evaluation: Evaluation) -> Tensor:
    """Standard deviation of each keypoint's place relative to the pelvis.

    The pelvis is held because the distance to the camera, known only through the body's size and
    the assumed focal length, would drown everything else.

    Returns:
        (B, K) metres: root of the summed variances along x, y and z. Infinite for keypoints that
        the body does not have.
    """
    body, problem = objective.body, objective.problem
    covariance = step_covariance(evaluation, objective.free_columns(state.transl.device))
    pose, pull_back = objective.prior.linearize(state.latent)
    model = body.keypoint_model(problem.schema)
    moved = keypoints_with_jacobian(body, model, pose.betas, pose.rotations)
    by_betas = moved.by_betas - body.joint_directions[joint_index("pelvis")]
    by_pose = torch.cat((moved.by_rotation, by_betas), -1)
    by_step = pull_back(by_pose.flatten(1, 2)).unflatten(1, by_pose.shape[1:3])
    size = by_step.shape[-1]
    variance = torch.einsum("bkai,bij,bkaj->bk", by_step, covariance[:, :size, :size], by_step)
    return torch.where(model.available, variance.clamp(min=0).sqrt(), torch.inf)
