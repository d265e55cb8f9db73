from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.several_views.objective import KNOWN, REFINED, UNKNOWN
from flowfit.fitting.several_views.placed import Placed
from flowfit.fitting.several_views.recipe import VIEWS
from flowfit.fitting.several_views.told import tell_views
from flowfit.fitting.solvers.levenberg_marquardt import minimize
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.load import load
from tests.synthetic_views import make_views

SIZE = 3 + 69 + 10 + 3 + 6 * 3


@pytest.fixture(scope="module")
def flow():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def scene(body, prior):
    return make_views(body, prior, frames=2, views=3, lens=True)


@pytest.fixture(scope="module")
def near(scene):
    """A state some way from the truth, its views moved as well."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rig = scene.problem.rig
    rotations = axis_angle_to_matrix(0.05 * normal(2, 24, 3)) @ scene.rotations
    turned = axis_angle_to_matrix(0.03 * normal(2, 3, 3)) @ rig.rotations
    shifted = rig.translations + 0.05 * normal(2, 3, 3)
    pose = Pose(rotations, scene.betas + 0.2 * normal(2, 10))
    return Placed(pose, scene.transl + 0.05 * normal(2, 3), Rig(turned, shifted)).state()


def objective_of(scene, body, flow, mode):
    problem = scene.problem if mode != UNKNOWN else replace(scene.problem, rig=None)
    return tell_views(problem, body, flow, VIEWS, mode).objective


@pytest.mark.parametrize("mode", [KNOWN, REFINED, UNKNOWN])
@pytest.mark.parametrize("latent", [0.0, 1.0])
def test_gradient_is_the_energys_slope(scene, body, flow, near, mode, latent):
    whole = objective_of(scene, body, flow, mode)
    stage = replace(whole.stage, latent=latent)
    objective = replace(whole, stage=stage)
    gradient = objective.evaluate(near).gradient
    step = 1e-6
    of_views = range(SIZE - 18, SIZE)
    for column in (0, 1, 2, 3, 20, 37, 54, 71, 72, 81, 82, 83, 84, *of_views):
        move = torch.zeros(2, SIZE, dtype=torch.float64)
        move[:, column] = step
        up, down = objective.move(near, move), objective.move(near, -move)
        slope = (objective.energy(up) - objective.energy(down)) / (2 * step)
        # a latent has kinks where the flow's nets have ReLUs
        loose = 2e-3 * slope.abs() + 2e-3
        assert ((gradient[:, column] - slope).abs() < loose).all(), column


@pytest.mark.parametrize("mode", [KNOWN, REFINED, UNKNOWN])
def test_the_model_is_gauss_newtons(scene, body, flow, near, mode):
    """The gradient follows from the Jacobian's rows: both agree where the residual is known."""
    objective = objective_of(scene, body, flow, mode)
    placed = objective.place(near)
    energy, residual, rows = objective._linearized(placed)
    torch.testing.assert_close(rows.shape, torch.Size((2, 3 * 25 * 2, SIZE)))
    # where the loss is quadratic the energy is half the squared residual
    forgiving = replace(
        objective.stage, reprojection=replace(objective.stage.reprojection, scale=1e4)
    )
    plain = replace(objective, stage=forgiving)
    energy, residual, rows = plain._linearized(placed)
    torch.testing.assert_close(0.5 * residual.square().sum(-1), energy, rtol=1e-6, atol=0)
    step = 1e-6 * torch.randn(2, SIZE, dtype=torch.float64)
    _, moved, _ = plain._linearized(plain.place(plain.move(near, step)))
    predicted = (rows @ step[..., None])[..., 0]
    torch.testing.assert_close(moved - residual, predicted, rtol=1e-3, atol=1e-8)


def test_energy_is_evaluates(scene, body, flow, near):
    for mode in (KNOWN, REFINED, UNKNOWN):
        objective = objective_of(scene, body, flow, mode)
        now = objective.evaluate(near)
        torch.testing.assert_close(objective.energy(near), now.energy)
        torch.testing.assert_close(torch.stack(list(now.terms.values())).sum(0), now.energy)
        assert ("cameras" in now.terms) == (mode == REFINED)


def test_held_derivatives_leave_the_gradient_exact(scene, body, flow, near):
    objective = objective_of(scene, body, flow, KNOWN)
    exact = objective.evaluate(near)
    elsewhere = Placed(
        Pose(scene.rotations, scene.betas),
        scene.transl,
        Rig(*(t.expand(2, *t.shape) for t in scene.problem.rig)),
    ).state()
    held = objective.freeze(elsewhere).evaluate(near)
    torch.testing.assert_close(held.gradient, exact.gradient)
    assert not torch.allclose(held.prior, exact.prior)
    assert objective.without_model().evaluate(near).prior.shape[1] == 0


def test_what_is_free(scene, body, flow):
    known = objective_of(scene, body, flow, KNOWN)
    assert known.free_columns().tolist() == list(range(85))
    refined = objective_of(scene, body, flow, REFINED)
    assert refined.free_columns().tolist() == [*range(85), *range(91, 103)]
    unknown = objective_of(scene, body, flow, UNKNOWN)
    assert unknown.free_columns().tolist() == [*range(3, 82), *range(85, 103)]
    place = replace(refined, stage=VIEWS.stages[0])
    assert place.free_columns().tolist() == [0, 1, 2, 82, 83, 84, *range(91, 103)]


def test_the_first_view_is_held_where_the_rig_is_refined(scene, body, flow, near):
    objective = objective_of(scene, body, flow, REFINED)
    got = objective.place(minimize(objective.freeze(near), near, 3).state)
    before = objective.place(near)
    torch.testing.assert_close(got.rig.rotations[:, 0], before.rig.rotations[:, 0])
    torch.testing.assert_close(got.rig.translations[:, 0], before.rig.translations[:, 0])
    assert (got.rig.rotations[:, 1:] - before.rig.rotations[:, 1:]).abs().amax() > 1e-4


def test_a_camera_where_it_was_given_costs_nothing(scene, body, flow):
    objective = objective_of(scene, body, flow, REFINED)
    given = scene.problem.rig
    rig = Rig(*(t.expand(2, *t.shape) for t in given))
    placed = Placed(Pose(scene.rotations, scene.betas), scene.transl, rig)
    assert objective._cameras(placed)[0].abs().max() < 1e-20
    off = axis_angle_to_matrix(torch.tensor([0.035, 0.0, 0.0], dtype=torch.float64))
    # turned about its own centre by one standard deviation
    turned = Rig(off @ rig.rotations, (off @ rig.translations[..., None])[..., 0])
    energy = objective._cameras(replace(placed, rig=turned))[0]
    torch.testing.assert_close(energy, torch.full((2,), 1.5).double(), rtol=1e-6, atol=0)


def test_a_view_that_saw_nothing_adds_nothing(scene, body, flow, near):
    left_out = torch.tensor([[False, True, False]] * 2)
    problem = scene.problem.without(left_out)
    objective = tell_views(problem, body, flow, VIEWS, KNOWN).objective
    two = torch.tensor([0, 2])
    fewer = tell_views(problem.select_views(two), body, flow, VIEWS, KNOWN).objective
    placed = objective.place(near)
    without = replace(placed, rig=placed.rig.views(two)).state()
    torch.testing.assert_close(objective.energy(near), fewer.energy(without))
    torch.testing.assert_close(objective.share[:, 1], torch.zeros(2).double())
