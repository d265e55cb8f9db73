"""Where SMPLify and its descendants begin: the mean pose, as far away as the torso says.

Published: the body stands, and its depth is the focal length times the torso's length in metres
over its length in pixels (similar triangles). That fails where the torso is foreshortened. Where
the shoulders are seen close together the body may as well face the other way, so both are tried.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import State
from flowfit.fitting.energy.placement import place
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.starts import upright_facing_camera
from flowfit.models.body import Body
from flowfit.models.cameras import MIN_DEPTH
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, PosePrior

_SIDES = (("LShoulder", "LHip"), ("RShoulder", "RHip"))
_ACROSS = (("LShoulder", "RShoulder"), ("LHip", "RHip"))
_LEAST_LENGTH = 1.0  # pixels of a torso


def torso_start(problem: FitProblem, body: Body, prior: PosePrior) -> State:
    """Mean pose and mean shape, upright, facing the camera or away from it.

    Away where the left shoulder and hip are seen to the left of the right ones. The published
    codes begin with the root unturned and let the camera stage find the way; Adam's hundred steps
    of 0.01 could not. Of whoever shows no whole side of the torso the place is the one that
    explains all keypoints best.

    Args:
        problem: of B people. body: to place. prior: makes the latents.
    """
    mean = prior.mean()
    people = len(problem)
    betas = mean.betas[:1].to(problem.keypoints).expand(people, -1)
    rotations = mean.rotations[:1].to(problem.keypoints).expand(people, -1, -1, -1).clone()
    upright = upright_facing_camera(betas)
    rotations[:, 0] = torch.where(_faces_away(problem)[:, None, None], about(upright), upright)
    points = body.keypoints(betas, rotations, problem.schema).nan_to_num()
    depth, known = _torso_depth(problem, points)
    trust = problem.evidence() * body.keypoint_model(problem.schema).available
    transl = place(problem, points[:, None], trust)[:, 0]
    seen = (trust > 0).to(trust)[..., None]
    count = seen.sum(1).clamp(min=1)
    focal, center = problem.camera.focal, problem.camera.center
    plane = (problem.keypoints - center[..., None, :]) / focal[..., None, :]
    aside = (seen * (plane * depth[:, None, None] - points[..., :2])).sum(1) / count
    by_torso = torch.cat((aside, depth[:, None]), -1)
    return State(
        prior.encode(Pose(rotations, betas)), torch.where(known[:, None], by_torso, transl)
    )


def about(rotation: Tensor) -> Tensor:
    """Root rotations (..., 3, 3) of the same bodies, turned half around their own upright axis."""
    half = axis_angle_to_matrix(rotation.new_tensor([0.0, math.pi, 0.0]))
    return rotation @ half


def turned_about(
    problem: FitProblem, prior: PosePrior, narrow: Tensor, person: Tensor, state: State
) -> tuple[Tensor, State]:
    """Those whose shoulders are seen close together stand twice, the second time turned about.

    Args:
        problem: of B people. prior: theirs. narrow: (B,) pixels, what is close.
        person: (R,) whose the rows are. state: of the R rows.

    Returns:
        Which of the rows each new one is, and the new rows' states.
    """
    both = (shoulders_apart(problem) < narrow)[person]
    twice = torch.repeat_interleave(torch.arange(len(person), device=person.device), 1 + both)
    second = torch.nn.functional.pad(twice[1:] == twice[:-1], (1, 0))
    its_prior = prior.rows(person[twice])
    pose = its_prior.decode(state.latent[twice])
    rotations = pose.rotations.clone()
    rotations[:, 0] = torch.where(second[:, None, None], about(rotations[:, 0]), rotations[:, 0])
    return twice, State(its_prior.encode(Pose(rotations, pose.betas)), state.transl[twice])


def shoulders_apart(problem: FitProblem) -> Tensor:
    """Distance (B,) in pixels at which the shoulders are seen; 0 where one of them is not."""
    pair = _places(problem.schema, ("LShoulder", "RShoulder"))
    if pair is None:
        return torch.zeros_like(problem.size)
    left, right = pair
    apart = (problem.keypoints[:, left] - problem.keypoints[:, right]).norm(dim=-1)
    return torch.where(_seen(problem, pair), apart, 0)


def _places(schema: KeypointSchema, names: tuple[str, str]) -> tuple[int, int] | None:
    if any(name not in schema for name in names):
        return None
    return schema.index(names[0]), schema.index(names[1])


def _seen(problem: FitProblem, pair: tuple[int, int]) -> Tensor:
    return (problem.confidence[:, list(pair)] > 0).all(-1)


def _faces_away(problem: FitProblem) -> Tensor:
    """(B,): the left side is seen on the left."""
    turned = torch.zeros_like(problem.size)
    for names in _ACROSS:
        pair = _places(problem.schema, names)
        if pair is not None:
            apart = problem.keypoints[:, pair[0], 0] - problem.keypoints[:, pair[1], 0]
            turned = turned + torch.where(_seen(problem, pair), apart, 0)
    return turned < 0


def _torso_depth(problem: FitProblem, points: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (B,) metres by similar triangles over the sides that were seen, and who has one."""
    in_metres, in_pixels = torch.zeros_like(problem.size), torch.zeros_like(problem.size)
    for names in _SIDES:
        pair = _places(problem.schema, names)
        if pair is not None:
            shoulder, hip = pair
            seen = _seen(problem, pair)
            long = (points[:, shoulder] - points[:, hip]).norm(dim=-1)
            short = (problem.keypoints[:, shoulder] - problem.keypoints[:, hip]).norm(dim=-1)
            in_metres = in_metres + torch.where(seen, long, 0)
            in_pixels = in_pixels + torch.where(seen, short, 0)
    focal = problem.camera.focal.mean(-1)
    depth = (focal * in_metres / in_pixels.clamp(min=_LEAST_LENGTH)).clamp(min=10 * MIN_DEPTH)
    return depth, in_metres > 0
