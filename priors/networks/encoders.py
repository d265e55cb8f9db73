"""What turns the seen into the condition of a flow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.cameras import Camera
from flowfit.priors.networks.precision import MixedPrecision

_LEAST_BOX = 1.0  # pixels


class Boxes(NamedTuple):
    """The square around a person's seen keypoints: center (B, 2) and side (B,), pixels."""

    center: Tensor
    side: Tensor


def keypoint_boxes(keypoints: Tensor, confidence: Tensor) -> Boxes:
    """Boxes of (B, K, 2) pixels where the confidence (B, K) is positive.

    Somebody of whom nothing was seen gets a box of one pixel at the origin.
    """
    seen = (confidence > 0)[..., None]
    low = keypoints.masked_fill(~seen, torch.inf).amin(1)
    high = keypoints.masked_fill(~seen, -torch.inf).amax(1)
    nobody = ~seen.any(1)
    low, high = low.masked_fill(nobody, 0), high.masked_fill(nobody, 0)
    return Boxes((low + high) / 2, (high - low).amax(-1).clamp(min=_LEAST_BOX))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(torch.relu(self.norm(x)))))


class KeypointEncoder(MixedPrecision):
    """Residual network on keypoints in their box.

    Seen by the network: each keypoint's place in the box (-1 to 1), its confidence and whether it
    was seen at all; where the box lies and how large it is relative to the focal length, because
    the same picture off-centre is another orientation. Distances and sizes in the picture as such
    are not seen.

    Args:
        keypoints: K. context: C. width, blocks: of the network.
    """

    def __init__(
        self, keypoints: int, context: int = 256, *, width: int = 512, blocks: int = 3
    ) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.enter = nn.Linear(4 * keypoints + 3, width)
        self.blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(blocks)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, context))

    def features(self, keypoints: Tensor, confidence: Tensor, camera: Camera) -> Tensor:
        """What the network sees: (B, 4 K + 3)."""
        box = keypoint_boxes(keypoints, confidence)
        seen = confidence > 0
        place = 2 * (keypoints - box.center[:, None]) / box.side[:, None, None]
        place = torch.where(seen[..., None], place, 0)
        focal = camera.focal
        ray = (box.center - camera.center) / focal
        size = (box.side / focal.mean(-1)).log()
        anybody = seen.any(-1, keepdim=True)
        where = torch.cat((ray, 0.5 * (size[:, None] + 1.0)), -1)
        where = torch.where(anybody, where, 0)
        return torch.cat((place.flatten(1), confidence, seen.to(place.dtype), where), -1)

    def forward(self, keypoints: Tensor, confidence: Tensor, camera: Camera) -> Tensor:
        """Condition (B, C) from (B, K, 2) pixels, (B, K) confidences and the cameras."""
        features = self.features(keypoints, confidence, camera)
        with self.autocast(features):
            condition = self.leave(self.blocks(self.enter(features)))
        return condition.to(features.dtype)
