"""A flow whose conditions are known: what does not move with the latent is computed once.

The condition enters each coupling net at its first layer, so its share of that layer is cached;
ActNorm and the LU layer are composed into one matrix. The Jacobian is carried along with the
value: only half of the coordinates pass through a coupling net, whose own Jacobian is a product of
its weight matrices with the switched-off units struck out. For evaluation: batch norm uses its
running statistics, dropout is off, and no gradients are recorded.
"""

from __future__ import annotations

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
        return self._run(latent, jacobian=False)[0]

    @torch.no_grad()
    def decode_jacobian(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, D) and their Jacobian by the latents (B, D, D)."""
        vector, jacobian = self._run(latent, jacobian=True)
        assert jacobian is not None
        return vector, jacobian.transpose(-1, -2)

    def _run(self, latent: Tensor, *, jacobian: bool) -> tuple[Tensor, Tensor | None]:
        """Vectors, and their derivatives with the latent's directions as rows: (B, D, D).

        In this order a weight matrix meets all people and directions in one product.
        """
        slope = None
        if jacobian:
            ones = torch.ones_like(latent) if self.scale is None else self.scale
            slope = torch.diag_embed(ones)
        value = latent if self.scale is None else latent * self.scale
        for step in self.steps:
            kept = value[:, step.kept]
            kept_slope = None if slope is None else slope[..., step.kept]
            shift, shift_slope = _shift(step, kept, kept_slope)
            value = value.clone()
            value[:, step.shifted] -= shift
            value = value @ step.matrix.T + step.offset
            if slope is not None and shift_slope is not None:
                slope = slope.clone()
                slope[..., step.shifted] -= shift_slope
                slope = slope @ step.matrix.T
        return value, slope


def _shift(step: _Step, kept: Tensor, slope: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Output of the coupling net and its derivatives by the latent, (B, D, shifted)."""
    hidden = kept @ step.first.T + step.given
    carried = None if slope is None else slope @ step.first.T  # (B, D, H)
    for block in step.blocks:
        inner, inner_slope = hidden, carried
        for norm, weight, bias in zip(block.norms, block.weights, block.biases, strict=True):
            if norm is not None:
                inner = inner * norm.factor + norm.shift
            on = inner > 0
            if inner_slope is not None:
                gate = on.to(inner.dtype)
                if norm is not None:
                    gate = gate * norm.factor
                inner_slope = (gate[:, None] * inner_slope) @ weight.T
            inner = torch.where(on, inner, 0) @ weight.T + bias
        hidden = hidden + inner
        carried = None if carried is None or inner_slope is None else carried + inner_slope
    weight, bias = step.last
    return hidden @ weight.T + bias, None if carried is None else carried @ weight.T
