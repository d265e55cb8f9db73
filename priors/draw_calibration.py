"""How random latents become bodies whose spread is honest.

A flow is trained on targets with noise, because a rotation's 6D vector lies on a surface on which a
density over R^6 can grow without bound; so what it draws carries that noise on top of what is truly
open. And in 150 dimensions a Gaussian has nearly one radius only, where people are spread more
widely around their posteriors: easy ones inside, rare ones outside. Both are mended when bodies are
drawn, without another training; the mode and the energy of a fit stay what they are.

- The latent's length is drawn, too: z = s e, e standard normal, log s normal (a scale mixture).
- A share of Tweedie's step takes the noise off a drawn vector: E[clean | x] = x + noise^2 score(x)
  (Robbins 1956; Efron, Tweedie's formula and selection bias, JASA 106, 2011). The whole step makes
  draws too narrow, since a mean varies less than what it is the mean of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from priors.bound_encode import BoundEncode
from priors.bound_flow import BoundFlow

# chosen on validation people: `python -m benchmarks.calibrate`
CLEANED = 0.5
_GRID, _REACH = 161, 5.0  # places over the logarithm of the length, deviations to each side


@dataclass(frozen=True)
class DrawCalibration:
    """See the module's text; the defaults change nothing.

    Attributes:
        noise: standard deviation that training put on the rotations' 6D numbers.
        cleaned: share of Tweedie's step. length, length_spread: exp of the mean, and the standard
            deviation, of log s.
    """

    noise: float = 0.0
    cleaned: float = CLEANED
    length: float = 1.0
    length_spread: float = 0.0

    def told(self) -> dict[str, float]:
        """For a checkpoint's JSON."""
        return asdict(self)

    def lengths(self, normal: Tensor) -> Tensor:
        """The factors s that standard normal numbers stand for."""
        return self.length * (self.length_spread * normal).exp()

    def log_ratio(self, latent: Tensor) -> Tensor:
        """Log density of latents (..., D) less that of a standard normal. -> (...), nats."""
        square = (latent * latent).sum(-1)
        return self._log_parts(square, latent.shape[-1]).logsumexp(-1) + 0.5 * square

    def precision(self, latent: Tensor) -> Tensor:
        """E[s^-2 | z] of latents (..., D): the score of z is -z times it. -> (...)."""
        square = (latent * latent).sum(-1)
        share = self._log_parts(square, latent.shape[-1]).softmax(-1)
        return share @ (-2 * self._grid(latent)[0]).exp()

    def _grid(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Places of log s and the logarithms of their shares."""
        places = torch.linspace(-_REACH, _REACH, _GRID, dtype=like.dtype, device=like.device)
        log_share = (-0.5 * places * places).log_softmax(-1)
        return math.log(self.length) + self.length_spread * places, log_share

    def _log_parts(self, square: Tensor, features: int) -> Tensor:
        """Log of each part of the mixture (..., _GRID), without the normal's constant."""
        log_length, log_share = self._grid(square)
        return log_share - features * log_length - 0.5 * square[..., None] * (-2 * log_length).exp()


def calibration_of(about: Mapping[str, Any], where: str) -> DrawCalibration:
    """The calibration that a checkpoint's JSON tells; what it leaves out changes nothing.

    Raises:
        InputError: it tells something else than the four numbers.
    """
    told = about.get("draws", {})
    names = tuple(DrawCalibration().told())
    good = isinstance(told, Mapping) and all(
        name in names and isinstance(v, (int, float)) and math.isfinite(v) and v >= 0
        for name, v in told.items()
    )
    if not good or told.get("length", 1.0) == 0:
        raise InputError(f"{where}: draws must hold {', '.join(names)}, numbers from 0")
    return DrawCalibration(**{name: float(v) for name, v in told.items()})


def fit_lengths(latents: Tensor, noise: float, cleaned: float = CLEANED) -> DrawCalibration:
    """The calibration under which latents (B, D) of true bodies have the lengths that they have.

    Args:
        latents: of bodies with the targets' noise, people who were not trained on.
        noise: of the targets.
    """
    features = latents.shape[-1]
    log = 0.5 * (latents.double() ** 2).sum(-1).div(features).log()
    # what the length of a standard normal vector has by itself
    own_mean, own_variance = -0.5 / features, 0.5 / features
    spread = (log.var() - own_variance).clamp(min=0).sqrt()
    return DrawCalibration(noise, cleaned, float((log.mean() - own_mean).exp()), float(spread))


@torch.no_grad()
def clean_vectors(
    flow: BoundFlow, latent: Tensor, calibration: DrawCalibration, noisy: int
) -> Tensor:
    """Vectors (B, D) of drawn latents (B, D), without most of the targets' noise.

    Args:
        flow: bound to their conditions. noisy: how many of the first numbers had noise.
    """
    vectors = flow.decode(latent)
    step = calibration.cleaned * calibration.noise**2
    if not step:
        return vectors
    pull = BoundEncode.of(flow).linearize(vectors).pull
    score = -pull((calibration.precision(latent)[:, None] * latent)[:, None])[:, 0]
    score[:, noisy:] = 0
    return vectors + step * score
