"""Which latent a posterior gives a body, and how it moves with the body.

For fits in which the body itself is what moves because several posteriors judge it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.kinematics import NUM_JOINTS
from flowfit.models.rotations import matrix_to_rotation_6d, skew
from flowfit.priors.base import Pose, PosePrior
from flowfit.priors.keypoints.posterior import ROTATION_NUMBERS
from flowfit.priors.networks.bound_encode import BoundEncode


class LatentOfBody(NamedTuple):
    """A body's latent and its derivatives.

    Attributes:
        latent: (B, D).
        by_pose: () -> (B, D, 72 + S) by the left perturbations of the 24 local rotations (the
            root's in the camera's frame) and by the betas.
        pull: derivatives by the latent (B, R, D) -> by the same 72 + S numbers (B, R, 72 + S).
    """

    latent: Tensor
    by_pose: Callable[[], Tensor]
    pull: Callable[[Tensor], Tensor]


class BodyLatent:
    """`PosePrior.encode` of B people, with derivatives.

    Args:
        name: what results call it. encoder: of their conditions. num_betas: S.
    """

    costly = False  # not for the solver to learn: the objective holds its derivatives still

    def __init__(self, name: str, encoder: BoundEncode, num_betas: int) -> None:
        self.name, self.encoder, self.num_betas = name, encoder, num_betas

    @classmethod
    def of(cls, given: PosePrior) -> BodyLatent:
        """For the people of a posterior over whole bodies that has looked at them."""
        assert given.flow is not None
        return cls(given.name, BoundEncode.of(given.flow), given.flow.features - ROTATION_NUMBERS)

    def usual_derivatives(self) -> None:
        """None: there is nothing to learn."""

    def rows(self, index: Tensor) -> BodyLatent:
        """The same for some of the people, repeats allowed."""
        return BodyLatent(self.name, self.encoder.rows(index), self.num_betas)

    def encode(self, pose: Pose) -> Tensor:
        """Latents (B, D)."""
        return self.encoder.encode(_vectors(pose))

    def linearize(self, pose: Pose) -> LatentOfBody:
        """Latents with what gives their derivatives."""
        latent, push, pull = self.encoder.linearize(_vectors(pose))

        def by_pose() -> Tensor:
            return push(_directions(pose)).transpose(-1, -2)

        def pull_to_pose(rows: Tensor) -> Tensor:
            return pull(rows) @ _directions(pose).transpose(-1, -2)

        return LatentOfBody(latent, by_pose, pull_to_pose)


def _vectors(pose: Pose) -> Tensor:
    return torch.cat((matrix_to_rotation_6d(pose.rotations).flatten(-2), pose.betas), -1)


def _directions(pose: Pose) -> Tensor:
    """How the vector moves along each of the 72 + S numbers: (B, 72 + S, D)."""
    batch, betas = pose.betas.shape
    turned = skew(pose.rotations[..., :2].transpose(-1, -2))  # (B, 24, 2 columns, 3, 3)
    # w x c = -[c] w; one row an axis of w
    by_axis = -turned.permute(0, 1, 4, 2, 3).flatten(-2)  # (B, 24, 3, 6)
    full = pose.betas.new_zeros(batch, 3 * NUM_JOINTS + betas, ROTATION_NUMBERS + betas)
    blocks = full[:, : 3 * NUM_JOINTS, :ROTATION_NUMBERS]
    blocks = blocks.unflatten(1, (NUM_JOINTS, 3)).unflatten(3, (NUM_JOINTS, 6))
    joint = torch.arange(NUM_JOINTS, device=full.device)
    blocks[:, joint, :, joint] = by_axis.transpose(0, 1)
    place = torch.arange(betas, device=full.device)
    full[:, 3 * NUM_JOINTS + place, ROTATION_NUMBERS + place] = 1
    return full
