"""HMR's adversarial prior (Kanazawa et al., CVPR 2018): is this a pose and a shape of a person?

25 outputs: one for each of the 23 body joints, one for all joints together, one for the shape;
trained with least squares, as in ProHMR. Part of ProHMR's full loss; the built-in posterior
was trained without it (docs/training.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowfit.models.kinematics import NUM_BODY_JOINTS

OUTPUTS = NUM_BODY_JOINTS + 2
_JOINT_WIDTH, _ALL_WIDTH = 32, 1024


class Discriminator(nn.Module):
    """Scores of bodies; 1 is real, 0 is made up. The root's rotation is not seen.

    Args:
        num_betas: S.
    """

    def __init__(self, num_betas: int = 10) -> None:
        super().__init__()
        self.per_joint = nn.Sequential(
            nn.Linear(9, _JOINT_WIDTH), nn.ReLU(), nn.Linear(_JOINT_WIDTH, _JOINT_WIDTH), nn.ReLU()
        )
        self.joint_outputs = nn.ModuleList(
            nn.Linear(_JOINT_WIDTH, 1) for _ in range(NUM_BODY_JOINTS)
        )
        self.all_joints = nn.Sequential(
            nn.Linear(NUM_BODY_JOINTS * _JOINT_WIDTH, _ALL_WIDTH),
            nn.ReLU(),
            nn.Linear(_ALL_WIDTH, _ALL_WIDTH),
            nn.ReLU(),
            nn.Linear(_ALL_WIDTH, 1),
        )
        self.shape = nn.Sequential(
            nn.Linear(num_betas, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1)
        )

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """(B, 25) of bodies (B, 24, 3, 3), (B, S)."""
        hidden = self.per_joint(rotations[:, 1:].flatten(-2))
        joints = [out(hidden[:, j]) for j, out in enumerate(self.joint_outputs)]
        return torch.cat((*joints, self.all_joints(hidden.flatten(1)), self.shape(betas)), -1)


def realism_loss(scores: Tensor) -> Tensor:
    """What the posterior is to lower: (scores - 1)^2, summed over outputs, mean over bodies."""
    return ((scores - 1) ** 2).sum(-1).mean()


def discriminator_loss(real: Tensor, made_up: Tensor) -> Tensor:
    """What the discriminator is to lower, of scores (B, 25) and (N, 25)."""
    return ((real - 1) ** 2).sum(-1).mean() + (made_up**2).sum(-1).mean()
