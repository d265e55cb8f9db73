"""Importance sampling in steps small enough for its weights to be trusted.

In 157 dimensions a Gaussian that is nearly right gives weights of which a handful count. So the
draws go from the Gaussian to the target in several bridges (annealed importance sampling: Neal,
Statistics and Computing 11, 2001; with resampling: Del Moral, Doucet, Jasra, JRSS B 68, 2006). Each
bridge is as long as half of the draws still count; its weights are Pareto smoothed; the draws are
resampled by them and moved by Metropolis steps. These would leave a Gaussian as it is
(preconditioned Crank-Nicolson: Cotter et al., Statistical Science 28, 2013): that of the middle and
the widths which the draws have by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.one_view.importance import finite_or_never, smooth

_SHORTEST = 1e-3  # of the whole way; a bridge is never shorter
_HALVINGS = 20
_FIRST_REACH, _LEAST_REACH, _MOST_REACH = 0.5, 0.05, 0.95
_LEAST_WIDTH, _MOST_WIDTH = 0.1, 3.0
_FEW, _MANY = 0.25, 0.5  # shares of accepted moves between which the reach stays


class Annealed(NamedTuple):
    """Weighted draws from a target.

    Attributes:
        points: (S, P), where the Gaussian is the standard normal. weights: (S,), they sum to 1.
        k_hat: the worst Pareto shape of all bridges; above 0.7 the weights cannot be trusted.
        effective: the least effective number of draws of all bridges.
        bridges: how many there were. accepted: share of the moves, 0 when there were none.
    """

    points: Tensor
    weights: Tensor
    k_hat: float
    effective: float
    bridges: int
    accepted: float


def annealed(
    log_weight: Callable[[Tensor], Tensor],
    points: Tensor,
    generator: torch.Generator,
    *,
    least: float = 0.5,
    moves: int = 3,
    most_bridges: int = 12,
) -> Annealed:
    """Weighted draws from the target, given draws from the standard normal.

    Args:
        log_weight: of points (S, P): log of target over standard normal, up to a constant (S,).
        points: (S, P) draws from the standard normal. generator: of what else is random.
        least: share of the draws that a bridge must leave effective. moves: Metropolis steps after
            each bridge. most_bridges: the last one goes all the way, however far that is.
    """
    count = len(points)
    log = log_weight(points)
    done, bridges, tried, taken = 0.0, 0, 0, 0
    worst, fewest, reach = -torch.inf, float(count), _FIRST_REACH
    while True:
        ahead = 1 - done
        if bridges + 1 < most_bridges:
            ahead = _next(log, ahead, least * count)
        smoothed = smooth(ahead * finite_or_never(log))
        done, bridges = done + ahead, bridges + 1
        worst, fewest = max(worst, smoothed.k_hat), min(fewest, smoothed.effective)
        if done >= 1 - 1e-9:
            share = taken / tried if tried else 0.0
            return Annealed(points, smoothed.weights, worst, fewest, bridges, share)
        chosen = resample(smoothed.weights, generator)
        points, log = points[chosen], log[chosen]
        middle, width = points.mean(0), points.std(0).clamp(_LEAST_WIDTH, _MOST_WIDTH)
        score = _against(points, log, done, middle, width)
        for _ in range(moves):
            noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
            stay = (1 - reach**2) ** 0.5
            proposal = middle + stay * (points - middle) + reach * width * noise.to(points)
            new = log_weight(proposal)
            new_score = _against(proposal, new, done, middle, width)
            chance = torch.rand(count, generator=generator, dtype=torch.float64).to(log)
            better = chance.log() < (new_score - score).nan_to_num(nan=-torch.inf)
            points = torch.where(better[:, None], proposal, points)
            log, score = torch.where(better, new, log), torch.where(better, new_score, score)
            share = better.double().mean().item()
            tried, taken = tried + count, taken + int(better.sum())
            if share < _FEW:
                reach = max(_LEAST_REACH, reach * 0.7)
            elif share > _MANY:
                reach = min(_MOST_REACH, reach / 0.7)


def _against(points: Tensor, log: Tensor, done: float, middle: Tensor, width: Tensor) -> Tensor:
    """Log of the bridge's target over the Gaussian that the moves leave as it is: (S,)."""
    reference = 0.5 * (((points - middle) / width) ** 2).sum(-1)
    return done * log - 0.5 * (points * points).sum(-1) + reference


def _next(log: Tensor, ahead: float, wanted: float) -> float:
    """How far to go at once for `wanted` draws to stay effective."""
    if _effective(ahead * log) >= wanted:
        return ahead
    low, high = 0.0, ahead
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _effective(middle * log) >= wanted else (low, middle)
    return min(ahead, max(low, _SHORTEST))


def _effective(log: Tensor) -> float:
    weights = torch.softmax(finite_or_never(log), 0)
    return float(1 / (weights * weights).sum())


def resample(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Places (S,) of the draws to go on with: systematic, so that each is there as it weighs."""
    count = len(weights)
    start = torch.rand(1, generator=generator, dtype=torch.float64).to(weights.device)
    marks = (torch.arange(count, dtype=torch.float64, device=weights.device) + start) / count
    total = weights.double().cumsum(0)
    return torch.searchsorted(total / total[-1], marks).clamp(max=count - 1)
