"""What a picture says of each keypoint that was given: is it right, and where exactly is it.

Keypoints that the picture contradicts, and those that were not given, are put where the image
network finds them, as long as that is inside the box of the given ones: the keypoint posterior
says where somebody is relative to that box. What comes out is keypoints again, for it to read.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from flowfit.priors.image.encoder import Glance
from flowfit.priors.networks.precision import MixedPrecision

_NUMBERS = 8  # of a keypoint, beside its features
_RIGHT = 2.0  # logit of being right before anything is learned
_STEP = 0.1  # crop sides that a keypoint is moved by an output of 1
_FAR = 0.3  # crop sides; how much farther two places are apart does not matter


class Mended(NamedTuple):
    """K keypoints of B people, mended.

    Attributes:
        place: (B, K, 2) crop sides, the middle is 0. confidence: (B, K).
        moved: (B, K, 2) the places given, moved to where the picture has them; without meaning
            where none was given. right_logit: (B, K) of whether the given place is right.
    """

    place: Tensor
    confidence: Tensor
    moved: Tensor
    right_logit: Tensor


class Mender(MixedPrecision):
    """A small network for each keypoint.

    Args:
        keypoints: K. features: F that are read at each. width: of the networks.
    """

    def __init__(self, keypoints: int, features: int, *, width: int = 32) -> None:
        super().__init__()
        inputs = features + _NUMBERS
        self.enter = nn.Parameter(torch.randn(keypoints, inputs, width) / inputs**0.5)
        self.enter_bias = nn.Parameter(torch.zeros(keypoints, 1, width))
        self.leave = nn.Parameter(torch.zeros(keypoints, width, 3))
        self.leave_bias = nn.Parameter(torch.zeros(keypoints, 1, 3))

    def forward(
        self,
        close: Tensor,
        glance: Glance,
        place: Tensor,
        confidence: Tensor,
        sure: Tensor,
        fits: Tensor,
    ) -> Mended:
        """Mend keypoints.

        Args:
            close: (B, K, F) what is seen at the places. glance: of the image network. place:
                (B, K, 2) crop sides; where none is given, the network's own. confidence: (B, K), 0
                where none is given. sure: (B, K) how sure the network is of its own. fits: (B, K)
            boolean, which of its own may stand in.
        """
        given = confidence > 0
        apart = (place - glance.place).clamp(-_FAR, _FAR) / _FAR
        heat = _own_map(glance.log_map.detach(), place)
        numbers = (
            *apart.unbind(-1), apart.norm(dim=-1), heat, confidence, sure,
            10 * glance.spread, glance.peak,
        )  # fmt: skip
        known = torch.cat((close, torch.stack(numbers, -1)), -1).transpose(0, 1)
        with self.autocast(known):
            hidden = silu(torch.baddbmm(self.enter_bias, known, self.enter))
            found = torch.baddbmm(self.leave_bias, hidden, self.leave)
        found = found.transpose(0, 1).to(place.dtype)
        moved, logit = place + _STEP * found[..., :2], found[..., 2] + _RIGHT
        right = torch.sigmoid(logit)
        kept = given & (logit > 0)
        return Mended(
            torch.where(kept[..., None], moved, glance.place),
            torch.where(kept, confidence * right, torch.where(fits, sure, 0)),
            moved,
            logit,
        )


def _own_map(log_map: Tensor, place: Tensor) -> Tensor:
    """(B, K) each keypoint's own map (B, K, M, M) in the cell of its own place (B, K, 2).

    0 where the map is as high as an even one; of 32 x 32 cells 0.7 at a sharp peak, and -0.7 where
    it is empty.
    """
    size = log_map.shape[-1]
    column, row = ((place.nan_to_num() + 0.5) * size).floor().clamp(0, size - 1).long().unbind(-1)
    found = log_map.flatten(2).gather(-1, (row * size + column)[..., None])[..., 0]
    even = math.log(size * size)
    return (found + even).clamp(min=-even) / 10
