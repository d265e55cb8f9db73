"""Where a fit begins when its prior has seen nothing: at the body of the lifted skeleton.

The keypoints are lifted to 3D, and a body is put into the skeleton: the likeliest pose that is
nearest to it, turned, then bent by a few damped Gauss-Newton steps, the pose prior holding what 17
points leave open (how limbs are twisted, how tall the body is).
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.fitting.energy.placement import place
from flowfit.fitting.energy.problem import FitProblem
from flowfit.models.alignment import rigid_alignment
from flowfit.models.body import Body
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.cameras import Camera
from flowfit.priors.base import Pose, PosePrior
from flowfit.priors.lifting.input import JOINTS, ROOT, to_joints
from flowfit.priors.lifting.lifter import Lifter

_SIGMA = 0.05  # metres: how far off lifted joints usually are, an axis
_TORSO = ("LHip", "RHip", "Spine", "Thorax", "LShoulder", "RShoulder")
_STEPS = 12
_DAMPING = 1e-2  # of the diagonal, at first
_MOST_DAMPING = 1e6


@torch.no_grad()
def lifted_start(
    problem: FitProblem, body: Body, prior: PosePrior, lifter: Lifter
) -> tuple[Pose, Tensor]:
    """Bodies and translations (B, 3) to begin at; each person's are the same in any company.

    Args:
        problem: of B people. body, prior, lifter: in its number type.
    """
    mode = lifter.mode(lifter_context(problem, lifter))
    pose = body_of(mode.joints[:, 0], body, prior)
    points = body.keypoints(pose.betas, pose.rotations, problem.schema).nan_to_num()
    trust = problem.evidence() * body.keypoint_model(problem.schema).available
    return pose, place(problem, points[:, None], trust)[:, 0]


def lifter_context(problem: FitProblem, lifter: Lifter) -> Tensor:
    """What the lifter makes of what was seen: (B, C)."""
    told = to_joints(problem.schema, lifter.schema, problem.keypoints, problem.confidence)
    camera = problem.camera
    camera = Camera(*(t.expand(len(problem), 2) for t in (camera.focal, camera.center)))
    return lifter.condition(*told, camera)


def body_of(joints: Tensor, body: Body, prior: PosePrior) -> Pose:
    """Bodies in skeletons (B, 17, 3), metres in the camera's frame, wherever their root is."""
    joints = joints - joints[:, JOINTS.index(ROOT)][:, None]
    pose = _nearest_mode(joints, body, prior)
    latent, damping = prior.encode(pose), torch.full_like(joints[:, 0, 0], _DAMPING)
    energy, gradient, normal = _model(latent, joints, body, prior)
    for _ in range(_STEPS):
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        damped = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-9)
        step = torch.linalg.solve_ex(damped, -gradient[..., None])[0][..., 0]
        trial = prior.move(latent, step)
        found = _model(trial, joints, body, prior)
        better = found[0] < energy
        latent = torch.where(better[:, None], trial, latent)
        energy = torch.where(better, found[0], energy)
        gradient = torch.where(better[:, None], found[1], gradient)
        normal = torch.where(better[:, None, None], found[2], normal)
        damping = torch.where(better, damping / 4, damping * 6).clamp(1e-9, _MOST_DAMPING)
    return prior.decode(latent)


def _nearest_mode(joints: Tensor, body: Body, prior: PosePrior) -> Pose:
    """Of the prior's likeliest poses the one nearest to each skeleton, turned like its torso."""
    modes = Pose(*(p.to(joints) for p in prior.modes()))
    points = body.keypoints(modes.betas, modes.rotations, JOINTS)
    points = points - points[:, JOINTS.index(ROOT)][:, None]
    weight = joints.new_zeros(len(JOINTS))
    weight[JOINTS.indices(list(_TORSO))] = 1
    people, many = len(joints), len(points)
    source = points.expand(people, -1, -1, -1)
    target = joints[:, None].expand(-1, many, -1, -1)
    turn, _ = rigid_alignment(source, target, weight.expand(people, many, -1))
    error = (source @ turn.transpose(-1, -2) - target).norm(dim=-1).mean(-1)
    best = error.nan_to_num(nan=torch.inf).argmin(-1)
    rotations = modes.rotations[best].clone()
    rotations[:, 0] = turn[torch.arange(people, device=joints.device), best]
    return Pose(rotations, modes.betas[best])


def _model(
    latent: Tensor, joints: Tensor, body: Body, prior: PosePrior
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy (B,), gradient (B, T) and Gauss-Newton matrix (B, T, T) by the prior's step."""
    pose = prior.decode(latent)
    found = keypoints_with_jacobian(body, body.keypoint_model(JOINTS), pose.betas, pose.rotations)
    root = JOINTS.index(ROOT)
    error = (found.points - found.points[:, root : root + 1] - joints).flatten(1) / _SIGMA
    slope = torch.cat((found.by_rotation, found.by_betas), -1)
    slope = (slope - slope[:, root : root + 1]).flatten(1, 2) / _SIGMA
    energy = 0.5 * (error * error).sum(-1)
    gradient = (slope.mT @ error[..., None])[..., 0]
    normal = slope.mT @ slope
    for term in prior.terms(latent, jacobian=True):
        assert term.jacobian is not None
        energy = energy + 0.5 * (term.residual**2).sum(-1)
        gradient = gradient + (term.jacobian.mT @ term.residual[..., None])[..., 0]
        normal = normal + term.jacobian.mT @ term.jacobian
    return energy, gradient, normal
