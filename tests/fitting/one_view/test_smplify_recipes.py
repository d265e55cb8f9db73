"""How the SMPLify family behaves: its stages, its start, its promises, its priors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Stage
from flowfit.fitting.energy.units import UNITS
from flowfit.fitting.one_view.fit_people import _best_of_each, fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.one_view.torso_start import about, shoulders_apart, torso_start
from flowfit.fitting.solvers.by_name import SOLVERS
from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.models.metrics import orientation_error
from flowfit.models.rotations import axis_angle_to_matrix, rotation_angle
from flowfit.priors.base import Pose
from flowfit.priors.classical.densities import MaxMixturePose, TrueMixturePose
from flowfit.priors.classical.joint_limits import ExponentialBending
from flowfit.priors.load import load
from tests.fitting.one_view.test_fit_people import assert_same
from tests.priors.classical.test_classical import mixture, tensors, write_gmm_08

FAMILY = ("smplify", "spin", "smplifyx")
every_recipe = pytest.mark.parametrize("name", FAMILY)


@pytest.fixture(scope="module")
def classical(body):
    return load("smplify", num_betas=body.num_betas, dtype=torch.float64)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(4, seed=3, noise=2.0)


@pytest.fixture(scope="module")
def fitted(crowd, body, classical):
    return {name: fit_people(crowd.problem, body, classical, RECIPES[name]) for name in FAMILY}


def without(problem, *names):
    confidence = problem.confidence.clone()
    confidence[:, problem.schema.indices(list(names))] = 0
    return FitProblem.build(problem.schema, problem.keypoints, confidence, problem.camera)


# --- what the recipes are ---


@every_recipe
def test_only_the_camera_stage_moves_the_translation(name):
    camera, *others = RECIPES[name].stages
    assert camera.free == ("root", "transl")
    assert camera.reprojection.only == ("RHip", "LHip", "RShoulder", "LShoulder")
    assert all(stage.free == ("root", "pose", "shape") for stage in others)


def test_solvers_and_steps_are_the_published_ones():
    assert {s.solver for s in RECIPES["smplify"].stages} == {"lm"}
    assert {(s.solver, s.rate, s.iterations) for s in RECIPES["spin"].stages} == {
        ("adam", 1e-2, 100)
    }
    assert {(s.solver, s.iterations) for s in RECIPES["smplifyx"].stages} == {("lbfgs", 30)}


def test_every_stage_names_a_solver_and_a_unit():
    for recipe in RECIPES.values():
        for stage in recipe.stages:
            assert stage.solver in SOLVERS
            assert stage.reprojection.unit in UNITS


def test_units_by_hand():
    keypoints = torch.zeros(1, 25, 2, dtype=torch.float64)
    keypoints[0, 1] = torch.tensor([100.0, 300.0])  # a box of 100 x 300
    confidence = torch.ones(1, 25, dtype=torch.float64)
    camera = Camera.from_size(640, 480, 700.0).to(dtype=torch.float64)
    problem = FitProblem.build(BODY25, keypoints, confidence, camera)
    problem = replace(problem, unit=2 * problem.size)
    expected = {
        "person": (600, 600),
        "picture": (0.64, 1),
        "height": (0.48, 1),
        "crop": (300 * 1.2 / 224, 300 * 1.2 / 224),
        "lsp": (2, 2),
    }
    assert expected.keys() == UNITS.keys()
    for name, pair in expected.items():
        assert [float(x) for x in UNITS[name](problem)] == pytest.approx(pair), name


# --- the data term ---


def trust(problem, body, classical, stage):
    return Objective(problem, body, classical, stage).reprojection.trust


@every_recipe
def test_the_camera_stage_sees_the_torso_alone_and_takes_it_as_sure(crowd, body, classical, name):
    weights = trust(crowd.problem, body, classical, RECIPES[name].stages[0])
    torso = BODY25.indices(["RHip", "LHip", "RShoulder", "LShoulder"])
    assert torch.equal((weights > 0).sum(-1), torch.full((4,), 4))
    assert (weights[:, torso] == weights[:, torso[:1]]).all()


def test_without_a_torso_the_camera_stage_sees_everything(crowd, body, classical):
    problem = without(crowd.problem, "RHip", "LHip", "RShoulder")
    weights = trust(problem, body, classical, RECIPES["spin"].stages[0])
    assert ((weights > 0).sum(-1) > 10).all()


def test_what_each_body_stage_leaves_out(crowd, body, classical):
    expected = {
        "smplify": {"Neck", "MidHip", "RHip", "LHip"},
        "spin": {"Neck", "RHip", "LHip"},
        "smplifyx": {"Neck", "RHip", "LHip"},
    }
    for name, left_out in expected.items():
        weights = trust(crowd.problem, body, classical, RECIPES[name].stages[-1])
        assert {n for n, w in zip(BODY25.names, weights[0], strict=True) if w == 0} == left_out


# --- the start ---


def test_the_torso_start_is_near_the_truth(make_crowd, body, classical):
    crowd = make_crowd(16, seed=5, noise=1.0, bend=0.05)
    start = torso_start(crowd.problem, body, classical)
    share = start.transl[:, 2] / crowd.transl[:, 2]
    assert share.log().abs().median() < 0.25
    pose = classical.decode(start.latent)
    points = body.keypoints(pose.betas, pose.rotations, BODY25, start.transl)
    pixels = crowd.problem.camera.project(points.nan_to_num())[0]
    off = (pixels - crowd.problem.keypoints).mean(1).norm(dim=-1)
    assert (off / crowd.problem.size < 0.15).all()


def test_the_torso_start_faces_the_way_of_the_shoulders(make_crowd, body, classical):
    crowd = make_crowd(40, seed=6, noise=0.0)
    start = torso_start(crowd.problem, body, classical)
    wide = shoulders_apart(crowd.problem) > 0.17 * crowd.problem.size
    assert wide.sum() > 5
    roots = classical.decode(start.latent).rotations[:, 0]
    assert (orientation_error(roots, crowd.rotations[:, 0])[wide] < 90).all()


@pytest.mark.parametrize("missing", [("RHip",), ("RHip", "LHip"), BODY25.names[1:]])
def test_the_torso_start_without_a_torso_is_finite(crowd, body, classical, missing):
    start = torso_start(without(crowd.problem, *missing), body, classical)
    assert start.transl.isfinite().all()
    assert (start.transl[:, 2] > 0).all()


@pytest.mark.parametrize("schema", list(SCHEMAS.values()), ids=list(SCHEMAS))
def test_every_schema_has_a_start_and_finite_energies(make_crowd, body, classical, schema):
    crowd = make_crowd(2, seed=2, schema=schema)
    start = torso_start(crowd.problem, body, classical)
    for stage in RECIPES["smplify"].stages[:2]:
        objective = Objective(crowd.problem, body, classical, stage, start.transl[:, 2])
        assert objective.evaluate(start).finite().all()
        assert (objective.reprojection.trust > 0).any(-1).all()


def test_about_turns_half_around_the_bodys_own_axis():
    root = axis_angle_to_matrix(torch.tensor([[0.3, -1.2, 0.4]], dtype=torch.float64))
    turned = about(root)
    torch.testing.assert_close(turned[:, :, 1], root[:, :, 1])
    assert float(rotation_angle(root.transpose(-1, -2) @ turned)) == pytest.approx(math.pi)


def test_narrow_shoulders_are_tried_both_ways(make_crowd, body, classical, monkeypatch):
    """Of a narrow person the better of the two is the result; a wide one is fitted once."""
    crowd = make_crowd(3, seed=12, noise=1.0)
    keypoints = crowd.problem.keypoints.clone()
    left, right = BODY25.indices(["LShoulder", "RShoulder"])
    keypoints[0, left] = keypoints[0, right]
    apart = torch.zeros_like(keypoints[1:, left])
    apart[:, 0] = 0.4 * crowd.problem.size[1:]
    keypoints[1:, left] = keypoints[1:, right] + apart
    problem = FitProblem.build(BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera)
    counts = []
    from flowfit.fitting.one_view import fit_people as module

    original = module.minimize_stage

    def watch(objective, *arguments):
        counts.append(len(objective.problem))
        return original(objective, *arguments)

    monkeypatch.setattr(module, "minimize_stage", watch)
    both = fit_people(problem, body, classical, RECIPES["smplify"])
    assert counts == [3, 4, 4, 4, 4]
    once = replace(
        RECIPES["smplify"],
        stages=tuple(replace(s, turn_below=None) for s in RECIPES["smplify"].stages),
    )
    counts.clear()
    single = fit_people(problem, body, classical, once)
    assert counts == [3] * 5
    total, alone = (sum(r.energy.values()) for r in (both, single))
    assert total[0] <= alone[0] + 1e-9
    torch.testing.assert_close(total[1:], alone[1:])
    # from a given start nobody is turned
    counts.clear()
    given = Pose(crowd.rotations, crowd.betas), crowd.transl
    fit_people(problem, body, classical, RECIPES["smplify"], start=given)
    assert counts == [3] * 5


def test_best_of_each_with_different_numbers_of_rows():
    person = torch.tensor([0, 0, 1, 2, 2, 2])
    energy = torch.tensor([3.0, 1.0, 7.0, torch.nan, 5.0, 4.0])
    assert _best_of_each(energy, person, 1).tolist() == [1, 2, 5]
    assert _best_of_each(energy, person, 2).tolist() == [1, 0, 2, 5, 4]
    assert _best_of_each(energy, person, 9).tolist() == [1, 0, 2, 5, 4, 3]


# --- promises ---


@every_recipe
def test_company_changes_nothing(crowd, body, classical, fitted, name):
    """In another order, fewer, and beside somebody impossible."""
    some = crowd.problem.rows(torch.tensor([2, 1, 0]))
    keypoints = some.keypoints.clone()
    keypoints[1] = torch.nan
    problem = FitProblem.build(BODY25, keypoints, some.confidence, some.camera)
    got = fit_people(problem, body, classical, RECIPES[name])
    assert got.status[1] is Status.INVALID
    # L-BFGS makes much of a last digit of a batched product
    assert_same(got, fitted[name], [2, 0], [0, 2], atol=1e-4 if name == "smplifyx" else 1e-6)


@every_recipe
def test_nobody_ends_worse_than_they_began(crowd, fitted, name):
    result = fitted[name]
    total = sum(result.energy.values())
    assert (total <= result.start_energy).all()
    assert (total < 0.9 * result.start_energy).any()
    assert (result.reprojection_px / result.size < 0.1).all()
    assert result.energy.keys() == {"reprojection", "pose", "angle", "shape"}


@every_recipe
def test_another_solver_may_take_over(crowd, body, classical, fitted, name):
    other = fit_people(crowd.problem, body, classical, RECIPES[name], solver="lm")
    assert other.solver == "lm"
    assert fitted[name].solver == RECIPES[name].stages[-1].solver
    # the second-order solver gets at least as low, up to another valley
    lower = sum(other.energy.values()) < 1.05 * sum(fitted[name].energy.values())
    assert lower.float().mean() >= 0.75


def test_unknown_solvers_are_refused(crowd, body, classical):
    with pytest.raises(InputError, match="choose from lm, lbfgs, adam"):
        fit_people(crowd.problem, body, classical, RECIPES["spin"], solver="sgd")


def test_the_depth_is_held_in_the_camera_stage(crowd, body, classical):
    stage = RECIPES["spin"].stages[0]
    start = torso_start(crowd.problem, body, classical)
    depth = start.transl[:, 2]
    objective = Objective(crowd.problem, body, classical, stage, depth)
    firm = replace(stage, weights={**stage.weights, "depth": 1e12})
    held = SOLVERS["lm"](replace(objective, stage=firm), start, 30)
    assert (held.state.transl[:, 2] - depth).abs().max() < 1e-3
    free = replace(stage, weights={**stage.weights, "depth": 0.0})
    loose = SOLVERS["lm"](replace(objective, stage=free), start, 30)
    assert (loose.state.transl[:, 2] - depth).abs().max() > 1e-2
    assert "depth" not in loose.terms


def test_the_rate_is_adams_longest_step(crowd, body, classical):
    from flowfit.fitting.solvers.by_name import minimize_stage

    start = torso_start(crowd.problem, body, classical)
    stage = Stage(
        "one", ("pose",), RECIPES["spin"].stages[1].reprojection, {}, 1, solver="adam", rate=0.003
    )
    got = minimize_stage(Objective(crowd.problem, body, classical, stage), start)
    before, after = (classical.decode(s.latent).rotations for s in (start, got.state))
    turned = rotation_angle(before.transpose(-1, -2) @ after)[:, 1:].amax(-1)
    assert (turned <= 0.003 * math.sqrt(3) + 1e-9).all()
    assert (turned > 0.002).any()


def test_regression_is_the_mode_and_says_that_nothing_was_minimised(crowd, body):
    flow = load("keypoint-flow", dtype=torch.float64)
    got = fit_seen(crowd.problem, body, flow, RECIPES["regression"])
    told = tell(flow, crowd.problem, body)
    mode = told.decode(told.start().latent)
    torch.testing.assert_close(got.rotations, mode.rotations)
    torch.testing.assert_close(got.transl, told.start().transl)
    assert set(got.status) == {Status.UNFITTED}
    assert (got.iterations == 0).all()
    # what it is judged by is where the flow's fit begins
    fine = replace(RECIPES["flow"].stages[-1], iterations=1)
    fitted = fit_seen(
        crowd.problem, body, flow, replace(RECIPES["flow"], stages=(fine,), doubt=None)
    )
    torch.testing.assert_close(sum(got.energy.values()), fitted.start_energy)


# --- priors ---


def true_energies(term, x):
    return -term.log_density(x)


@pytest.mark.parametrize("size", [69, 72])
def test_true_mixture_is_the_log_of_the_sum(size):
    term = TrueMixturePose(*tensors(mixture(4, size)))
    x = 0.4 * torch.randn(6, size, generator=torch.Generator().manual_seed(2)).double()
    found = term.linearize(x)
    energy = 0.5 * (found.residual**2).sum(-1)
    difference = energy - true_energies(term, x)
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))
    x = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(true_energies(term, x).sum(), x)
    got = (found.jacobian.transpose(-1, -2) @ found.residual[..., None])[..., 0]
    torch.testing.assert_close(got, slope)


def test_true_mixture_between_two_components_is_no_max_mixture():
    arrays = mixture(2)
    both, best = TrueMixturePose(*tensors(arrays)), MaxMixturePose(*tensors(arrays))
    x = torch.from_numpy(arrays[0].mean(0, keepdims=True))
    weights = torch.softmax(-both.component_energies(x), -1)
    assert float(best.component_energies(x).min() + both.log_density(x)) != pytest.approx(0)
    one = (0.5 * (both.linearize(x).residual ** 2).sum(-1)).item()
    # at most log 2 apart, up to the shift that keeps it positive
    two = (0.5 * (best.linearize(x).residual ** 2).sum(-1)).item()
    assert 0 <= one - two <= math.log(2) + 1e-9 or weights.max() < 1e-9


def test_both_mixtures_and_smplifys_terms_by_name(up):
    kinds = {"gmm": MaxMixturePose, "gmm-true": TrueMixturePose, "smplify": MaxMixturePose}
    for name, kind in kinds.items():
        terms = load(name, up=up, dtype=torch.float64).pose_terms
        assert type(terms[0]) is kind
        assert isinstance(terms[1], ExponentialBending) == (name == "smplify")
        assert terms[0].uses_up == (name != "smplify")


def test_a_fit_with_the_true_mixture(crowd, body, up):
    prior = load("gmm-true", up=up, dtype=torch.float64)
    found = fit_people(crowd.problem.rows(torch.arange(1)), body, prior, RECIPES["gmm"])
    assert (found.reprojection_px / found.size < 0.03).all()


def test_the_users_own_gmm_08(tmp_path, crowd, body):
    arrays = mixture(3)
    path = tmp_path / "gmm_08.pkl"
    write_gmm_08(path, *arrays)
    prior = load(str(path), dtype=torch.float64, bending=True, up=torch.tensor([0.0, -1.0, 0.0]))
    assert [t.name for t in prior.pose_terms] == ["pose", "angle"]
    assert prior.up is None
    weighted = np.einsum("m,mi->i", arrays[2], arrays[0])
    got = prior.mean().rotations[0, 1:]
    expected = axis_angle_to_matrix(torch.from_numpy(weighted).unflatten(0, (23, 3)))
    torch.testing.assert_close(got, expected)
    state = torso_start(crowd.problem, body, prior)
    assert (
        Objective(crowd.problem, body, prior, RECIPES["spin"].stages[1])
        .evaluate(State(state.latent, state.transl))
        .energy.isfinite()
        .all()
    )


def test_smplify_with_a_posterior_is_refused():
    with pytest.raises(InputError, match="need a mixture"):
        load("keypoint-flow", bending=True)
