"""A flow whose conditions are known: what does not move with the latent is computed once.

The condition enters each coupling net at its first layer, so its share of that layer is cached;
ActNorm and the LU layer are composed into one matrix. Derivatives are pulled back from what
depends on the vectors: a solver has 50 reprojection residuals a person, and 50 rows are a third of
the work of the whole Jacobian's 154. A coupling net's own derivative is a product of its weight
matrices with the switched-off units struck out. For evaluation: batch norm uses its running
statistics, dropout is off, and no gradients are recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from priors.flow import ConditionalFlow, FirstLayerContextNet


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
class _Step:
    """One [ActNorm, LU, coupling], latent to data."""

    kept: Tensor
    shifted: Tensor
    first: Tensor  # (H, kept)
    given: Tensor  # (B, H), the condition's share of the first layer with its bias
    blocks: tuple[_Block, ...]
    last: tuple[Tensor, Tensor]
    matrix: Tensor  # (D, D), inverse of LU and ActNorm
    offset: Tensor  # (D,)

    def rows(self, index: Tensor) -> _Step:
        return _Step(**{**self.__dict__, "given": self.given[index]})


@dataclass(frozen=True, eq=False)
class BoundFlow:
    """`ConditionalFlow.decode` for B fixed conditions.

    Attributes:
        steps: latent side first. scale: (B, D) widths of the latent directions, or None.
    """

    steps: tuple[_Step, ...]
    scale: Tensor | None
    features: int

    @classmethod
    @torch.no_grad()
    def bind(cls, flow: ConditionalFlow, context: Tensor) -> BoundFlow:
        """Fix the conditions (B, C)."""
        steps = []
        for norm, linear, coupling in reversed(flow.steps):
            net = coupling.transform_net
            assert isinstance(net, FirstLayerContextNet)
            weight = net.initial_layer.weight
            given = context @ weight[:, net.kept :].T + net.initial_layer.bias
            lower, upper = linear._create_lower_upper()
            eye = torch.eye(flow.features, dtype=context.dtype, device=context.device)
            inverse = torch.linalg.solve_triangular(lower, eye, upper=False, unitriangular=True)
            inverse = torch.linalg.solve_triangular(upper, inverse, upper=True)
            inverse = inverse / norm.scale[:, None]
            blocks = []
            for block in net.blocks:
                norms: list[_Affine | None] = [None, None]
                if block.use_batch_norm:
                    norms = [_Affine.of(n) for n in block.batch_norm_layers]
                weights = tuple(layer.weight for layer in block.linear_layers)
                biases = tuple(layer.bias for layer in block.linear_layers)
                blocks.append(_Block(tuple(norms), weights, biases))
            steps.append(
                _Step(
                    coupling.identity_features,
                    coupling.transform_features,
                    weight[:, : net.kept],
                    given,
                    tuple(blocks),
                    (net.final_layer.weight, net.final_layer.bias),
                    inverse,
                    -(inverse @ linear.bias) - norm.shift / norm.scale,
                )
            )
        log_scale = flow.scales(context)
        scale = None if log_scale is None else log_scale.exp()
        return cls(tuple(steps), scale, flow.features)

    def rows(self, index: Tensor) -> BoundFlow:
        """The same for some of the conditions, repeats allowed."""
        scale = None if self.scale is None else self.scale[index]
        return BoundFlow(tuple(s.rows(index) for s in self.steps), scale, self.features)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Vectors (B, D) of latents (B, D)."""
        return self._run(latent)[0]

    @torch.no_grad()
    def linearize(self, latent: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Vectors (B, D) of latents, and a function for derivatives there.

        It takes derivatives by the vectors (B, R, D), R of them a person, to derivatives by the
        latents (B, R, D).
        """
        vectors, switched = self._run(latent)

        @torch.no_grad()
        def pull_back(rows: Tensor) -> Tensor:
            for step, gates in zip(reversed(self.steps), reversed(switched), strict=True):
                rows = rows @ step.matrix
                through = _pull_back_net(step, gates, rows[..., step.shifted])
                rows[..., step.kept] -= through
            return rows if self.scale is None else rows * self.scale[:, None]

        return vectors, pull_back

    def _run(self, latent: Tensor) -> tuple[Tensor, list[Gates]]:
        """Vectors, and which units of each coupling net were on."""
        value = latent if self.scale is None else latent * self.scale
        switched = []
        for step in self.steps:
            shift, gates = _shift(step, value[:, step.kept])
            switched.append(gates)
            value = value.clone()
            value[:, step.shifted] -= shift
            value = value @ step.matrix.T + step.offset
        return value, switched


Gates = list[list[Tensor]]  # of each block and layer: (B, H), 0 or 1


def _shift(step: _Step, kept: Tensor) -> tuple[Tensor, Gates]:
    """Output (B, shifted) of the coupling net, and its gates."""
    hidden = kept @ step.first.T + step.given
    gates: Gates = []
    for block in step.blocks:
        inner, of_block = hidden, []
        for norm, weight, bias in zip(block.norms, block.weights, block.biases, strict=True):
            if norm is not None:
                inner = inner * norm.factor + norm.shift
            gate = (inner > 0).to(inner.dtype)
            of_block.append(gate)
            inner = inner.clamp(min=0) @ weight.T + bias
        gates.append(of_block)
        hidden = hidden + inner
    weight, bias = step.last
    return hidden @ weight.T + bias, gates


def _pull_back_net(step: _Step, gates: Gates, rows: Tensor) -> Tensor:
    """Derivatives by the net's output (B, R, shifted) to derivatives by its input (B, R, kept)."""
    rows = rows @ step.last[0]
    for block, of_block in zip(reversed(step.blocks), reversed(gates), strict=True):
        inner = rows
        layers = list(zip(block.norms, block.weights, of_block, strict=True))
        for norm, weight, gate in reversed(layers):
            slope = gate if norm is None else gate * norm.factor
            inner = (inner @ weight) * slope[:, None]
        rows = rows + inner
    return rows @ step.first
