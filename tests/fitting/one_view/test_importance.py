"""Pareto-smoothed weights and annealed importance sampling, against answers that are known."""

from __future__ import annotations

import math

import pytest
import torch

from flowfit.fitting.one_view.annealed import annealed, resample
from flowfit.fitting.one_view.importance import fit_pareto, pareto_quantile, smooth


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_the_shape_of_a_generalised_pareto_is_found(k):
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(4000, generator=generator, dtype=torch.float64)
    values = pareto_quantile(share, k, 2.0).sort().values
    found, scale = fit_pareto(values)
    assert found == pytest.approx(k, abs=0.06)
    assert scale == pytest.approx(2.0, rel=0.1)


def test_the_quantiles_of_shape_zero_are_those_of_an_exponential():
    share = torch.tensor([0.1, 0.5, 0.99], dtype=torch.float64)
    assert torch.allclose(pareto_quantile(share, 0.0, 3.0), -3 * torch.log1p(-share))
    assert torch.allclose(
        pareto_quantile(share, 1e-9, 3.0), pareto_quantile(share, 0.0, 3.0), rtol=1e-6
    )


@pytest.mark.parametrize(("wide", "k"), [(0.8, 0.36), (1.6, -1.0)])
def test_the_weights_of_a_gaussian_for_a_gaussian(wide, k):
    """Draws of N(0, wide^2) for N(0, 1): the tail's shape is 1 - wide^2 where that is positive."""
    draws = wide * noise(20_000)
    found = smooth(-0.5 * draws**2 + 0.5 * (draws / wide) ** 2)
    if k > 0:
        assert found.k_hat == pytest.approx(k, abs=0.2)
    else:
        assert found.k_hat < 0.1
    assert float(found.weights.sum()) == pytest.approx(1)
    assert float((found.weights * draws**2).sum()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("k", [0.3, 0.9])
def test_the_shape_of_weights_is_told(k):
    share = torch.rand(4000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = smooth(-k * torch.log1p(-share))
    assert found.k_hat == pytest.approx(k, abs=0.12)
    assert (found.effective < 1000) == (k > 0.7)


def test_even_weights_stay_even():
    found = smooth(torch.full((100,), -1000.0))
    assert torch.allclose(found.weights, torch.full((100,), 0.01))
    assert found.effective == pytest.approx(100)
    assert found.k_hat == -math.inf


def test_impossible_draws_weigh_nothing():
    log = torch.zeros(100, dtype=torch.float64)
    log[:40] = -math.inf
    log[40] = math.nan
    found = smooth(log)
    assert not found.weights[:41].any()
    assert float(found.weights.sum()) == pytest.approx(1)
    nothing = smooth(torch.full((10,), -math.inf))
    assert nothing.effective == pytest.approx(0)
    assert nothing.k_hat == math.inf
    assert float(nothing.weights.sum()) == pytest.approx(1)


def test_the_order_of_the_draws_does_not_matter():
    log = 3 * noise(500)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(2))
    one, other = smooth(log), smooth(log[order])
    assert torch.allclose(one.weights[order], other.weights)
    assert one.k_hat == pytest.approx(other.k_hat)


def test_systematic_resampling_keeps_shares():
    weights = torch.tensor([0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0], dtype=torch.float64)
    places = resample(weights, torch.Generator().manual_seed(0))
    assert torch.bincount(places, minlength=8).tolist() == [4, 2, 1, 1, 0, 0, 0, 0]


# --- a Gaussian target in many dimensions, whose answer is exact ---

SIZE = 60
CENTER = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
SD = torch.linspace(0.6, 1.3, SIZE, dtype=torch.float64)


def toward_gaussian(points):
    return 0.5 * (points**2).sum(-1) - 0.5 * (((points - CENTER) / SD) ** 2).sum(-1)


def moments(points, weights):
    mean = (weights[:, None] * points).sum(0)
    return mean, (weights[:, None] * (points - mean) ** 2).sum(0).sqrt()


def test_annealing_finds_a_gaussian_that_plain_weights_do_not():
    points = noise(4000, SIZE)
    plain = smooth(toward_gaussian(points))
    assert plain.effective < 200
    found = annealed(toward_gaussian, points, torch.Generator().manual_seed(3))
    assert found.bridges > 1
    assert found.effective >= 1900
    assert found.k_hat < 0.7
    mean, sd = moments(found.points, found.weights)
    before, _ = moments(points, plain.weights)
    # what Metropolis steps leave of the first bridges' error
    assert (mean - CENTER).abs().mean() < 0.08
    assert (mean - CENTER).abs().mean() < 0.6 * (before - CENTER).abs().mean()
    assert (sd / SD - 1).abs().mean() < 0.08


def test_a_target_that_is_the_proposal_needs_no_bridge():
    points = noise(200, 5)
    found = annealed(lambda p: p.new_zeros(len(p)), points, torch.Generator().manual_seed(0))
    assert found.bridges == 1
    assert found.effective == pytest.approx(200)
    assert torch.equal(found.points, points)


def test_the_same_seed_gives_the_same_draws():
    points = noise(300, SIZE)
    one, other = (
        annealed(toward_gaussian, points, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(one.points, other.points)
    assert torch.equal(one.weights, other.weights)
    third = annealed(toward_gaussian, points, torch.Generator().manual_seed(6))
    assert not torch.equal(one.points, third.points)


def test_a_target_of_which_draws_are_impossible():
    def half(points):
        return torch.where(points[:, 0] > 0, 0.0, -torch.inf).to(points)

    found = annealed(half, noise(1000, 3), torch.Generator().manual_seed(0))
    alive = found.points[found.weights > 0]
    assert (alive[:, 0] > 0).all()
    mean, _ = moments(found.points, found.weights)
    assert float(mean[0]) == pytest.approx((2 / math.pi) ** 0.5, abs=0.08)
