"""What a picture shows at points of a person: at the keypoints, and in the middle of the bones.

Which of two crossed limbs is in front, how a limb is foreshortened and lit, where a foot points:
that is seen where the limb is, and not in where its keypoints are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from flowfit.models.keypoints import KeypointSchema
from flowfit.priors.networks.precision import MixedPrecision

_TAGS = 3  # of a point: whether it was given, how sure it is, whether it lies in the crop
_FARTHEST = 2.0  # crop sides from the middle; farther outside nothing is seen, either


def sample(features: Tensor, place: Tensor) -> Tensor:
    """Features (B, C, H, W) at places (B, P, 2), between pixels linearly. -> (B, P, C).

    Args:
        place: x and y in crop sides, 0 in the middle; nothing (0) is seen outside the crop.
    """
    grid = 2 * place.clamp(-_FARTHEST, _FARTHEST)
    found = grid_sample(
        features, grid[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return found[..., 0].transpose(1, 2)


class PointReader(MixedPrecision):
    """Reads maps of features at P points: a schema's K keypoints, and the middle of its E edges.

    One small network for all points, then one for each: a knee is read in another way than an ear.

    Args:
        schema: of the keypoints. channels: of the maps, together. shared: width of the network for
            all points. features: that are kept of each.
    """

    starts: Tensor
    ends: Tensor

    def __init__(
        self, schema: KeypointSchema, channels: int, *, shared: int = 48, features: int = 12
    ) -> None:
        super().__init__()
        keypoints = list(range(len(schema)))
        edges = schema.edge_indices
        # a keypoint is the middle between itself and itself
        for name, places in (
            ("starts", keypoints + [a for a, _ in edges]),
            ("ends", keypoints + [b for _, b in edges]),
        ):
            self.register_buffer(name, torch.tensor(places), persistent=False)
        self.points, self.features = len(self.starts), features
        self.shared = nn.Sequential(nn.Linear(channels + _TAGS, shared), nn.SiLU())
        self.weight = nn.Parameter(torch.randn(self.points, shared, features) / shared**0.5)
        self.bias = nn.Parameter(torch.zeros(self.points, 1, features))

    def places(self, keypoints: Tensor) -> Tensor:
        """The points (B, P, 2) of keypoints (B, K, 2)."""
        return (keypoints[:, self.starts] + keypoints[:, self.ends]) / 2

    def forward(
        self, maps: Sequence[Tensor], keypoints: Tensor, given: Tensor, sure: Tensor
    ) -> Tensor:
        """What is seen, (B, P, features).

        Args:
            maps: features (B, C, H, W) of the crop, of any resolutions. keypoints: (B, K, 2) crop
                sides, 0 in the middle. given: (B, K) boolean, which of them were given and not
                found by the image network itself. sure: (B, K) how sure of them one can be, 0 to 1.
        """
        place = self.places(keypoints.detach())  # where to look is not learned from what is seen
        tags = (
            (given[:, self.starts] & given[:, self.ends]).to(place.dtype),
            torch.minimum(sure[:, self.starts], sure[:, self.ends]),
            (place.abs().amax(-1) < 0.5).to(place.dtype),
        )
        seen = torch.cat((*(sample(m, place) for m in maps), torch.stack(tags, -1)), -1)
        with self.autocast(seen):
            hidden = self.shared(seen).transpose(0, 1)  # (P, B, shared)
            found = torch.relu(torch.baddbmm(self.bias, hidden, self.weight))
        return found.transpose(0, 1).to(place.dtype)
