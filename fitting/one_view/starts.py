"""Where fits begin: likely poses turned many ways, each placed where the keypoints want it.

A person's keypoints seldom say alone which way the body faces, so several orientations are tried:
all around the vertical, upright, leaning, and lying. Each candidate is placed in closed form and
scored by its reprojection; the best of every direction go on as start hypotheses.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import State
from flowfit.fitting.energy.placement import place
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Reprojection
from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.energy.units import Unit
from flowfit.models.body import Body
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, PosePrior

NUM_YAWS = 8
# leaning of the upright body in the camera's frame, degrees: towards/away, and sideways
_TILTS = ((0, 0), (-35, 0), (35, 0), (0, -40), (0, 40), (0, -85), (0, 85), (-80, 0), (80, 0))
_START = Reprojection(sigma=0.05, scale=0.4)  # of the box: how well a start can be expected to fit
_TILT_COST = 1.5  # nats for 90 degrees: of two equally good starts the upright one


class Hypotheses(NamedTuple):
    """Start states, H for each of the B people in turn.

    Attributes:
        state: of B * H rows. person: (B * H,) whose row it is.
    """

    state: State
    person: Tensor


def upright_facing_camera(like: Tensor) -> Tensor:
    """Root rotation (3, 3) of a body that stands and looks at an OpenCV camera."""
    return torch.diag(like.new_tensor([1.0, -1.0, -1.0]))


def candidate_orientations(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Root rotations (O, 3, 3), their yaw sector (O,) and their tilt cost in nats (O,)."""
    yaws = torch.arange(NUM_YAWS, dtype=like.dtype, device=like.device) * (2 * math.pi / NUM_YAWS)
    tilts = like.new_tensor(_TILTS) * (math.pi / 180)
    zero = torch.zeros_like(yaws)
    about_vertical = axis_angle_to_matrix(torch.stack((zero, yaws, zero), -1))
    pitch, roll = tilts.unbind(-1)
    none = torch.zeros_like(pitch)
    lean = axis_angle_to_matrix(torch.stack((none, none, roll), -1)) @ axis_angle_to_matrix(
        torch.stack((pitch, none, none), -1)
    )
    facing = upright_facing_camera(like)
    rotations = lean[:, None] @ facing @ about_vertical[None]
    cost = _TILT_COST * (tilts.norm(dim=-1) / (math.pi / 2))
    sector = torch.arange(NUM_YAWS, device=like.device)
    return (
        rotations.flatten(0, 1),
        sector.repeat(len(_TILTS)),
        cost.repeat_interleave(NUM_YAWS),
    )


def hypotheses(problem: FitProblem, body: Body, prior: PosePrior, poses: Pose) -> Hypotheses:
    """The best placed candidate of every yaw, as start states.

    Args:
        problem: of B people. body: to place. prior: makes the latents.
        poses: M body poses to try, their root rotations ignored.
    """
    poses = Pose(*(p.to(problem.keypoints) for p in poses))
    orientations, sector, cost = candidate_orientations(poses.betas)
    modes, turns = len(poses.betas), len(orientations)
    rotations = poses.rotations[:, None].expand(-1, turns, -1, -1, -1).clone()
    rotations[:, :, 0] = orientations
    rotations = rotations.flatten(0, 1)
    betas = poses.betas.repeat_interleave(turns, 0)
    model = body.keypoint_model(problem.schema)
    points = body.keypoints(betas, rotations, problem.schema).nan_to_num()

    people = len(problem)
    trust = problem.evidence() * model.available
    candidates = points[None].expand(people, -1, -1, -1)
    transl = place(problem, candidates, trust)
    placed = candidates + transl[:, :, None]
    camera = problem.camera.rows(torch.arange(people).repeat_interleave(modes * turns))
    pixels, in_front = camera.project(placed.flatten(0, 1))
    pixels, in_front = pixels.unflatten(0, (people, -1)), in_front.unflatten(0, (people, -1))
    box = problem.size[:, None]
    term = ReprojectionTerm.of(_START, problem.keypoints[:, None], trust[:, None], Unit(box, box))
    score = term.met(pixels, in_front).energy + cost.repeat(modes)
    score = score.nan_to_num(nan=torch.inf)

    by_sector = torch.full((people, NUM_YAWS, modes * turns), torch.inf).to(score)
    sectors = sector.repeat(modes)
    for yaw in range(NUM_YAWS):
        by_sector[:, yaw] = torch.where(sectors == yaw, score, torch.inf)
    best = by_sector.argmin(-1)  # (B, yaws)
    person = torch.arange(people, device=best.device).repeat_interleave(NUM_YAWS)
    chosen = best.flatten()
    latent = prior.rows(person).encode(Pose(rotations[chosen], betas[chosen]))
    return Hypotheses(State(latent, transl[person, chosen]), person)
