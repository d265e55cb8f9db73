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

Both go with how much is open: somebody seen clearly is where the posterior says, and most of what
it draws is noise; of somebody hardly seen it is too sure, and sometimes far off. What tells the two
apart is the person's width: the mean logarithm of the widths that the condition gives the latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.priors.networks.bound_encode import BoundEncode
from flowfit.priors.networks.bound_flow import BoundFlow

# chosen on validation people: `python -m benchmarks.posterior.calibrate`
CLEANED, CLEANED_BY_WIDTH = 0.7, -5.0
_GRID, _REACH = 161, 5.0  # places over the logarithm of the length, deviations to each side
_FITTING = 100  # steps at most


@dataclass(frozen=True)
class DrawCalibration:
    """See the module's text; the defaults change nothing.

    Attributes:
        noise: standard deviation that training put on the rotations' 6D numbers.
        cleaned: share of Tweedie's step. length, length_spread: exp of the mean, and the standard
            deviation, of log s. All three for somebody of the usual width.
        cleaned_by_width, length_by_width, spread_by_width: what a width larger by 1 adds to the
            share, and to the logarithms of the other two.
        usual_width: the mean width of the people that the calibration was fitted on.
    """

    noise: float = 0.0
    cleaned: float = CLEANED
    length: float = 1.0
    length_spread: float = 0.0
    cleaned_by_width: float = 0.0
    length_by_width: float = 0.0
    spread_by_width: float = 0.0
    usual_width: float = 0.0

    def told(self) -> dict[str, float]:
        """For a checkpoint's JSON."""
        return asdict(self)

    def of_widths(self, width: Tensor) -> Drawing:
        """How to draw people of these widths (B,)."""
        wider = width - self.usual_width
        return Drawing(
            self.noise,
            (self.cleaned + self.cleaned_by_width * wider).clamp(0, 1),
            math.log(self.length) + self.length_by_width * wider,
            self.length_spread * (self.spread_by_width * wider).exp(),
        )


class Drawing(NamedTuple):
    """How B people's bodies are drawn; B = 1 goes with any number of latents.

    Attributes:
        noise: of the targets. cleaned: (B,) share of Tweedie's step.
        log_length, spread: (B,) mean and standard deviation of log s.
    """

    noise: float
    cleaned: Tensor
    log_length: Tensor
    spread: Tensor

    def lengths(self, normal: Tensor) -> Tensor:
        """The factors s that standard normal numbers (B,) stand for."""
        return (self.log_length + self.spread * normal).exp()

    def log_ratio(self, latent: Tensor) -> Tensor:
        """Log density of latents (B, D) less that of a standard normal. -> (B,), nats."""
        square = (latent * latent).sum(-1)
        return self._log_parts(square, latent.shape[-1]).logsumexp(-1) + 0.5 * square

    def precision(self, latent: Tensor) -> Tensor:
        """E[s^-2 | z] of latents (B, D): the score of z is -z times it. -> (B,)."""
        square = (latent * latent).sum(-1)
        share = self._log_parts(square, latent.shape[-1]).softmax(-1)
        return (share * (-2 * self._grid()[0]).exp()).sum(-1)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Places of log s (B, _GRID) and the logarithms of their shares (_GRID,)."""
        like = self.log_length
        places = torch.linspace(-_REACH, _REACH, _GRID, dtype=like.dtype, device=like.device)
        log_share = (-0.5 * places * places).log_softmax(-1)
        return self.log_length[:, None] + self.spread[:, None] * places, log_share

    def _log_parts(self, square: Tensor, features: int) -> Tensor:
        """Log of each part of the mixture (B, _GRID), without the normal's constant."""
        log_length, log_share = self._grid()
        return log_share - features * log_length - 0.5 * square[:, None] * (-2 * log_length).exp()


def calibration_of(about: Mapping[str, Any], where: str) -> DrawCalibration:
    """The calibration that a checkpoint's JSON tells; what it leaves out changes nothing.

    Raises:
        InputError: it tells something else than these numbers.
    """
    told = about.get("draws", {})
    names = tuple(DrawCalibration().told())
    good = isinstance(told, Mapping) and all(
        name in names
        and isinstance(v, (int, float))
        and math.isfinite(v)
        and (v >= 0 or name.endswith("_width"))
        for name, v in told.items()
    )
    if not good or told.get("length", 1.0) == 0:
        raise InputError(f"{where}: draws must hold {', '.join(names)}, finite numbers")
    return DrawCalibration(**{name: float(v) for name, v in told.items()})


def fit_lengths(latents: Tensor, widths: Tensor, noise: float) -> DrawCalibration:
    """The calibration under which latents (B, D) of true bodies have the lengths that they have.

    The logarithm of a length is taken for normal; its mean and the logarithm of its spread go
    straight with the person's width. Maximum likelihood.

    Args:
        latents: of bodies with the targets' noise, people who were not trained on.
        widths: (B,), theirs. noise: of the targets.
    """
    features = latents.shape[-1]
    log = 0.5 * (latents.double() ** 2).sum(-1).div(features).log()
    # what the length of a standard normal vector has by itself
    off, own_variance = log + 0.5 / features, 0.5 / features
    usual = widths.double().mean()
    wider = widths.double() - usual
    spread = (off.var() - own_variance).clamp(min=1e-6).sqrt()
    numbers = torch.stack((off.mean(), off.new_zeros(()), spread.log(), off.new_zeros(())))
    numbers.requires_grad_()
    fitting = torch.optim.LBFGS([numbers], max_iter=_FITTING, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        fitting.zero_grad()
        mean, mean_slope, log_spread, spread_slope = numbers
        variance = own_variance + (2 * (log_spread + spread_slope * wider)).exp()
        away = off - mean - mean_slope * wider
        total: Tensor = (variance.log() + away * away / variance).mean()
        total.backward()
        return total

    with torch.enable_grad():
        fitting.step(cost)
    mean, mean_slope, log_spread, spread_slope = numbers.detach().tolist()
    return DrawCalibration(
        noise, CLEANED, math.exp(mean), math.exp(log_spread),
        CLEANED_BY_WIDTH, mean_slope, spread_slope, float(usual),
    )  # fmt: skip


@torch.no_grad()
def clean_vectors(flow: BoundFlow, latent: Tensor, drawing: Drawing, noisy: int) -> Tensor:
    """Vectors (B, D) of drawn latents (B, D), without most of the targets' noise.

    Args:
        flow: bound to their conditions. drawing: of these people. noisy: how many of the first
            numbers had noise.
    """
    vectors = flow.decode(latent)
    if not drawing.noise:
        return vectors
    step = (drawing.cleaned * drawing.noise**2)[:, None]
    pull = BoundEncode.of(flow).linearize(vectors).pull
    score = -pull((drawing.precision(latent)[:, None] * latent)[:, None])[:, 0]
    score[:, noisy:] = 0
    return vectors + step * score
