"""Bfloat16 inside networks, and nowhere else: densities and rotations keep their digits.

And in a solver's model of how a flow's vectors move, where the device multiplies it faster.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

_FIRST_WITH_BFLOAT16 = 8  # compute capability: Ampere


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


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than of float32."""
    return _fast_bfloat16(device.type)


@cache
def _fast_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.get_device_capability()[0] >= _FIRST_WITH_BFLOAT16)
    if kind != "cpu":
        return False
    # elsewhere torch emulates it, slower than float32
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))
