"""Importance weights with their largest ones smoothed (PSIS).

Vehtari, Simpson, Gelman, Yao, Gabry: "Pareto smoothed importance sampling", JMLR 25(72), 2024. The
largest weights are replaced by the quantiles of a generalised Pareto distribution fitted to them,
by the method of Zhang and Stephens, "A new and efficient estimation method for the generalized
Pareto distribution", Technometrics 51(3), 2009. Its shape k says how far to trust the weights:
above 0.7 they cannot be.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

TRUSTED_K = 0.7
_LEAST_TAIL = 5  # weights; fewer cannot be fitted
_PRIOR_WEIGHT, _PRIOR_K = 10.0, 0.5  # a weak prior on k: ten weights' worth of 0.5


class Smoothed(NamedTuple):
    """Weights that sum to 1 (S), the Pareto shape k, and the effective number of samples."""

    weights: Tensor
    k_hat: float
    effective: float


def smooth(log_weights: Tensor) -> Smoothed:
    """Pareto-smoothed weights of S draws.

    Args:
        log_weights: (S,) log of target over proposal, up to a constant; -inf for impossible draws.

    Returns:
        k is infinite where there are too few possible draws to tell.
    """
    count = len(log_weights)
    log = finite_or_never(log_weights)
    if not bool(log.isfinite().any()):
        even = torch.full_like(log, 1 / max(count, 1))
        return Smoothed(even.to(log_weights), math.inf, 0.0)
    log = log - log.max()
    weights = log.exp()
    tail = min(math.ceil(count / 5), math.ceil(3 * math.sqrt(count)))
    order = log.argsort(stable=True)
    k_hat = math.inf
    if tail >= _LEAST_TAIL and tail < count:
        largest = order[count - tail :]
        cutoff = weights[order[count - tail - 1]]
        above = weights[largest] - cutoff
        if bool((above > 0).sum() >= _LEAST_TAIL):
            k_hat, sigma = fit_pareto(above)
            share = (torch.arange(tail, dtype=log.dtype, device=log.device) + 0.5) / tail
            smoothed = cutoff + pareto_quantile(share, k_hat, sigma)
            # no smoothed weight exceeds the largest that was there
            weights = weights.index_copy(0, largest, smoothed.clamp(max=1.0))
        else:
            k_hat = -math.inf  # all large weights are alike: nothing to smooth
    weights = weights / weights.sum()
    return Smoothed(weights.to(log_weights), k_hat, float(1 / (weights * weights).sum()))


def finite_or_never(log_weights: Tensor) -> Tensor:
    """In float64, with -inf for what is no finite number."""
    log = log_weights.double()
    return torch.where(log.isfinite(), log, -math.inf)


def fit_pareto(above: Tensor) -> tuple[float, float]:
    """Shape k and scale of a generalised Pareto distribution of positive numbers (N,), in order."""
    values = above.double().clamp(min=torch.finfo(torch.float64).tiny)
    count = len(values)
    grid = 30 + int(math.sqrt(count))
    place = torch.arange(1, grid + 1, dtype=torch.float64, device=values.device)
    quarter = values[int(count / 4 + 0.5) - 1]
    theta = (1 - (grid / (place - 0.5)).sqrt()) / (3 * quarter) + 1 / values[-1]
    shape = torch.log1p(-theta[:, None] * values).mean(-1)
    likelihood = count * ((-theta / shape).log() - shape - 1)
    belief = torch.softmax(likelihood.nan_to_num(nan=-math.inf), 0)
    best = float((theta * belief).sum())
    k = float(torch.log1p(-best * values).mean())
    sigma = -k / best
    k = (k * count + _PRIOR_WEIGHT * _PRIOR_K) / (count + _PRIOR_WEIGHT)
    return k, sigma


def pareto_quantile(share: Tensor, k: float, sigma: float) -> Tensor:
    """Inverse of the generalised Pareto distribution's cumulative function."""
    if abs(k) < 1e-12:
        return -sigma * torch.log1p(-share)
    return sigma * torch.expm1(-k * torch.log1p(-share)) / k


def weighted_quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """Quantile of values (S, ...) whose weights (S,) sum to 1. -> (...)."""
    ordered, order = values.sort(0)
    total = weights[order].cumsum(0)
    place = (total < share).sum(0).clamp(max=len(values) - 1)
    return ordered.gather(0, place[None])[0]
