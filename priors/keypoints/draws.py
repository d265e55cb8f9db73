"""Bodies drawn from a posterior that has looked at the keypoints, in chunks of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.kinematics import joint_index
from flowfit.priors.base import Posterior

AT_ONCE = 1024  # bodies; they fill about 30 MB


@dataclass(frozen=True, eq=False)
class Draws:
    """n bodies that could be one person, in the camera's frame, metres.

    Attributes:
        rotations: (n, 24, 3, 3) local, the root's first. betas: (n, S). transl: (n, 3).
        joints3d: (n, 24, 3). log_prob: (n,) nats, of the vector that the flow describes.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor
    joints3d: Tensor
    log_prob: Tensor

    def __len__(self) -> int:
        return len(self.betas)


def latent_noise(count: int, features: int, seed: int, like: Tensor) -> Tensor:
    """Standard normal latents (count, features), the first of them 0: the mode.

    Made on the CPU in float64, so that number type and device change nothing but rounding, and so
    that the first of many are the same as few.
    """
    # torch's own generator gives other numbers at the end of a longer array
    noise = np.random.default_rng(seed).standard_normal((count, features))
    noise[0] = 0
    return torch.from_numpy(noise).to(like)


def random_latents(count: int, given: Posterior, row: int, seed: int) -> Tensor:
    """Latents (count, D) of a person, as long as true bodies' are; the first is 0: the mode."""
    noise = latent_noise(count, given.flow.features + 1, seed, given.context)
    one = given.rows(torch.tensor([row], device=noise.device))
    return one.draw_lengths(noise[:, -1])[:, None] * noise[:, :-1]


@torch.no_grad()
def draw(
    given: Posterior,
    row: int,
    latents: Tensor,
    body: Body,
    *,
    at_once: int = AT_ONCE,
) -> Draws:
    """The bodies of latents (n, D) of one person.

    All have the pelvis where the posterior's head sees it, as ProHMR's samples do.

    Args:
        given: the posterior of B people. row: whose. body: in its number type.
        at_once: bounds the memory; it changes nothing but rounding.
    """
    start = given.start()
    assert start is not None, "the posterior has to be told what was seen"
    one = given.rows(torch.tensor([row], device=latents.device))
    mode = one.decode(start.latent[row : row + 1])
    pelvis = joint_index("pelvis")
    place = start.transl[row] + body.rest_joints(mode.betas)[0, pelvis]
    parts = [
        _decode(one, latents[first : first + at_once]) for first in range(0, len(latents), at_once)
    ]
    rotations, betas = (torch.cat(p) for p in zip(*parts, strict=True))
    transl = place - body.rest_joints(betas)[:, pelvis]
    return Draws(
        rotations,
        betas,
        transl,
        body.joints(betas, rotations, transl),
        one.log_prob(latents),
    )


def _decode(one: Posterior, latents: Tensor) -> tuple[Tensor, Tensor]:
    whose = torch.zeros(len(latents), dtype=torch.long, device=latents.device)
    pose = one.rows(whose).decode_draws(latents)
    return pose.rotations, pose.betas
