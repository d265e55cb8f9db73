"""A flow whose conditions are known: what does not move with the latent is computed once.

The condition enters each coupling net at its first layer, so its share of that layer is cached;
ActNorm and the LU layer are composed into one matrix. Derivatives are pulled back from what
depends on the vectors: a solver has 50 reprojection residuals a person, and 50 rows are a third of
the work of the whole Jacobian's 154. A coupling net's own derivative is a product of its weight
matrices and its units' slopes. For evaluation: batch norm uses its running
statistics, dropout is off, and no gradients are recorded.

Nearly all the work of pulling back is products with large matrices. A solver's model of the energy
does not need their last digits, so it can have them in bfloat16 where the hardware multiplies that
faster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from flowfit.priors.networks.flow import ConditionalFlow, FirstLayerContextNet
from flowfit.priors.networks.precision import fast_bfloat16


@dataclass(frozen=True, eq=False)
class _Affine:
    """y = x * factor + shift, or nothing when there is no batch norm."""

    factor: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: nn.BatchNorm1d) -> _Affine:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        return cls(factor, norm.bias - norm.running_mean * factor)


@dataclass(frozen=True, eq=False)
class _Block:
    norms: tuple[_Affine | None, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Chain:
    """The matrices of one step that derivatives are multiplied with on their way back."""

    kept: int
    matrix: Tensor
    last: Tensor
    blocks: tuple[tuple[Tensor, ...], ...]
    first: Tensor

    def bfloat16(self) -> Chain:
        """The same with 8 bits of precision."""
        blocks = tuple(tuple(w.bfloat16() for w in block) for block in self.blocks)
        ends = self.matrix.bfloat16(), self.last.bfloat16()
        return Chain(self.kept, *ends, blocks, self.first.bfloat16())


@dataclass(frozen=True, eq=False)
class Chains:
    """Those of all steps, latent side first; the rough ones are made when first asked for."""

    exact: tuple[Chain, ...]

    @cached_property
    def rough(self) -> tuple[Chain, ...]:
        """In bfloat16."""
        return tuple(chain.bfloat16() for chain in self.exact)


@dataclass(frozen=True, eq=False)
class FlowStep:
    """One [ActNorm, LU, coupling], latent to data.

    The kept numbers stand before the shifted ones; the matrix already gives the order that the next
    step wants.
    """

    kept: int
    activation: str
    first: Tensor  # (H, kept)
    given: Tensor  # (B, H), the condition's share of the first layer with its bias
    blocks: tuple[_Block, ...]
    last: tuple[Tensor, Tensor]
    matrix: Tensor  # (D, D), inverse of LU and ActNorm
    offset: Tensor  # (D,)

    def rows(self, index: Tensor) -> FlowStep:
        """The same for some of the conditions."""
        return replace(self, given=self.given[index])

    def chain(self) -> Chain:
        """What derivatives are multiplied with."""
        blocks = tuple(block.weights for block in self.blocks)
        return Chain(self.kept, self.matrix, self.last[0], blocks, self.first)


class VectorPullBack(Protocol):
    """From derivatives by a flow's vectors to derivatives by its latent."""

    def __call__(self, rows: Tensor, *, rough: bool = False) -> Tensor:
        """Of rows (B, R, D); with `rough` in bfloat16, where that is faster."""
        ...


