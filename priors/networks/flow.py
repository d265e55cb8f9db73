"""The conditional normalizing flow of ProHMR: a Glow on vectors, after Kolotouros et al. 2021.

Data to latent is the forward direction: several times [ActNorm, LU linear, additive coupling]. The
couplings keep the even indices and shift the odd ones, then the other way round; the shift comes
from a residual net that sees the kept half and the condition, the condition at its first layer
only. The parts are nflows' own, put together so that the parameter names are the released ones.

Additive couplings keep volumes: ProHMR's density is equally wide for every condition. Here the
latent may be scaled by the condition (`conditional_scale`), z = u / scale(condition), which leaves
the mode at z = 0 and the energy at half the squared norm of z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from nflows.nn.nets.resnet import ResidualBlock, ResidualNet
from nflows.transforms.base import CompositeTransform
from nflows.transforms.coupling import AdditiveCouplingTransform
from nflows.transforms.lu import LULinear
from nflows.transforms.normalization import ActNorm
from torch import Tensor, nn

from flowfit.models.errors import InputError
from flowfit.priors.networks.precision import MixedPrecision

_BATCH_NORM_EPS = 1e-5  # nflows has 1e-3; the released weights were made with torch's default
_LAYERS_A_STEP = 3
_LOG_SCALE_RANGE = 3.0
# of the coupling nets. ProHMR's is relu; a second-order solver wants a smooth one
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
}


class FirstLayerContextNet(MixedPrecision, ResidualNet):
    """nflows' residual net with the condition at the first layer and in no block."""

    # what nflows, which has no types, puts there
    initial_layer: nn.Linear
    blocks: Sequence[ResidualBlock]
    final_layer: nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: int,
        context: int,
        blocks: int,
        dropout: float,
        batch_norm: bool,
        activation: str,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise InputError(f"no activation {activation!r}; there are {', '.join(ACTIVATIONS)}")
        super().__init__(
            in_features + context,
            out_features,
            hidden,
            num_blocks=blocks,
            activation=ACTIVATIONS[activation],
            dropout_probability=dropout,
            use_batch_norm=batch_norm,
        )
        self.kept, self.activation = in_features, activation
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eps = _BATCH_NORM_EPS

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Shift (N, out) from the kept half (N, in) and the condition (N, C)."""
        with self.autocast(inputs):
            shift = super().forward(torch.cat((inputs, context), -1))
        return shift.to(inputs.dtype)


class SafeActNorm(ActNorm):
    """nflows' ActNorm with a floor under the data's spread when it is initialised."""

    def _initialize(self, inputs: Tensor) -> None:
        with torch.no_grad():
            spread = inputs.std(dim=0).clamp(min=1e-3)
            self.log_scale.copy_(-spread.log())
            self.shift.copy_(-(inputs / spread).mean(dim=0))
            self.initialized.fill_(True)


class LatentDensity(NamedTuple):
    """Latents (..., D) of vectors and the vectors' log density (...), nats."""

    latent: Tensor
    log_prob: Tensor


