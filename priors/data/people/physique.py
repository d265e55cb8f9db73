"""People of other proportions than the ten betas know, and children."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.proportions import NAMES, has_proportions, limb_factor, proportion_index


@dataclass(frozen=True)
class Physique:
    """Shapes of people on a body with `models.proportions`; other bodies are left alone.

    Attributes:
        children: share of children. child_size: range of their size, as a share of an adult's.
        adult_growth: standard deviation of an adult's coefficient of growth, whose stature the
            betas know already.
    """

    children: float = 0.0
    child_size: tuple[float, float] = (0.5, 0.92)
    adult_growth: float = 0.3

    def __call__(self, betas: Tensor, body: Body, generator: torch.Generator) -> Tensor:
        """Changed copies of betas (B, S) that are N(0, 1)."""
        if not has_proportions(body):
            return betas
        count, device, dtype = len(betas), betas.device, betas.dtype
        own, parts = betas[:, : -len(NAMES)], betas[:, -len(NAMES) :]
        # long limbs go together
        together = limb_factor().to(device=device, dtype=dtype)
        factor = torch.randn(count, 1, generator=generator, dtype=dtype, device=device)
        parts = factor * together + parts * (1 - together * together).sqrt()
        place = proportion_index(body, "growth") - own.shape[1]
        low, high = self.child_size
        unit = torch.rand(count, 2, generator=generator, dtype=dtype, device=device)
        child = unit[:, 0] < self.children
        grown = 10 * (low + (high - low) * unit[:, 1] - 1)
        parts[:, place] = torch.where(child, grown, self.adult_growth * parts[:, place])
        own = torch.where(child[:, None], 0.5 * own, own)  # a tall small child is no use
        return torch.cat((own, parts), 1)
