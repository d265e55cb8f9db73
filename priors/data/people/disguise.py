"""What a posterior is told of a made-up detector's confidences."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowfit.models.keypoints import KeypointSchema

_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_FACE = ("Nose", "LEye", "REye", "LEar", "REar")
_MIDDLE = ("Neck", "MidHip")


def disguise(
    confidence: Tensor, schema: KeypointSchema, unseen: float, generator: torch.Generator
) -> Tensor:
    """Confidences as another detector might report them, with groups of keypoints left out.

    Detectors' confidences mean different things, and some report no feet, face or middle points;
    a posterior that trusts one synthetic detector's numbers would not work with any real one.
    """
    count, device = len(confidence), confidence.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=confidence.dtype, device=device)

    power = torch.exp(torch.log(torch.tensor(0.15)) + rand(1) * math.log(2.0 / 0.15))
    told = confidence**power
    flat = rand(1) < 0.2  # a detector that says 1 for all it found
    told = torch.where(flat & (confidence > 0), torch.ones_like(told), told)
    told = torch.where(confidence > 0, told, 0)
    for group, share in ((_FEET, 0.25), (_FACE, 0.05), (_MIDDLE, 0.15)):
        gone = rand() < share
        for name in group:
            if name in schema:
                place = schema.index(name)
                told[:, place] = torch.where(gone, 0, told[:, place])
    nothing = rand(1) < unseen
    return torch.where(nothing, torch.zeros_like(told), told)
