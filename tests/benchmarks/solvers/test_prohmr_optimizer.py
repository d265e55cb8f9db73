"""The baseline of `benchmarks.solvers.solver` minimises what the solver minimises."""

from __future__ import annotations

import pytest
import torch

from benchmarks.solvers.prohmr_optimizer import fit_like_prohmr, fits_like_prohmr, prohmr_energy
from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.solvers.levenberg_marquardt import Options, minimize
from flowfit.priors.load import load


@pytest.fixture(scope="module")
def objective(make_crowd, body):
    crowd = make_crowd(3, seed=5, noise=3.0)
    problem = crowd.problem
    flow = load("keypoint-flow", dtype=torch.float64)
    seen = (problem.schema, problem.keypoints, problem.confidence, problem.camera)
    return Objective(problem, body, flow.given(*seen, body), RECIPES["prohmr"].stages[0])


@pytest.fixture(scope="module")
def start(objective):
    return State(*objective.prior.start())


def test_it_has_the_solvers_energy(objective, start):
    latent = start.latent + 0.3 * torch.randn(
        start.latent.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    expected = objective.evaluate(State(latent, start.transl)).energy
    torch.testing.assert_close(prohmr_energy(objective, latent, start.transl), expected)


def test_it_has_the_solvers_gradient(objective, start):
    latent = start.latent.clone().requires_grad_(True)
    prohmr_energy(objective, latent, start.transl).sum().backward()
    gradient = objective.evaluate(start).gradient[:, : latent.shape[1]]
    torch.testing.assert_close(latent.grad, gradient, rtol=1e-5, atol=1e-6)


def test_it_goes_down_and_the_solver_further(objective, start):
    before = objective.evaluate(start).energy
    fitted = fit_like_prohmr(objective, start, 3)
    there = objective.evaluate(fitted.state).energy
    assert there.sum() < before.sum()
    assert fitted.evaluations == len(fitted.curve) > 20
    ours = minimize(objective, start, 60, Options(tolerance=1e-7))
    assert ours.energy.sum() <= there.sum()


def test_its_people_share_a_fate(objective, start):
    """The fault that is kept: a person's result depends on the others in the batch."""
    together = fit_like_prohmr(objective, start, 2).state
    one = torch.tensor([1])
    alone = fit_like_prohmr(objective.rows(one), start.rows(one), 2).state
    assert (together.latent[1] - alone.latent[0]).abs().max() > 1e-3


def test_one_run_stopped_twice_is_two_runs(objective, start):
    short, long = fits_like_prohmr(objective, start, (1, 3))
    for steps, found in ((1, short), (3, long)):
        alone = fit_like_prohmr(objective, start, steps)
        assert torch.equal(alone.state.latent, found.state.latent)
        assert alone.evaluations == found.evaluations
    assert long.evaluations > short.evaluations
