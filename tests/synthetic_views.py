"""Made-up people in front of made-up rigs, and the truth about them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.classical.prior import RotationPrior

LENS = (-0.1, 0.05, 0.001, -0.002, 0.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """What was seen, and the truth in the world (y up, metres)."""

    problem: MultiviewProblem
    rotations: Tensor
    betas: Tensor
    transl: Tensor
    joints: Tensor


def make_scene_rig(views: int) -> Rig:
    """Cameras 4 to 5 m from the middle of a room, 1.5 m high, looking slightly down."""
    place = torch.arange(views, dtype=torch.float64)
    angle, zero = 2 * math.pi * place / views + 0.4, torch.zeros_like(place)
    down = torch.full_like(place, -0.12)
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    pitch = axis_angle_to_matrix(torch.stack((down, zero, zero), -1))
    rotations = pitch @ flip @ axis_angle_to_matrix(torch.stack((zero, angle, zero), -1))
    away = 4.0 + place / views
    middle = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    ahead = torch.stack((zero, zero + 0.1, away), -1)
    return Rig(rotations, ahead - rotations @ middle)


def make_views(
    body: Body,
    prior: RotationPrior,
    frames: int = 3,
    views: int = 3,
    *,
    noise: float = 3.0,
    lens: bool = False,
    seed: int = 0,
) -> Scene:
    """People near the mixture's modes, turned any way about the vertical."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    modes = prior.modes().rotations.double()
    bent = axis_angle_to_matrix(0.1 * normal(frames, 24, 3))
    rotations = modes[torch.arange(frames) % len(modes)] @ bent
    yaw = 3 * normal(frames)
    root = axis_angle_to_matrix(torch.nn.functional.pad(yaw[:, None], (1, 1)))
    rotations = torch.cat((root[:, None] @ bent[:, :1], rotations[:, 1:]), 1)
    betas = 0.7 * normal(frames, body.num_betas)
    transl = torch.tensor([0.3, 0.1, 0.3]).double() * normal(frames, 3)
    transl[:, 1] += 1.2
    rig = make_scene_rig(views)
    camera = Camera(
        torch.full((views, 2), 1100.0, dtype=torch.float64),
        torch.tensor([500.0, 501.0], dtype=torch.float64).expand(views, 2),
        torch.tensor(LENS, dtype=torch.float64).expand(views, 5) if lens else None,
    )
    points = body.keypoints(betas, rotations, BODY25, transl)
    pixels, in_front = camera.project(rig.to_cameras(points))
    assert in_front.all()
    pixels = pixels + noise * normal(*pixels.shape)
    confidence = 0.6 + 0.4 * torch.rand(pixels.shape[:3], generator=generator).double()
    problem = MultiviewProblem.build(BODY25, pixels, confidence, camera, rig)
    return Scene(problem, rotations, betas, transl, body.joints(betas, rotations, transl))
