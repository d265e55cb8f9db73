"""HMR's discriminator while a posterior is trained against it."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.priors.networks.discriminator import Discriminator, discriminator_loss
from flowfit.priors.training.loop import share_gradients

_RATE = 1e-4  # ProHMR's


class Critic:
    """A discriminator and its optimizer; it takes a step after each of the posterior's.

    Args:
        num_betas: S. weight_decay: AdamW's. device: where.
    """

    def __init__(self, num_betas: int, weight_decay: float, device: torch.device) -> None:
        self.network = Discriminator(num_betas).to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=_RATE, weight_decay=weight_decay
        )

    def step(self, real: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor]) -> dict[str, float]:
        """Learn from true bodies and from what the posterior made; the loss, to log.

        Args:
            real, made: rotations (B, 24, 3, 3) and betas (B, S).
        """
        scores = self.network(*real)
        loss = discriminator_loss(scores, self.network(*(t.detach() for t in made)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(self.network.parameters())
        self.optimizer.step()
        return {"critic": float(loss.detach())}