@dataclass(frozen=True, eq=False)
class BoundFlow:
    """`ConditionalFlow.decode` for B fixed conditions.

    Attributes:
        steps: latent side first. chains: what pulls back through each, the same for everybody.
        order: (D,) the latent's numbers as the first step wants them.
        scale: (B, D) widths of the latent directions, or None.
    """

    steps: tuple[FlowStep, ...]
    chains: Chains
    order: Tensor
    scale: Tensor | None
    features: int

    @classmethod
    @torch.no_grad()
    def bind(cls, flow: ConditionalFlow, context: Tensor) -> BoundFlow:
        """Fix the conditions (B, C)."""
        layers = list(reversed(flow.steps))
        orders = [
            torch.cat((coupling.identity_features, coupling.transform_features))
            for _, _, coupling in layers
        ]
        natural = torch.arange(flow.features, device=context.device)
        steps = []
        for (norm, linear, coupling), own, following in zip(
            layers, orders, [*orders[1:], natural], strict=True
        ):
            net = coupling.transform_net
            assert isinstance(net, FirstLayerContextNet)
            weight = net.initial_layer.weight
            given = context @ weight[:, net.kept :].T + net.initial_layer.bias
            lower, upper = linear._create_lower_upper()
            eye = torch.eye(flow.features, dtype=context.dtype, device=context.device)
            inverse = torch.linalg.solve_triangular(lower, eye, upper=False, unitriangular=True)
            inverse = torch.linalg.solve_triangular(upper, inverse, upper=True)
            inverse = inverse / norm.scale[:, None]
            offset = -(inverse @ linear.bias) - norm.shift / norm.scale
            blocks = []
            for block in net.blocks:
                norms: list[_Affine | None] = [None, None]
                if block.use_batch_norm:
                    norms = [_Affine.of(n) for n in block.batch_norm_layers]
                weights = tuple(layer.weight for layer in block.linear_layers)
                biases = tuple(layer.bias for layer in block.linear_layers)
                blocks.append(_Block(tuple(norms), weights, biases))
            steps.append(
                FlowStep(
                    net.kept,
                    net.activation,
                    weight[:, : net.kept].contiguous(),
                    given,
                    tuple(blocks),
                    (net.final_layer.weight, net.final_layer.bias),
                    inverse[following][:, own].contiguous(),
                    offset[following],
                )
            )
        log_scale = flow.scales(context)
        scale = None if log_scale is None else log_scale.exp()
        chains = Chains(tuple(step.chain() for step in steps))
        return cls(tuple(steps), chains, orders[0], scale, flow.features)

    def rows(self, index: Tensor) -> BoundFlow:
        """The same for some of the conditions, repeats allowed."""
        scale = None if self.scale is None else self.scale[index]
        return replace(self, steps=tuple(s.rows(index) for s in self.steps), scale=scale)

    def widths(self) -> Tensor:
        """(B,): mean logarithm of the widths that each condition gives the latent."""
        if self.scale is None:
            return self.steps[0].given.new_zeros(len(self.steps[0].given))
        return self.scale.log().mean(-1)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Vectors (B, D) of latents (B, D)."""
        return self._run(latent)[0]

    @torch.no_grad()
    def linearize(self, latent: Tensor) -> tuple[Tensor, VectorPullBack]:
        """Vectors (B, D) of latents, and a function for derivatives there.

        It takes derivatives by the vectors (B, R, D), R of them a person, to derivatives by the
        latents (B, R, D).
        """
        vectors, slopes = self._run(latent)
        back = self.order.argsort()

        @torch.no_grad()
        def pull_back(rows: Tensor, *, rough: bool = False) -> Tensor:
            chains, through, wanted = self.chains.exact, slopes, rows.dtype
            if rough and wanted == torch.float32 and fast_bfloat16(rows.device):
                chains, rows = self.chains.rough, rows.bfloat16()
                through = [[[s.bfloat16() for s in b] for b in of_net] for of_net in slopes]
            for chain, of_net in zip(reversed(chains), reversed(through), strict=True):
                rows = rows @ chain.matrix
                kept, shifted = rows[..., : chain.kept], rows[..., chain.kept :]
                rows = torch.cat((kept - pull_back_net(chain, of_net, shifted), shifted), -1)
            rows = rows.to(wanted).index_select(-1, back)
            return rows if self.scale is None else rows * self.scale[:, None]

        return vectors, pull_back

    def _run(self, latent: Tensor) -> tuple[Tensor, list[Slopes]]:
        """Vectors, and the slopes of each coupling net's units."""
        value = latent if self.scale is None else latent * self.scale
        value = value.index_select(-1, self.order)
        slopes = []
        for step in self.steps:
            kept, shifted = value[:, : step.kept], value[:, step.kept :]
            shift, of_net = net_shift(step, kept)
            slopes.append(of_net)
            joined = torch.cat((kept, shifted - shift), -1)
            value = torch.addmm(step.offset, joined, step.matrix.T)
        return value, slopes


Slopes = list[list[Tensor]]  # of each block and layer: (B, H)


def _activate(name: str, value: Tensor) -> tuple[Tensor, Tensor]:
    """An activation of `flowfit.priors.networks.flow.ACTIVATIONS` and its slope."""
    if name == "relu":
        return value.relu(), value > 0
    gate = value.sigmoid()
    active = value * gate
    return active, torch.addcmul(gate + active, gate, active, value=-1)


def net_shift(step: FlowStep, kept: Tensor) -> tuple[Tensor, Slopes]:
    """Output (B, shifted) of the coupling net, and its slopes."""
    hidden = torch.addmm(step.given, kept, step.first.T)
    slopes: Slopes = []
    for block in step.blocks:
        inner, of_block = hidden, []
        for norm, weight, bias in zip(block.norms, block.weights, block.biases, strict=True):
            if norm is not None:
                inner = inner * norm.factor + norm.shift
            active, slope = _activate(step.activation, inner)
            of_block.append(slope if norm is None else slope * norm.factor)
            inner = torch.addmm(bias, active, weight.T)
        slopes.append(of_block)
        hidden = hidden + inner
    weight, bias = step.last
    return torch.addmm(bias, hidden, weight.T), slopes


def pull_back_net(chain: Chain, slopes: Slopes, rows: Tensor) -> Tensor:
    """Derivatives by the net's output (B, R, shifted) to derivatives by its input (B, R, kept)."""
    rows = rows @ chain.last
    for weights, of_block in zip(reversed(chain.blocks), reversed(slopes), strict=True):
        inner = rows
        for weight, slope in zip(reversed(weights), reversed(of_block), strict=True):
            inner = (inner @ weight) * slope[:, None]
        rows = rows + inner
    return rows @ chain.first
