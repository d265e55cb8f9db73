"""What a posterior is told of a made-up detector's confidences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.models.keypoints import KeypointSchema

_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_FACE = ("Nose", "LEye", "REye", "LEar", "REar")
_MIDDLE = ("Neck", "MidHip")


@dataclass(frozen=True)
class Missing:
    """Groups of keypoints that some detectors do not report, by how often they are left out.

    Attributes:
        feet, face, middle: share of people without these. coco: without feet and middle, as all
            detectors of COCO's 17 are.
    """

    feet: float = 0.25
    face: float = 0.05
    middle: float = 0.15
    coco: float = 0.0


def disguise(
    confidence: Tensor,
    schema: KeypointSchema,
    unseen: float,
    generator: torch.Generator,
    missing: Missing | None = None,
) -> Tensor:
    """Confidences as another detector might report them, with groups of keypoints left out.

    Detectors' confidences mean different things, and some report no feet, face or middle points;
    a posterior that trusts one synthetic detector's numbers would not work with any real one.
    """
    missing = missing or Missing()
    count, device = len(confidence), confidence.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=confidence.dtype, device=device)

    power = torch.exp(torch.log(torch.tensor(0.15)) + rand(1) * math.log(2.0 / 0.15))
    told = confidence**power
    flat = rand(1) < 0.2  # a detector that says 1 for all it found
    told = torch.where(flat & (confidence > 0), torch.ones_like(told), told)
    told = torch.where(confidence > 0, told, 0)
    groups = ((_FEET, missing.feet), (_FACE, missing.face), (_MIDDLE, missing.middle))
    for group, share in (*groups, *(((*_FEET, *_MIDDLE), missing.coco),) * bool(missing.coco)):
        gone = rand() < share
        for name in group:
            if name in schema:
                place = schema.index(name)
                told[:, place] = torch.where(gone, 0, told[:, place])
    nothing = rand(1) < unseen
    return torch.where(nothing, torch.zeros_like(told), told)
