"""Residual networks for images (He et al. 2016), with torchvision's parameter names.

torchvision has no build for the CPU build of torch; weights saved from its models load here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu, self.downsample = nn.ReLU(), downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, H / stride, W / stride)."""
        kept = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + kept)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions (ResNet-50); the stride is on the 3x3, as in torchvision."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu, self.downsample = nn.ReLU(), downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, 4 width, H / stride, W / stride)."""
        kept = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + kept)


_DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """An image encoder: average-pooled features, no classifier.

    Args:
        depth: 18, 34 or 50. width: channels of the first stage (64 in the paper); they double from
            stage to stage. widths: of all four stages, in its place.
    """

    def __init__(
        self, depth: int = 50, width: int = 64, *, widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if depth not in _DEPTHS:
            raise ValueError(f"depth {depth}: choose from {sorted(_DEPTHS)}")
        block, counts = _DEPTHS[depth]
        widths = [width * 2**stage for stage in range(4)] if widths is None else widths
        width = widths[0]
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.features = width
        self.stage_features: list[int] = []
        for stage, count in enumerate(counts):
            layer = self._stage(block, widths[stage], count, 1 if stage == 0 else 2)
            self.add_module(f"layer{stage + 1}", layer)  # torchvision's names
            self.stage_features.append(self.features)

    @property
    def stages(self) -> list[nn.Module]:
        """The four stages, in order."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(4)]

    def _stage(
        self, block: type[BasicBlock] | type[Bottleneck], width: int, count: int, stride: int
    ) -> nn.Module:
        outputs = width * block.expansion
        downsample = None
        if stride != 1 or self.features != outputs:
            downsample = nn.Sequential(
                _conv(self.features, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
        blocks: list[nn.Module] = [block(self.features, width, stride, downsample)]
        blocks += [block(outputs, width, 1, None) for _ in range(1, count)]
        self.features = outputs
        return nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, C) of images (B, 3, H, W), normalised as the weights want it."""
        return self.pyramid(images)[-1].mean((-1, -2))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The four stages' features, at a quarter to a 32nd of the resolution."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found
