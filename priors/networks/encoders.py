"""What turns the seen into the condition of a flow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.cameras import Camera
from flowfit.priors.networks.precision import MixedPrecision

_LEAST_BOX = 1.0  # pixels
_KNOWN_NUMBERS = 6  # see `KeypointEncoder.known_features`
_USUAL_STATURE, _STATURE_SPREAD = 1.68, 0.1  # metres; of the logarithm


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


class Known(NamedTuple):
    """What may be known of people beside their keypoints; NaN where it is not.

    Attributes:
        up: (B, 3) where up is in the camera's frame, unit length. stature: (B,) metres.
    """

    up: Tensor
    stature: Tensor

    @staticmethod
    def nothing(like: Tensor) -> Known:
        """Of as many people as `like` has rows."""
        nan = like.new_full((len(like), 4), torch.nan)
        return Known(nan[:, :3], nan[:, 3])


class KeypointEncoder(MixedPrecision):
    """Residual network on keypoints in their box.

    Seen by the network: each keypoint's place in the box (-1 to 1), its confidence and whether it
    was seen at all; where the box lies and how large it is relative to the focal length, because
    the same picture off-centre is another orientation. Distances and sizes in the picture as such
    are not seen.

    Args:
        keypoints: K. context: C. width, blocks: of the network.
        hears: whether it can be told what is `Known`, too.
    """

    def __init__(
        self,
        keypoints: int,
        context: int = 256,
        *,
        width: int = 512,
        blocks: int = 3,
        hears: bool = False,
    ) -> None:
        super().__init__()
        self.keypoints, self.hears = keypoints, hears
        self.enter = nn.Linear(4 * keypoints + 3 + hears * _KNOWN_NUMBERS, width)
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

    @staticmethod
    def known_features(known: Known) -> Tensor:
        """(B, 6): up and whether it is known, stature and whether it is known."""
        up_known = known.up.isfinite().all(-1, keepdim=True)
        tall_known = known.stature.isfinite()[:, None]
        tall = (known.stature[:, None] / _USUAL_STATURE).log() / _STATURE_SPREAD
        return torch.cat(
            (
                torch.where(up_known, known.up, 0),
                up_known.to(known.up.dtype),
                torch.where(tall_known, tall, 0),
                tall_known.to(known.up.dtype),
            ),
            -1,
        )

    def forward(
        self,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        known: Known | None = None,
    ) -> Tensor:
        """Condition (B, C) from (B, K, 2) pixels, (B, K) confidences and the cameras.

        What is `known` counts only where the network was made to hear it.
        """
        features = self.features(keypoints, confidence, camera)
        if self.hears:
            known = Known.nothing(features) if known is None else known
            features = torch.cat((features, self.known_features(known)), -1)
        with self.autocast(features):
            condition = self.leave(self.blocks(self.enter(features)))
        return condition.to(features.dtype)
