"""Detected people lifted to 3D skeletons, all in one batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.reading.detections import Detections
from flowfit.models.cameras import Camera
from flowfit.priors.lifting.input import to_joints
from flowfit.priors.lifting.lifter import NUMBERS, Lifter

_ROWS_AT_ONCE = 16_384  # skeletons decoded together, about 100 MB


class LiftedPeople(NamedTuple):
    """Skeletons of B people, camera axes, the pelvis at the origin.

    Attributes:
        joints: (B, 17, 3) metres, the mode. samples: (B, n, 17, 3) metres.
        log_prob: (B, n) nats, of the samples; mode_log_prob: (B) of the mode. Densities over the
            48 numbers of the 16 joints besides the pelvis, in metres.
        told: (B) how many of the joints that the lifter knows were seen.
    """

    joints: Tensor
    samples: Tensor
    log_prob: Tensor
    mode_log_prob: Tensor
    told: Tensor


@torch.no_grad()
def lift_people(
    lifter: Lifter, detections: Detections, camera: Camera, samples: int, seed: int = 0
) -> LiftedPeople:
    """LiftedPeople of all people of a picture; each is the same alone and in any company.

    Args:
        camera: that took the picture, in the number type and on the device of the lifter.
        samples: of each person; those of somebody follow from the seed and the place in the file.
    """
    like = camera.focal
    seen = (torch.from_numpy(a).to(like) for a in (detections.keypoints, detections.confidence))
    keypoints, confidence = to_joints(detections.schema, lifter.schema, *seen)
    people = len(keypoints)
    cameras = Camera(camera.focal.expand(people, 2), camera.center.expand(people, 2))
    context = lifter.condition(keypoints, confidence, cameras)
    mode = lifter.mode(context)
    drawn = []
    at_once = max(1, _ROWS_AT_ONCE // max(1, samples))
    for first in range(0, people if samples else 0, at_once):
        some = slice(first, first + at_once)
        places = detections.indices[some]
        noise = torch.stack([person_noise(samples, seed, place) for place in places]).to(like)
        drawn.append(lifter.sample(context[some], noise))
    none = mode.joints[:, :0], mode.log_prob[:, :0]
    joints, log_prob = (torch.cat(t) for t in zip(*drawn, strict=True)) if drawn else none
    told = (confidence > 0).sum(-1)
    return LiftedPeople(mode.joints[:, 0], joints, log_prob, mode.log_prob[:, 0], told)


def person_noise(samples: int, seed: int, place: int) -> Tensor:
    """Standard normal numbers (n, 48) of the person at a place in a file, float64 on the CPU."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
    return torch.randn(samples, NUMBERS, generator=generator, dtype=torch.float64)
