"""What all solvers promise: independence, never worse, failures stay in their row."""

from __future__ import annotations

import pytest
import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Reprojection, Stage
from flowfit.fitting.solvers.by_name import SOLVERS
from flowfit.fitting.solvers.levenberg_marquardt import Options
from flowfit.fitting.solvers.levenberg_marquardt import minimize as by_lm
from flowfit.fitting.solvers.solution import STATUSES, Status
from flowfit.models.keypoints import BODY25
from flowfit.priors.load import load
from flowfit.priors.networks import bound_flow

STAGE = Stage("all", ("all",), Reprojection(0.02, 0.2))
# few for L-BFGS: in the long run its line search makes much of a last digit
ITERATIONS = {"lm": 30, "lbfgs": 12, "adam": 40}
every_solver = pytest.mark.parametrize("name", list(SOLVERS))
every_prior = pytest.mark.parametrize("kind", ["gmm", "flow"])


def objective_of(problem, body, kind, prior):
    if kind == "gmm":
        return Objective(problem, body, prior, STAGE)
    flow = load("keypoint-flow", dtype=torch.float64)
    seen = (problem.schema, problem.keypoints, problem.confidence, problem.camera)
    return Objective(problem, body, flow.given(*seen, body), STAGE)


def start_of(crowd, objective, kind, prior):
    generator = torch.Generator().manual_seed(9)
    if kind == "flow":
        latent = torch.zeros(len(crowd.betas), 154, dtype=torch.float64)
    else:
        from flowfit.priors.base import Pose

        latent = prior.encode(Pose(crowd.rotations, crowd.betas))
        steps = torch.randn(len(latent), 82, generator=generator, dtype=torch.float64)
        latent = prior.move(latent, 0.15 * steps)
    away = torch.randn(len(latent), 3, generator=generator, dtype=torch.float64)
    return State(latent, crowd.transl + 0.1 * away)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(4, seed=21, noise=3.0)


def assert_same(prior, got, expected, rows):
    poses = (prior.decode(s.latent) for s in (got.state, expected.state.rows(rows)))
    for a, b in zip(*poses, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    torch.testing.assert_close(got.energy, expected.energy[rows], rtol=1e-6, atol=1e-6)
    assert torch.equal(got.status, expected.status[rows])
    assert torch.equal(got.iterations, expected.iterations[rows])


@every_solver
@every_prior
def test_alone_permuted_and_beside_the_impossible(crowd, body, prior, name, kind):
    solve, iterations = SOLVERS[name], ITERATIONS[name]
    objective = objective_of(crowd.problem, body, kind, prior)
    start = start_of(crowd, objective, kind, prior)
    together = solve(objective, start, iterations)
    for order in ([2], [3, 1, 0, 2, 1]):
        rows = torch.tensor(order)
        some = solve(objective.rows(rows), start.rows(rows), iterations)
        assert_same(objective.rows(rows).prior, some, together, rows)
    keypoints = crowd.problem.keypoints.clone()
    keypoints[1] = torch.nan
    keypoints[3] = 1e6  # nowhere near: an infeasible person
    beside = FitProblem.build(BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera)
    problem = objective_of(beside, body, kind, prior)
    got = solve(problem, start, iterations)
    rows = torch.tensor([0, 2])
    kept = type(got)(
        got.state.rows(rows), got.energy[rows], {}, got.status[rows], got.iterations[rows]
    )
    assert_same(objective.rows(rows).prior, kept, together, rows)
    assert STATUSES[int(got.status[1])] is Status.INVALID
    assert int(got.iterations[1]) == 0
    assert torch.equal(got.state.transl[1], start.transl[1])


@every_solver
@every_prior
def test_never_worse_than_the_start(crowd, body, prior, name, kind):
    generator = torch.Generator().manual_seed(4)
    count = 24
    keypoints = 600 * torch.rand(count, 25, 2, generator=generator, dtype=torch.float64)
    confidence = torch.rand(count, 25, generator=generator, dtype=torch.float64)
    confidence = torch.where(confidence < 0.4, 0, confidence)
    camera = crowd.problem.camera.rows(torch.zeros(count, dtype=torch.long))
    garbage = FitProblem.build(BODY25, keypoints, confidence, camera)
    objective = objective_of(garbage, body, kind, prior)
    start = start_of(crowd, objective, kind, prior)
    rows = torch.arange(count) % 4
    start = start.rows(rows)
    before = objective.evaluate(start).energy
    got = SOLVERS[name](objective, start, 12)
    assert (got.energy <= before).all()
    assert (got.energy < before).float().mean() > 0.9
    again = objective.evaluate(got.state)
    torch.testing.assert_close(again.energy, got.energy)
    for term, value in got.terms.items():
        torch.testing.assert_close(again.terms[term], value)


@pytest.mark.parametrize("name", ["lbfgs", "adam"])
def test_first_order_solvers_agree_with_the_second_order_one(crowd, body, prior, name):
    objective = objective_of(crowd.problem, body, "gmm", prior)
    start = start_of(crowd, objective, "gmm", prior)
    near = by_lm(objective, start, 200, Options(tolerance=1e-9)).state
    best = objective.evaluate(near).energy
    # from a little beside the minimum, so that all look into the same valley
    generator = torch.Generator().manual_seed(1)
    aside = 0.02 * torch.randn(len(best), 85, generator=generator, dtype=torch.float64)
    begin = objective.move(near, aside)
    before = objective.evaluate(begin).energy
    got = SOLVERS[name](objective, begin, 400 if name == "adam" else 150)
    assert (got.energy - best).abs().max() < 0.02 * (before - best).min()


@every_prior
def test_learned_derivatives_lead_to_the_exact_minimum(crowd, body, prior, kind):
    objective = objective_of(crowd.problem, body, kind, prior)
    start = start_of(crowd, objective, kind, prior)
    exact = by_lm(objective, start, 300, Options(tolerance=1e-9, rows=None))
    learned = by_lm(objective, start, 200, Options(tolerance=1e-9))
    torch.testing.assert_close(learned.energy, exact.energy, rtol=1e-6, atol=0)


def test_the_gradient_does_not_depend_on_what_is_learned(crowd, body, prior):
    objective = objective_of(crowd.problem, body, "flow", prior)
    start = start_of(crowd, objective, "flow", prior)
    exact = objective.evaluate(start)
    for rows in (0, 3):
        found = objective.evaluate(start, rows)
        torch.testing.assert_close(found.gradient, exact.gradient)
        torch.testing.assert_close(found.energy, exact.energy)
        assert found.pulled.by_pose.shape[1] == rows + 1


def in_single_precision(crowd, body):
    problem, single = crowd.problem, torch.float32
    problem = FitProblem.build(
        BODY25, problem.keypoints.float(), problem.confidence.float(),
        problem.camera.to(dtype=single),
    )  # fmt: skip
    low = body.to(dtype=single)
    seen = (problem.schema, problem.keypoints, problem.confidence, problem.camera)
    return Objective(problem, low, load("keypoint-flow").given(*seen, low), STAGE)


def test_rough_derivatives_leave_the_gradient_exact(crowd, body, monkeypatch):
    objective = in_single_precision(crowd, body)
    start = State(torch.zeros(len(crowd.betas), 154), crowd.transl.float())
    exact = objective.evaluate(start)
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: True)
    rough = objective.evaluate(start, 20)
    torch.testing.assert_close(rough.gradient, exact.gradient, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rough.energy, exact.energy)
    by_step, by_pose = rough.pulled.by_step, rough.pulled.by_pose
    fine = objective.prior.linearize(start.latent)[1](by_pose)
    assert not torch.equal(by_step[:, 1:], fine[:, 1:])
    assert (by_step - fine)[:, 1:].norm() < 0.03 * fine[:, 1:].norm()


