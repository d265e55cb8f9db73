"""A body with its place in the world, the views about it, and how a step moves them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import State
from flowfit.models.rig import Rig
from flowfit.models.rotations import retract
from flowfit.models.rows import Rows
from flowfit.priors.base import Pose


@dataclass(frozen=True, eq=False)
class Placed(Rows):
    """What a state stands for: bodies with their places, and the views.

    Attributes:
        pose: rotations (B, 24, 3, 3), the root's into the world, and betas (B, S).
        transl: (B, 3) metres, world. rig: (B, V, 3, 3) and (B, V, 3).
    """

    pose: Pose
    transl: Tensor
    rig: Rig

    def state(self) -> State:
        """As the solver moves it."""
        parts = (self.pose.rotations, self.pose.betas, *self.rig)
        return State(torch.cat([p.flatten(1) for p in parts], -1), self.transl)

    def view_roots(self) -> Tensor:
        """Root rotations in each view's frame: (B, V, 3, 3)."""
        return self.rig.rotations @ self.pose.rotations[:, None, 0]


def place_directions(pivot: Tensor) -> Tensor:
    """How a place in a view (..., 3) moves with its three numbers: (..., 3, 3)."""
    depth = pivot[..., 2]
    aside = torch.stack((depth, torch.zeros_like(depth), torch.zeros_like(depth)), -1)
    return torch.stack((aside, aside.roll(1, -1), pivot), -1)


def moved_rig(rig: Rig, pivot: Tensor, step: Tensor) -> Rig:
    """The rig after each view has turned about a world point (B, 3) and moved it in its frame."""
    place = rig.to_cameras(pivot[:, None])[..., 0, :]
    rotations = retract(rig.rotations, step[..., :3])
    depth = place[..., 2:]
    aside = torch.nn.functional.pad(depth * step[..., 3:5], (0, 1))
    place = (place + aside) * step[..., 5:].clamp(-1, 1).exp()
    return Rig(rotations, place - (rotations @ pivot[:, None, :, None])[..., 0])
