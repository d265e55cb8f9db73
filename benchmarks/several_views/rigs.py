"""Made-up rigs like Human3.6M's, and made-up people filmed by them.

Cameras stand around a room, 4 to 5 m from its middle and 1.4 to 1.7 m high, with 1,145 px of focal
length for 1000 x 1002 pixels. People come from motion capture; each camera's keypoints go through
`flowfit.priors.data.people.synthetic`'s detector on their own. World: y up, the floor at 0, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import Detector, PeopleMaker

SIZE, FOCAL = (1000.0, 1002.0), 1145.0
_AREA = 0.8  # metres from the middle that people go


@dataclass(frozen=True, eq=False)
class Filmed:
    """F frames of people with known bodies, filmed by V cameras.

    Attributes:
        problem: what was seen. rotations: (F, 24, 3, 3), the root's into the world. betas: (F, S).
        transl: (F, 3) metres. rig: the true one.
    """

    problem: MultiviewProblem
    rotations: Tensor
    betas: Tensor
    transl: Tensor
    rig: Rig

    def views(self, index: list[int]) -> Filmed:
        """As some of the cameras saw it."""
        chosen = torch.tensor(index)
        return replace(self, problem=self.problem.select_views(chosen), rig=self.rig.views(chosen))

    def frames(self, index: Tensor) -> Filmed:
        """Some of the frames."""
        return replace(
            self,
            problem=self.problem.rows(index),
            rotations=self.rotations[index],
            betas=self.betas[index],
            transl=self.transl[index],
        )

    def seen_as(self, keypoints: Tensor, confidence: Tensor, rig: Rig | None) -> Filmed:
        """The same people with other detections or another rig."""
        old = self.problem
        problem = MultiviewProblem.build(old.schema, keypoints, confidence, old.camera, rig)
        return replace(self, problem=problem)


def make_rig(views: int, generator: torch.Generator, dtype: torch.dtype) -> Rig:
    """Cameras all around, at even angles but for some degrees, that look at the middle."""
    unit = torch.rand(views, 4, generator=generator, dtype=dtype)
    angle = 2 * math.pi * (torch.arange(views) + 0.5 + 0.3 * (unit[:, 0] - 0.5)) / views
    away, height = 4 + unit[:, 1], 1.4 + 0.3 * unit[:, 2]
    centre = torch.stack((away * angle.sin(), height, away * angle.cos()), -1)
    target = torch.tensor([0.0, 0.9, 0.0], dtype=dtype)
    ahead = torch.nn.functional.normalize(target - centre, dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=dtype).expand_as(ahead)
    right = torch.nn.functional.normalize(torch.linalg.cross(ahead, up), dim=-1)
    rotations = torch.stack((right, torch.linalg.cross(ahead, right), ahead), -2)
    return Rig(rotations, -(rotations @ centre[..., None])[..., 0])


def film(
    body: Body, mocap: Path, frames: int, views: int, detector: Detector, seed: int = 0
) -> Filmed:
    """People of a folder of AMASS files in front of a rig of so many cameras."""
    generator = torch.Generator().manual_seed(seed)
    dtype = body.dtype
    recordings = read_mocap(mocap)
    weights = torch.from_numpy(recordings.balanced_weights()).float()
    chosen = torch.multinomial(weights, frames, True, generator=generator)
    poses = torch.from_numpy(recordings.poses)[chosen]
    rotations = axis_angle_to_matrix(poses.to(dtype))
    yaw = 2 * math.pi * torch.rand(frames, generator=generator, dtype=dtype)
    turn = axis_angle_to_matrix(torch.nn.functional.pad(yaw[:, None], (1, 1)))
    rotations = torch.cat(((turn @ rotations[:, 0])[:, None], rotations[:, 1:]), 1)
    betas = torch.randn(frames, body.num_betas, generator=generator, dtype=dtype)
    joints = body.joints(betas, rotations)
    place = _AREA * (2 * torch.rand(frames, 2, generator=generator, dtype=dtype) - 1)
    transl = torch.stack((place[:, 0], 0.08 - joints[..., 1].amin(1), place[:, 1]), -1) - joints[
        :, 0
    ] * torch.tensor([1.0, 0.0, 1.0], dtype=dtype)

    rig = make_rig(views, generator, dtype)
    camera = Camera(
        torch.full((views, 2), FOCAL, dtype=dtype),
        torch.tensor(SIZE, dtype=dtype).expand(views, 2) / 2,
    )
    maker = PeopleMaker(body, rotations, None, BODY25, detector)
    points = rig.to_cameras(body.keypoints(betas, rotations, BODY25, transl))
    keypoints, confidence = [], []
    for view in range(views):
        true, in_front = camera.rows(torch.full((frames,), view)).project(points[:, view])
        root = rig.rotations[view] @ rotations[:, 0]
        seen_from = torch.cat((root[:, None], rotations[:, 1:]), 1)
        size = torch.tensor(SIZE, dtype=dtype).expand(frames, 2)
        found = maker._detect(true, in_front, points[:, view], seen_from, size, generator)
        keypoints.append(found[0])
        confidence.append(found[1])
    problem = MultiviewProblem.build(
        BODY25, torch.stack(keypoints, 1), torch.stack(confidence, 1), camera, rig
    )
    return Filmed(problem, rotations, betas, transl, rig)


def wrong_person(filmed: Filmed, view: int) -> Filmed:
    """One view sees the person of another frame."""
    keypoints, confidence = filmed.problem.keypoints.clone(), filmed.problem.confidence.clone()
    keypoints[:, view] = keypoints[:, view].roll(1, 0)
    confidence[:, view] = confidence[:, view].roll(1, 0)
    return filmed.seen_as(keypoints, confidence, filmed.problem.rig)


def half_missing(filmed: Filmed, view: int, seed: int = 0) -> Filmed:
    """One view misses a random half of the keypoints."""
    generator = torch.Generator().manual_seed(seed)
    confidence = filmed.problem.confidence.clone()
    order = torch.rand(confidence[:, view].shape, generator=generator).argsort(-1).argsort(-1)
    confidence[:, view] *= order >= confidence.shape[-1] // 2
    return filmed.seen_as(filmed.problem.keypoints, confidence, filmed.problem.rig)


def views_missing(filmed: Filmed, chance: float, seed: int = 0) -> Filmed:
    """Views that miss the person, each with a chance; one always sees them."""
    generator = torch.Generator().manual_seed(seed)
    confidence = filmed.problem.confidence.clone()
    luck = torch.rand(confidence.shape[:2], generator=generator)
    stays = (luck >= chance) | (luck == luck.amax(1, keepdim=True))
    return filmed.seen_as(
        filmed.problem.keypoints, confidence * stays[..., None], filmed.problem.rig
    )


def disturbed(rig: Rig, degrees: float, metres: float, seed: int = 0) -> Rig:
    """Every camera but the first turned about its centre, and moved, by so much."""
    generator = torch.Generator().manual_seed(seed)
    like = rig.translations
    axes = torch.randn(2, *like.shape, generator=generator, dtype=like.dtype)
    axes = torch.nn.functional.normalize(axes, dim=-1)
    axes[:, 0] = 0
    turn = axis_angle_to_matrix(math.radians(degrees) * axes[0])
    moved = (turn @ like[..., None])[..., 0] + metres * axes[1]
    return Rig(turn @ rig.rotations, moved)
