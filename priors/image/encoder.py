"""What an image network sees of a person: where the keypoints are, and what it looks like there.

A small ResNet, a pyramid that brings its coarse features back to a quarter of the picture's
resolution, a heat map for each keypoint. A keypoint's place is the mean of its map around the
highest peak: where left and right cannot be told apart there are two, and between them is
nobody. Its features are the pyramid's, averaged with the whole map, so they come from where the
keypoint may be. Which side is left depends on where the person faces, so features of the whole crop
gate those of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from flowfit.priors.networks.precision import MixedPrecision
from flowfit.priors.networks.resnet import ResNet

_MIDDLE, _SPREAD = 0.45, 0.26  # of pictures' values, about
_AROUND_PEAK = 0.125  # crop sides to each side that belong to a peak
_SHARPNESS = 4.0  # of the heat maps when training begins, as a factor on their logits


class Glance(NamedTuple):
    """What is seen in B crops.

    Attributes:
        place: (B, K, 2) x and y in the crop, in its sides; the middle is 0.
        confidence_logit: (B, K). spread: (B, K) how wide a keypoint's map is, in crop sides.
        peak: (B, K) share of the map that lies around its highest peak.
        at_keypoints: (B, K, F) features. whole: (B, C) features of the whole crop.
        root: (B, 6) 6D vector of the pelvis' rotation, to the camera that looks at the crop.
        log_map: (B, K, M, M) logarithms of the keypoints' maps, each of which sums to 1.
        near, wide: (B, N, M, M) and (B, W, M / 2, M / 2) features of every place of the crop, of
            its surroundings close by and of wider ones.
    """

    place: Tensor
    confidence_logit: Tensor
    spread: Tensor
    peak: Tensor
    at_keypoints: Tensor
    whole: Tensor
    root: Tensor
    log_map: Tensor
    near: Tensor
    wide: Tensor


class ImageEncoder(MixedPrecision):
    """See the module's text.

    Args:
        keypoints: K. widths: channels of the ResNet's four stages. depth: of the ResNet.
        pyramid, fine: channels at an eighth and at a quarter of the resolution. features: F.
        near: N, channels that describe every place at a quarter of the resolution.
    """

    def __init__(
        self,
        keypoints: int,
        *,
        widths: Sequence[int] = (24, 48, 96, 128),
        depth: int = 18,
        pyramid: int = 64,
        fine: int = 32,
        features: int = 24,
        near: int = 32,
    ) -> None:
        super().__init__()
        self.backbone = ResNet(depth, widths=widths)
        quarter, eighth, sixteenth, last = self.backbone.stage_features
        self.whole_features, self.keypoint_features = last, features
        self.from_last = nn.Conv2d(last, pyramid, 1)
        self.from_sixteenth = nn.Conv2d(sixteenth, pyramid, 1)
        self.from_eighth = nn.Conv2d(eighth, pyramid, 1)
        self.smooth = _convolution(pyramid, pyramid)
        self.gate = nn.Linear(last, 2 * pyramid)
        self.mix = _convolution(pyramid + 2, pyramid)  # and where in the crop
        self.mixed_in = nn.Conv2d(pyramid, pyramid, 3, padding=2, dilation=2)
        with torch.no_grad():  # what the gate lets through is learned from nothing
            for parameter in (*self.gate.parameters(), *self.mixed_in.parameters()):
                parameter.zero_()
        self.root = nn.Linear(last, 6)
        self.to_fine, self.from_quarter = nn.Conv2d(pyramid, fine, 1), nn.Conv2d(quarter, fine, 1)
        self.smooth_fine = _convolution(fine, fine)
        self.heat = nn.Conv2d(fine, keypoints, 1)
        self.near = _convolution(fine, near)
        self.map_features = near + pyramid
        self.describe = nn.Linear(pyramid, features)
        self.seen_weight = nn.Parameter(0.02 * torch.randn(keypoints, pyramid))
        self.seen_bias = nn.Parameter(torch.zeros(keypoints))

    def forward(self, images: Tensor) -> Glance:
        """What is seen in crops (B, 3, N, N), RGB, 0 to 1; N a multiple of 32."""
        x = ((images - _MIDDLE) / _SPREAD).contiguous(memory_format=torch.channels_last)
        with self.autocast(images):
            quarter, eighth, sixteenth, last = self.backbone.pyramid(x)
            coarse = self.from_sixteenth(sixteenth) + interpolate(
                self.from_last(last), scale_factor=2
            )
            features = self.from_eighth(eighth) + interpolate(coarse, scale_factor=2)
            features = self._gated(self.smooth(features), last.mean((-1, -2)))
            fine = self.from_quarter(quarter) + interpolate(self.to_fine(features), scale_factor=2)
            fine = torch.relu(fine)
            heat, near = self.heat(self.smooth_fine(fine)), self.near(fine)
        # rotations and places keep their digits
        heat, features, last, near = (t.to(images.dtype) for t in (heat, features, last, near))
        return self._read(heat, features, last.mean((-1, -2)), near)

    def _read(self, heat: Tensor, features: Tensor, whole: Tensor, near: Tensor) -> Glance:
        size = heat.shape[-1]
        log_map = (_SHARPNESS * heat).flatten(2).log_softmax(-1).view(heat.shape)
        share = log_map.exp()
        line = (torch.arange(size, dtype=heat.dtype, device=heat.device) + 0.5) / size - 0.5
        columns, rows = share.sum(2), share.sum(3)
        mean = columns @ line, rows @ line
        square = columns @ line.square() + rows @ line.square()
        spread = (square - mean[0].square() - mean[1].square()).clamp(min=1e-8).sqrt()
        top = share.flatten(2).argmax(-1)
        window = [
            ((line - line[at][..., None]).abs() <= _AROUND_PEAK).to(share.dtype)
            for at in (top % size, torch.div(top, size, rounding_mode="floor"))
        ]
        around = share * window[1][..., None] * window[0][..., None, :]
        peak = around.sum((-1, -2))
        place = torch.stack((around.sum(2) @ line, around.sum(3) @ line), -1) / peak[..., None]
        coarse = (4 * avg_pool2d(share, 2)).flatten(2)
        at_keypoints = coarse @ features.flatten(2).transpose(1, 2)  # (B, K, pyramid)
        logit = (at_keypoints * self.seen_weight).sum(-1) + self.seen_bias
        described = torch.relu(self.describe(at_keypoints))
        root = self.root(whole)
        return Glance(place, logit, spread, peak, described, whole, root, log_map, near, features)

    def _gated(self, features: Tensor, whole: Tensor) -> Tensor:
        count, _, height, width = features.shape
        scale, shift = self.gate(whole)[..., None, None].chunk(2, 1)
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype),
            torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype),
            indexing="ij",
        )
        where = torch.stack((x, y)).expand(count, -1, -1, -1)
        gated = self.mix(torch.cat((features * (1 + scale) + shift, where), 1))
        return features + self.mixed_in(gated)


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