def test_rough_derivatives_lead_to_the_exact_minimum(crowd, body, prior, monkeypatch):
    precise = objective_of(crowd.problem, body, "flow", prior)
    start = State(torch.zeros(len(crowd.betas), 154), crowd.transl.float())
    low = in_single_precision(crowd, body)
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: True)
    got = by_lm(low, start, 200, Options(tolerance=1e-6))
    state = State(got.state.latent.double(), got.state.transl.double())
    best = by_lm(precise, state, 300, Options(tolerance=1e-9, rows=None))
    torch.testing.assert_close(got.energy.double(), best.energy, rtol=1e-4, atol=0)


def test_a_stage_that_moves_the_camera_leaves_the_pose(crowd, body, prior):
    stage = Stage("camera", ("transl",), Reprojection(0.02, 0.2))
    objective = objective_of(crowd.problem, body, "flow", prior)
    objective = Objective(objective.problem, body, objective.prior, stage)
    start = start_of(crowd, objective, "flow", prior)
    for solve in SOLVERS.values():
        got = solve(objective, start, 10)
        assert torch.equal(got.state.latent, start.latent)
        assert (got.energy < objective.evaluate(start).energy).all()


def test_prohmrs_objective_by_hand(crowd, body, prior):
    """(1000 / side)^2 c^2 rho(x) + ... of every coordinate, hips left out, and 16 |z|^2; halved."""
    stage = RECIPES["prohmr"].stages[0]
    objective = objective_of(crowd.problem, body, "flow", prior)
    objective = Objective(objective.problem, body, objective.prior, stage)
    start = start_of(crowd, objective, "flow", prior)
    latent = start.latent + 0.1
    got = objective.evaluate(State(latent, start.transl)).energy
    pose = objective.prior.decode(latent)
    points = body.keypoints(pose.betas, pose.rotations, BODY25, start.transl)
    pixels, _ = crowd.problem.camera.project(points)
    side = 2 * crowd.problem.camera.center.max(-1).values.expand(len(latent))
    for person in range(len(latent)):
        total = 16 * (latent[person] ** 2).sum()
        for k, name in enumerate(BODY25.names):
            midpoint = name == "Neck"  # both shoulders are seen: it is no evidence of its own
            if name in ("MidHip", "LHip", "RHip") or midpoint:
                continue
            c = crowd.problem.confidence[person, k]
            for r in pixels[person, k] - crowd.problem.keypoints[person, k]:
                rho = 100**2 * r**2 / (100**2 + r**2)
                total = total + (1000 / side[person]) ** 2 * c**2 * rho
        torch.testing.assert_close(got[person], 0.5 * total)


def test_usual_derivatives_are_near_the_exact_ones(crowd, body, prior):
    given = objective_of(crowd.problem, body, "flow", prior).prior
    latent = given.start().latent
    eye = torch.eye(82, dtype=torch.float64).expand(len(latent), -1, -1)
    exact = given.linearize(latent)[1](eye.clone())
    usual = given.usual_derivatives()
    assert usual.shape == exact.shape
    off = (usual - exact).flatten(1).norm(dim=-1) / exact.flatten(1).norm(dim=-1)
    assert off.max() < 0.8  # from nothing it would be 1
    torch.testing.assert_close(given.rows(torch.tensor([2])).usual_derivatives(), usual[2:3])
    assert prior.usual_derivatives() is None
