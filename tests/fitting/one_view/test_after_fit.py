"""What is open after a fit: Laplace's approximation, and draws corrected to the target."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.after_fit import COLD, HEAT, Heat, after_fit, deviation, surroundings
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.results.laplace import step_covariance
from flowfit.fitting.solvers.solution import Status
from flowfit.models.keypoints import BODY25
from flowfit.models.kinematics import joint_index
from flowfit.priors.load import load

COUNT = 120


@pytest.fixture(scope="module")
def flow():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def problem(make_crowd):
    """Three people; of the second the legs and one arm were not seen."""
    crowd = make_crowd(3, seed=11)
    confidence = crowd.problem.confidence.clone()
    hidden = [n for n in BODY25.names if any(p in n for p in ("Knee", "Ankle", "Toe", "Heel"))]
    confidence[1, BODY25.indices([*hidden, "RElbow", "RWrist"])] = 0
    return FitProblem.build(BODY25, crowd.problem.keypoints, confidence, crowd.problem.camera)


@pytest.fixture(scope="module")
def result(problem, body, flow):
    return fit_seen(problem, body, flow, RECIPES["flow"])


@pytest.fixture(scope="module")
def around(problem, body, flow, result):
    return surroundings(problem, body, flow, result)


@pytest.fixture(scope="module")
def opened(around):
    return [after_fit(one, COUNT, 3) for one in around]


def noise(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_laplace_has_the_normal_equations_covariance(problem, body, flow, result):
    (one, *_) = surroundings(problem, body, flow, result, heat=COLD)
    evaluation = one.objective.evaluate(one.state)
    every = torch.arange(one.size)
    expected = step_covariance(evaluation, every)[0]
    eye = torch.eye(one.size, dtype=torch.float64)
    root = one.laplace.steps(eye[None])[0]  # rows: what each number of the noise does
    assert torch.allclose(root.T @ root, expected, rtol=1e-6, atol=1e-9)


def test_at_the_middle_is_the_fit(around, result):
    for row, one in enumerate(around):
        drawn = one.draws(torch.zeros(1, one.size, dtype=torch.float64))
        away = (drawn.joints3d[0] - result.joints3d[row]).norm(dim=-1)
        assert away.max() < 0.03


def test_the_energy_is_the_solvers(problem, body, flow, result):
    (one, *_) = surroundings(problem, body, flow, result, heat=COLD)
    points = 0.5 * noise(4, one.size)
    state = one.states(points)
    many = one.objective.rows(torch.zeros(4, dtype=torch.long))
    assert torch.allclose(one.energy(points), many.evaluate(state).energy, rtol=1e-9)


def test_chunks_change_nothing(around):
    points = noise(9, around[0].size)
    whole, parts = around[0].draws(points), around[0].draws(points, at_once=2)
    assert torch.allclose(whole.joints3d, parts.joints3d, atol=1e-9)
    assert torch.allclose(around[0].energy(points), around[0].energy(points, 4), rtol=1e-9)


def test_people_do_not_know_each_other(problem, body, flow, result, opened):
    alone = torch.tensor([2])
    only = fit_seen(problem.rows(alone), body, flow, RECIPES["flow"])
    (one,) = surroundings(problem.rows(alone), body, flow, only)
    again = after_fit(one, COUNT, 3)
    assert torch.allclose(again.draws.joints3d, opened[2].draws.joints3d, atol=1e-5)
    assert torch.allclose(again.weights, opened[2].weights, atol=1e-6)


def test_the_seed_repeats(around, opened):
    again, other = after_fit(around[0], COUNT, 3), after_fit(around[0], COUNT, 3, seed=1)
    assert torch.equal(again.draws.joints3d, opened[0].draws.joints3d)
    assert not torch.equal(other.draws.joints3d, opened[0].draws.joints3d)


def test_what_is_told(opened, body):
    for one in opened:
        assert one.joint_sd.shape == (24,)
        assert one.vertex_sd.shape == (body.num_vertices,)
        assert float(one.joint_sd[joint_index("pelvis")]) == pytest.approx(0, abs=1e-9)
        assert one.weights.shape == (COUNT,)
        assert float(one.weights.sum()) == pytest.approx(1)
        assert float(one.modes.weight.sum()) == pytest.approx(1)
        assert one.effective > 0.3 * COUNT
        assert one.draws.joints3d.isfinite().all()
        assert (one.draws.transl[:, 2] > 0).all()
        assert (one.draws.betas.abs().mean(0) < 2.5).all()


def test_who_is_seen_less_is_less_sure(opened):
    """Joints that were not seen are surer of nobody than of the person who shows them."""
    for name in ("left_knee", "left_ankle", "right_ankle", "right_wrist"):
        place = joint_index(name)
        assert opened[1].joint_sd[place] > opened[0].joint_sd[place]
        assert opened[1].joint_sd[place] > opened[2].joint_sd[place]
    assert opened[1].vertex_sd.max() > opened[1].joint_sd.median()


def test_heat_widens(problem, body, flow, result):
    spread = []
    for heat in (COLD, Heat(4.0)):
        (one, *_) = surroundings(problem, body, flow, result, heat=heat)
        spread.append(after_fit(one, COUNT, 2).joint_sd.mean())
    assert spread[1] > 1.2 * spread[0]


def test_a_prior_that_has_not_looked_is_taken_as_it_is(problem, body, prior):
    result = fit_people(problem, body, prior, RECIPES["gmm"])
    (one, *_) = surroundings(problem, body, prior, result)
    assert one.temperature == 1
    found = after_fit(one, 60, 2)
    assert found.joint_sd.isfinite().all()


def test_of_nobody_valid_nothing_is_said(problem, body, flow, result):
    broken = replace(result, status=(Status.INVALID, *result.status[1:]))
    found = surroundings(problem, body, flow, broken)
    assert found[0] is None
    assert found[1] is not None


def test_heat_rises_with_keypoints_that_are_met_badly():
    temperature = HEAT.of(torch.tensor([0.0, 0.1, 0.7, 1.4, 100.0]))
    assert temperature[0] == temperature[1] == pytest.approx(HEAT.base)
    assert (temperature.diff() >= 0).all()
    assert temperature[3] > temperature[2] > HEAT.base
    assert float(temperature[4]) == pytest.approx(HEAT.most * HEAT.base)


def test_deviation_of_weighted_points():
    points = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]], [[9.0, 9.0]]])
    weights = torch.tensor([0.5, 0.5, 0.0])
    assert deviation(points, weights).tolist() == pytest.approx([1.0])
