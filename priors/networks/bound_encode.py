"""A bound flow run the other way: from vectors to latents, with derivatives both ways.

A single view's fit moves the latent and decodes. Where several posteriors judge one body, the body
is what moves, and each posterior must say which latent it is there. The layers are those of
`BoundFlow`; their matrices are inverted once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.priors.networks.bound_flow import BoundFlow, FlowStep, Slopes, net_shift, pull_back_net


class Linearized(NamedTuple):
    """Latents and their derivatives.

    Attributes:
        latent: (B, D).
        push: directions of the vectors (B, C, D) -> how the latents move along them (B, C, D).
        pull: derivatives by the latents (B, R, D) -> derivatives by the vectors (B, R, D).
    """

    latent: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class BoundEncode:
    """`ConditionalFlow.encode` for B fixed conditions, without the density.

    Attributes:
        flow: the same, latent to vectors. inverses: (D, D) of its steps' matrices, latent side
            first.
    """

    flow: BoundFlow
    inverses: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, flow: BoundFlow) -> BoundEncode:
        """Turn a bound flow around."""
        return cls(
            flow, tuple(torch.linalg.inv(s.matrix.double()).to(s.matrix) for s in flow.steps)
        )

    def rows(self, index: Tensor) -> BoundEncode:
        """The same for some of the conditions, repeats allowed."""
        return BoundEncode(self.flow.rows(index), self.inverses)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """Latents (B, D) of vectors (B, D)."""
        return self._run(vectors)[0]

    @torch.no_grad()
    def linearize(self, vectors: Tensor) -> Linearized:
        """Latents of vectors (B, D), and functions for derivatives there."""
        latent, slopes = self._run(vectors)
        order = self.flow.order
        back = order.argsort()
        scale = None if self.flow.scale is None else self.flow.scale[:, None]

        @torch.no_grad()
        def push(rows: Tensor) -> Tensor:
            for (step, inverse), of_net in zip(self._backwards(), slopes, strict=True):
                rows = rows @ inverse.T
                kept, shifted = rows[..., : step.kept], rows[..., step.kept :]
                rows = torch.cat((kept, shifted + _push_net(step, of_net, kept)), -1)
            rows = rows.index_select(-1, back)
            return rows if scale is None else rows / scale

        @torch.no_grad()
        def pull(rows: Tensor) -> Tensor:
            rows = rows if scale is None else rows / scale
            rows = rows.index_select(-1, order)
            layers = zip(reversed(self._backwards()), reversed(slopes), strict=True)
            for (step, inverse), of_net in layers:
                kept, shifted = rows[..., : step.kept], rows[..., step.kept :]
                rows = torch.cat((kept + pull_back_net(step.chain(), of_net, shifted), shifted), -1)
                rows = rows @ inverse
            return rows

        return Linearized(latent, push, pull)

    def _backwards(self) -> list[tuple[FlowStep, Tensor]]:
        """The steps with their inverses, data side first."""
        return list(zip(self.flow.steps, self.inverses, strict=True))[::-1]

    def _run(self, vectors: Tensor) -> tuple[Tensor, list[Slopes]]:
        """Latents, and the slopes of each coupling net's units, data side first."""
        value = vectors
        slopes = []
        for step, inverse in self._backwards():
            value = (value - step.offset) @ inverse.T
            kept, shifted = value[:, : step.kept], value[:, step.kept :]
            shift, of_net = net_shift(step, kept)
            slopes.append(of_net)
            value = torch.cat((kept, shifted + shift), -1)
        value = value.index_select(-1, self.flow.order.argsort())
        return (value if self.flow.scale is None else value / self.flow.scale), slopes


def _push_net(step: FlowStep, slopes: Slopes, rows: Tensor) -> Tensor:
    """Directions of the net's input (B, C, kept) to how its output moves (B, C, shifted)."""
    rows = rows @ step.first.T
    for block, of_block in zip(step.blocks, slopes, strict=True):
        inner = rows
        for weight, slope in zip(block.weights, of_block, strict=True):
            inner = (inner * slope[:, None]) @ weight.T
        rows = rows + inner
    return rows @ step.last[0].T
