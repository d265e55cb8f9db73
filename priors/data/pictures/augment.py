"""Changes to pictures and labels for training, as in ProHMR's system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.priors.data.datasets.people import SCHEMA
from flowfit.priors.data.pictures.crops import MARGIN
from flowfit.priors.data.pictures.labels import Labels, mirrored, turned, turned_back
from flowfit.priors.networks.encoders import Boxes, keypoint_boxes

_HEAD = ("Nose", "LEye", "REye", "LEar", "REar", "Neck", "HeadTop", "Head", "Jaw")
_SHOULDERS = (*_HEAD, "LShoulder", "RShoulder", "Thorax")
_ARMS = ("LElbow", "RElbow", "LWrist", "RWrist")
_TRUNK = ("LHip", "RHip", "MidHip", "Pelvis", "Spine")
# what an extreme crop leaves of a person, and how often each is taken
PARTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "down to the hips": (0.7, (*_SHOULDERS, *_ARMS, *_TRUNK)),
    "head and shoulders": (0.2, _SHOULDERS),
    "head": (0.1, _HEAD),
}
_LEAST_LEFT = 3  # keypoints of which a crop can be made


class Changes(NamedTuple):
    """What happens to B people.

    Attributes:
        flip: (B,) boolean. degrees: (B,) clockwise. scale: (B,) of the box. shift: (B, 2) of the
            box, in sides. gain: (B, 3) factor of red, green, blue. part: (B,) place in `PARTS`, -1
            for the whole person. noise: (B, 44, 2) pixels. lost: (B, 44) boolean.
    """

    flip: Tensor
    degrees: Tensor
    scale: Tensor
    shift: Tensor
    gain: Tensor
    part: Tensor
    noise: Tensor
    lost: Tensor


class Changed(NamedTuple):
    """Labels after the changes, and how to cut the pictures that go with them.

    Attributes:
        labels: their box is the crop. center: (B, 2) pixels, the crop's middle in the (mirrored,
            where `changes` says so) picture before it is turned.
    """

    labels: Labels
    center: Tensor
    changes: Changes


@dataclass(frozen=True)
class PictureAugmentation:
    """How often and how far pictures are changed; ProHMR's numbers.

    Attributes:
        scale, shift: standard deviations, cut off at one of them. turn: of the rotation, degrees,
            cut off at two; of `turned` of the people. flip: share that is mirrored. colour: range
            of the channels' factors. crop: share of extreme crops. noise: standard deviation of the
            keypoints in box sides. lost: share of keypoints that are left out.
    """

    scale: float = 0.3
    shift: float = 0.02
    turn: float = 30.0
    turned: float = 0.6
    flip: float = 0.5
    colour: float = 0.2
    crop: float = 0.1
    noise: float = 0.01
    lost: float = 0.0

    def draw(self, labels: Labels, generator: torch.Generator) -> Changes:
        """Changes for B people; everything follows from the generator."""
        count, keypoints = labels.keypoints.shape[:2]
        like = labels.keypoints

        def rand(*shape: int) -> Tensor:
            unit = torch.rand(count, *shape, generator=generator, dtype=torch.float64)
            return unit.to(like)

        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
            return drawn.to(like)

        shares = torch.tensor([share for share, _ in PARTS.values()], dtype=torch.float64)
        part = torch.multinomial(shares, max(1, count), True, generator=generator)[:count]
        part = torch.where(rand() < self.crop, part.to(like.device), -1)
        spread = self.noise * keypoint_boxes(labels.keypoints, labels.confidence).side
        return Changes(
            rand() < self.flip,
            self.turn * normal().clamp(-2, 2) * (rand() < self.turned),
            1 + self.scale * normal().clamp(-1, 1),
            self.shift * normal(2).clamp(-1, 1),
            1 + self.colour * (2 * rand(3) - 1),
            part,
            spread[:, None, None] * normal(keypoints, 2),
            rand(keypoints) < self.lost,
        )


def apply(changes: Changes, labels: Labels, body: Body) -> Changed:
    """The labels after the changes; keypoints outside the new crop of a part are not seen."""
    labels = _only_part(labels, changes.part)
    labels = mirrored(labels, changes.flip, body)
    labels = turned(labels, changes.degrees, body)
    box = Boxes(
        labels.box.center + changes.shift * labels.box.side[:, None],
        labels.box.side * changes.scale,
    )
    confidence = torch.where(changes.lost, 0, labels.confidence)
    outside = (labels.keypoints - box.center[:, None]).abs().amax(-1) > box.side[:, None] / 2
    cut_off = outside & (changes.part >= 0)[:, None]
    confidence = torch.where(cut_off, 0, confidence)
    seen = (confidence > 0)[..., None]
    labels = labels._replace(
        box=box,
        keypoints=torch.where(seen, labels.keypoints + changes.noise, 0),
        confidence=confidence,
    )
    center = turned_back(box.center, changes.degrees, labels.camera.center)
    return Changed(labels, center, changes)


def _only_part(labels: Labels, part: Tensor) -> Labels:
    """The boxes around a part of the people; of whom too little of it is seen stays whole."""
    center, side = labels.box
    for place, (_, names) in enumerate(PARTS.values()):
        inside = torch.tensor(
            [name.rpartition(":")[2] in names for name in SCHEMA.names], device=part.device
        )
        trust = torch.where(inside, labels.confidence, 0)
        around = keypoint_boxes(labels.keypoints, trust)
        enough = (part == place) & ((trust > 0).sum(-1) >= _LEAST_LEFT)
        center = torch.where(enough[:, None], around.center, center)
        side = torch.where(enough, MARGIN * around.side, side)
    return labels._replace(box=Boxes(center, side))