class ConditionalFlow(nn.Module):
    """p(x | condition) over vectors of D numbers.

    Args:
        features: D. context: C, the condition's size. hidden: width of the residual nets.
        steps: number of [ActNorm, LU, coupling]. blocks: residual blocks of each net.
        dropout, batch_norm: of the residual nets, as in ProHMR (0.5, True) or off.
        conditional_scale: let the condition set the width of each latent direction.
        activation: of the residual nets, a name in `ACTIVATIONS`.
    """

    def __init__(
        self,
        features: int,
        context: int,
        *,
        hidden: int = 1024,
        steps: int = 4,
        blocks: int = 2,
        dropout: float = 0.5,
        batch_norm: bool = True,
        conditional_scale: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.features, self.context, self.activation = features, context, activation
        layers: list[nn.Module] = []
        mask = torch.ones(features)
        mask[::2] = -1  # the even indices are kept first

        def net(kept: int, shifted: int) -> nn.Module:
            return FirstLayerContextNet(
                kept, shifted, hidden, context, blocks, dropout, batch_norm, activation
            )

        for _ in range(steps):
            layers += [
                SafeActNorm(features),
                LULinear(features),
                AdditiveCouplingTransform(mask, net),
            ]
            mask = -mask
        self._transform = CompositeTransform(layers)
        self.log_scale = nn.Linear(context, features) if conditional_scale else None
        if self.log_scale is not None:
            nn.init.zeros_(self.log_scale.weight)
            nn.init.zeros_(self.log_scale.bias)

    @property
    def steps(self) -> list[tuple[ActNorm, LULinear, AdditiveCouplingTransform]]:
        """The layers, three and three, data side first."""
        layers = list(self._transform._transforms)
        return [
            tuple(layers[i : i + _LAYERS_A_STEP]) for i in range(0, len(layers), _LAYERS_A_STEP)
        ]

    def widths(self, context: Tensor) -> Tensor:
        """(B,): mean logarithm of the widths that conditions (B, C) give the latent."""
        log_scale = self.scales(context)
        return context.new_zeros(len(context)) if log_scale is None else log_scale.mean(-1)

    def scales(self, context: Tensor) -> Tensor | None:
        """Logarithm of each latent direction's width (..., D), or None where all are 1."""
        if self.log_scale is None:
            return None
        return _LOG_SCALE_RANGE * torch.tanh(self.log_scale(context) / _LOG_SCALE_RANGE)

    def encode(self, vectors: Tensor, context: Tensor) -> LatentDensity:
        """Latents and log density of vectors.

        Args:
            vectors: (B, D) or (B, S, D), several of one condition. context: (B, C).
        """
        many = vectors.ndim == 3
        if many:
            samples = vectors.shape[1]
            flat, given = vectors.flatten(0, 1), context.repeat_interleave(samples, 0)
        else:
            flat, given = vectors, context
        latent, log_det = self._transform(flat, given)
        scale = self.scales(given)
        if scale is not None:
            latent, log_det = latent * (-scale).exp(), log_det - scale.sum(-1)
        log_prob = log_det - 0.5 * (latent * latent).sum(-1) - self.log_normalizer
        if many:
            latent, log_prob = (
                latent.unflatten(0, (-1, samples)),
                log_prob.unflatten(0, (-1, samples)),
            )
        return LatentDensity(latent, log_prob)

    def decode(self, latent: Tensor, context: Tensor) -> LatentDensity:
        """Vectors of latents, and the vectors' log density. Shapes as in `encode`."""
        many = latent.ndim == 3
        samples = latent.shape[1] if many else 1
        given = context.repeat_interleave(samples, 0) if many else context
        flat = latent.flatten(0, 1) if many else latent
        log_prob = -0.5 * (flat * flat).sum(-1) - self.log_normalizer
        scale = self.scales(given)
        if scale is not None:
            flat, log_prob = flat * scale.exp(), log_prob - scale.sum(-1)
        for norm, linear, coupling in reversed(self.steps):
            flat = coupling.inverse(flat, given)[0]
            lower, upper = linear._create_lower_upper()
            flat = torch.linalg.solve_triangular(
                lower, (flat - linear.bias).T, upper=False, unitriangular=True
            )
            flat = torch.linalg.solve_triangular(upper, flat, upper=True).T
            flat = (flat - norm.shift) / norm.scale
            log_prob = log_prob + linear.logabsdet() + norm.log_scale.sum()
        if many:
            flat, log_prob = flat.unflatten(0, (-1, samples)), log_prob.unflatten(0, (-1, samples))
        return LatentDensity(flat, log_prob)

    @property
    def log_normalizer(self) -> float:
        """Of the D-dimensional standard normal: D/2 log 2 pi."""
        return 0.5 * self.features * math.log(2 * math.pi)
