"""Bfloat16 inside networks, and nowhere else: densities and rotations keep their digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MixedPrecision(nn.Module):
    """A network whose products may be computed in bfloat16.

    Attributes:
        mixed: whether they are; off until `set_mixed_precision`.
    """

    mixed: bool = False

    def autocast(self, inputs: Tensor) -> torch.autocast:
        """The context in which to run the network."""
        return torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.mixed)


def set_mixed_precision(model: nn.Module, mixed: bool) -> None:
    """Turn it on or off in every part of a model that knows it."""
    for module in model.modules():
        if isinstance(module, MixedPrecision):
            module.mixed = mixed
