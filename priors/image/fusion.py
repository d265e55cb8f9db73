"""What a picture adds to the condition of a keypoint posterior: the network that joins the two.

It is also shown the body that mended keypoints alone would give, its limbs' rotations to the
camera: the picture's part is to say where that first guess is wrong, which is mostly in depth. What
the network makes of the rotations is an output of its own, so that it can be taught directly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from flowfit.models.kinematics import NUM_JOINTS, forward_kinematics
from flowfit.models.rotations import matrix_to_rotation_6d
from flowfit.priors.image.mending import Mended
from flowfit.priors.networks.precision import MixedPrecision

TURN_NUMBERS = NUM_JOINTS * 6


class Joined(NamedTuple):
    """What follows from a picture and a first condition.

    Attributes:
        context: (B, C) the condition of the flow. mended: the keypoints as the picture has them.
        turns: (B, 24, 6) 6D vectors (not orthonormal) of the joints' rotations to the camera that
            looks at the crop, as the network sees them.
    """

    context: Tensor
    mended: Mended
    turns: Tensor


class Added(NamedTuple):
    """What the network adds.

    Attributes:
        context: (B, C) to the condition. trust: (B, 1), -1 to 1, the share of the way from the
            condition of the keypoints given to that of the mended ones. turns: (B, 24, 6) to the
            first guess.
    """

    context: Tensor
    trust: Tensor
    turns: Tensor


def turns_to_camera(rotations: Tensor, turn: Tensor) -> Tensor:
    """6D vectors (B, 24, 6) of the joints' rotations to the camera that looks at the crop.

    Args:
        rotations: (B, 24, 3, 3), each relative to the joint above, the root's to the picture's
            camera. turn: (B, 3, 3) as of `turn_to_crop`.
    """
    whole = forward_kinematics(rotations, rotations.new_zeros(NUM_JOINTS, 3))[0]
    return matrix_to_rotation_6d(turn.transpose(-1, -2)[:, None] @ whole)


class Fusion(MixedPrecision):
    """Residual network from all that is known to what it adds, which is zero at first.

    Args:
        known: size of what is known of the whole. close: of what is known of the points. width:
            of the network. context: C. blocks: that it is deep.
    """

    def __init__(self, known: int, close: int, width: int, context: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(known), nn.Linear(known, width))
        self.closer = nn.Sequential(
            nn.LayerNorm(close + TURN_NUMBERS), nn.Linear(close + TURN_NUMBERS, width)
        )
        self.block = _block(width)
        deeper = [_block(width) for _ in range(blocks - 1)]
        self.deeper = nn.ModuleList(deeper)
        self.turns = nn.Linear(width, TURN_NUMBERS)
        self.trust, self.leave = nn.Linear(width, 1), nn.Linear(width, context)
        with torch.no_grad():  # at first only what is known of the whole counts, and for nothing
            late = (self.turns, self.trust, self.leave)
            for module in (self.closer[1], *(b[1] for b in deeper), *late):
                for parameter in module.parameters():
                    parameter.zero_()

    def forward(self, known: Tensor, close: Tensor, guess: Tensor) -> Added:
        """What is added.

        Args:
            known: (B, known). close: (B, close). guess: (B, 24, 6) the first guess.
        """
        with self.autocast(known):
            closer = self.closer(torch.cat((close, guess.flatten(1)), -1))
            x = silu(self.enter(known) + closer)
            for block in (self.block, *self.deeper):
                x = x + block(x)
            made = self.leave(x), self.trust(x), self.turns(x)
        context, trust, turned = (t.to(known.dtype) for t in made)
        return Added(context, torch.tanh(trust), turned.unflatten(-1, (NUM_JOINTS, 6)))


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
