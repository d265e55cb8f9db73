from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Reprojection, Stage
from flowfit.models.body_files import read_body_file
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, COCO17, H36M17, MEDIAPIPE33
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.classical.densities import MaxMixturePose
from flowfit.priors.classical.joint_limits import HingeLimits
from flowfit.priors.classical.prior import RotationPrior
from flowfit.priors.load import load
from tests.references.energy_twin import twin_energy
from tests.synthetic_smpl import dense, synthetic_smpl, write_npz

STAGE = Stage(
    "test", ("all",), Reprojection(0.012, 0.15), {"pose": 0.7, "shape": 2.0, "upright": 9.0}
)


def start_near(crowd, prior, size=0.1, seed=9):
    """States about `size` radians away from the truth."""
    latent = prior.encode(Pose(crowd.rotations, crowd.betas))
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(len(latent), 82, generator=generator, dtype=torch.float64)
    return State(prior.move(latent, size * steps), crowd.transl + size * steps[:, :3])


@pytest.fixture(scope="module")
def crowd(make_crowd):
    made = make_crowd(4, seed=5, noise=6.0)
    confidence = made.problem.confidence.clone()
    confidence[0, [3, 4, 20]] = 0
    confidence[1, [2, 9]] = 0  # a shoulder and a hip: now the neck and the mid-hip count
    keypoints = made.problem.keypoints.clone()
    keypoints[2, 4] += 300  # a gross outlier
    problem = FitProblem.build(BODY25, keypoints, confidence, made.problem.camera)
    return replace(made, problem=problem)


@pytest.fixture(scope="module")
def objective(crowd, body, prior):
    return Objective(crowd.problem, body, prior, STAGE)


@pytest.fixture(scope="module")
def state(crowd, prior):
    return start_near(crowd, prior)


# --- the energy ---


def small_mixture():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 69, 69)) / 8
    covars = 0.1 * roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(69)
    return 0.3 * rng.normal(size=(3, 69)), covars, np.array([0.5, 0.3, 0.2])


def test_equals_the_slow_twin(tmp_path):
    model = dense(synthetic_smpl(60, seed=2))
    body = read_body_file(write_npz(tmp_path / "a.npz", model), dtype=torch.float64)
    mixture = small_mixture()
    up = np.array([0.0, -0.8, 0.6])
    density = MaxMixturePose(*(torch.from_numpy(a) for a in mixture))
    prior = RotationPrior("m", [density, HingeLimits()], up=torch.from_numpy(up))

    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(4, *shape, generator=generator, dtype=torch.float64)

    rotations = axis_angle_to_matrix(0.5 * normal(24, 3))
    betas, transl = normal(10), 0.3 * normal(3)
    transl[:, 2] += 2.5
    transl[3, 2] = 0.4  # half of this body is behind the camera
    focal, center = (700.0, 650.0), (310.0, 255.0)
    camera = Camera(*(torch.tensor(p, dtype=torch.float64) for p in (focal, center)))
    points = body.keypoints(betas, rotations, BODY25, transl)
    assert (points[3, :, 2] < 0.05).any()
    keypoints = camera.project(points)[0] + 20 * normal(25, 2)
    keypoints[3] = camera.center + 100 * normal(25, 2)[3]
    confidence = torch.rand(4, 25, generator=generator, dtype=torch.float64)
    confidence[1, [2, 7, 12]] = 0
    confidence[2] = 0
    keypoints[1, 7] = 1e6  # not seen, so not part of the box either
    problem = FitProblem.build(BODY25, keypoints, confidence, camera)
    got = Objective(problem, body, prior, STAGE).evaluate(
        State(prior.encode(Pose(rotations, betas)), transl)
    )
    for row in range(4):
        expected = twin_energy(
            model,
            body.vertex_ids,
            *(x[row].numpy() for x in (betas, rotations, transl, keypoints, confidence)),
            focal,
            center,
            STAGE.reprojection.sigma,
            STAGE.reprojection.scale,
            STAGE.weights,
            mixture,
            up,
        )
        for name, value in expected.items():
            assert float(got.terms[name][row]) == pytest.approx(value, rel=1e-9, abs=1e-9), name
        assert got.terms.keys() == expected.keys()
        assert float(got.energy[row]) == pytest.approx(sum(expected.values()), rel=1e-9)


def test_terms_add_up(objective, state):
    found = objective.evaluate(state)
    torch.testing.assert_close(found.energy, sum(found.terms.values()))
    assert (found.hessian == found.hessian.transpose(-1, -2)).float().mean() > 0.99
    assert torch.linalg.eigvalsh(found.hessian).min() > -1e-6 * found.hessian.abs().max()


# --- the gradient ---


def gradient_by_differences(objective, state, small=1e-6):
    size = sum(objective.block_sizes.values())
    steps = small * torch.eye(size, dtype=torch.float64)
    rows = []
    for row in range(len(state.transl)):
        index = torch.full((size,), row)
        part, here = objective.rows(index), state.rows(index)
        plus = part.evaluate(part.move(here, steps)).energy
        minus = part.evaluate(part.move(here, -steps)).energy
        rows.append((plus - minus) / (2 * small))
    return torch.stack(rows)


def assert_true_gradient(objective, state):
    found = objective.evaluate(state).gradient
    slope = gradient_by_differences(objective, state)
    scale = float(slope.abs().max()) + 1
    torch.testing.assert_close(found, slope, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("size", [0.02, 0.1, 0.4])
def test_gradient_is_that_of_the_robust_energy(objective, crowd, prior, size):
    """Not only of the Gauss-Newton model: far from the truth most keypoints are outliers."""
    assert_true_gradient(objective, start_near(crowd, prior, size))


@pytest.mark.parametrize("schema", [COCO17, H36M17, MEDIAPIPE33])
def test_gradient_in_other_schemas(make_crowd, body, prior, schema):
    crowd = make_crowd(2, seed=3, schema=schema)
    assert_true_gradient(Objective(crowd.problem, body, prior, STAGE), start_near(crowd, prior))


@pytest.mark.parametrize("name", ["gmm", "gaussian"])
def test_gradient_of_priors_without_up(crowd, body, name):
    prior = load(name, dtype=torch.float64)
    assert_true_gradient(
        Objective(crowd.problem, body, prior, STAGE), start_near(crowd, prior, 0.3)
    )


def test_gradient_with_a_camera_each_and_a_distorting_lens(crowd, body, prior):
    focal = torch.tensor([[700.0, 720], [800, 800], [900, 910], [500, 500]], dtype=torch.float64)
    lens = torch.tensor([0.1, -0.05, 0.002, 0.001, 0.01], dtype=torch.float64).expand(4, -1)
    camera = Camera(focal, focal / 2, lens)
    problem = replace(crowd.problem, camera=camera)
    objective = Objective(problem, body, prior, STAGE)
    state = start_near(crowd, prior)
    assert_true_gradient(objective, state)
    alone = objective.rows(torch.tensor([2])).evaluate(state.rows(torch.tensor([2])))
    torch.testing.assert_close(alone.energy, objective.evaluate(state).energy[2:3])


def test_gradient_near_the_camera(crowd, body, prior):
    """Some points in front, some behind; none so near the border that a step crosses it."""
    state = start_near(crowd, prior)
    state.transl[:, 2] = 0.3
    objective = Objective(crowd.problem, body, prior, STAGE)
    assert not bool(objective.errors(state)[1].all())
    assert bool(objective.errors(state)[1].any())
    assert_true_gradient(objective, state)


def test_move_goes_sideways_by_depth_and_along_the_ray(objective, state):
    step = torch.zeros(4, 85, dtype=torch.float64)
    torch.testing.assert_close(objective.move(state, step).transl, state.transl)
    step[:, -3:] = torch.tensor([0.1, -0.2, 0.0])
    moved = objective.move(state, step).transl
    depth = state.transl[:, 2]
    torch.testing.assert_close(moved[:, 0], state.transl[:, 0] + 0.1 * depth)
    torch.testing.assert_close(moved[:, 1], state.transl[:, 1] - 0.2 * depth)
    torch.testing.assert_close(moved[:, 2], depth)
    step[:, -3:] = torch.tensor([0.0, 0.0, -50.0])
    moved = objective.move(state, step).transl
    assert (moved[:, 2] > 0).all()
    torch.testing.assert_close(moved / moved[:, 2:], state.transl / depth[:, None])


# --- hostile input ---


def test_behind_the_camera_is_finite_and_constant(objective, state):
    behind = State(state.latent, state.transl * torch.tensor([1.0, 1.0, -1.0]))
    found = objective.evaluate(behind)
    evidence = objective.problem.evidence().sum(-1)
    data = STAGE.reprojection
    expected = 0.5 * evidence * (data.scale / data.sigma) ** 2
    torch.testing.assert_close(found.terms["reprojection"], expected)
    assert found.gradient.isfinite().all()
    assert found.hessian.isfinite().all()
    further = State(behind.latent, behind.transl + torch.tensor([3.0, -4.0, -50.0]))
    torch.testing.assert_close(objective.evaluate(further).energy, found.energy)
    assert not found.gradient[:, -3:].any()  # in no direction


def test_behind_the_camera_is_not_better_than_in_front(objective, state):
    data = objective.evaluate(state).terms["reprojection"]
    behind = State(state.latent, state.transl - torch.tensor([0.0, 0.0, 20.0]))
    assert (objective.evaluate(behind).terms["reprojection"] >= data).all()


@pytest.mark.parametrize("depth", [0.0, 0.05, 1e-30, -1e-30, 1e-5])
def test_at_the_plane_of_the_camera(objective, state, body, prior, depth):
    transl = state.transl.clone()
    pose = prior.decode(state.latent)
    nose = body.keypoints(pose.betas, pose.rotations, BODY25)[:, 0]
    transl[:] = depth * torch.tensor([0.0, 0.0, 1.0]) - nose
    found = objective.evaluate(State(state.latent, transl))
    for value in (found.energy, found.gradient, found.hessian):
        assert value.isfinite().all()
    moved = objective.move(State(state.latent, transl), torch.full((4, 85), 0.1).double())
    assert moved.transl.isfinite().all()


def test_far_away_and_huge_are_finite(objective, state):
    for scale in (1e6, 1e-6):
        found = objective.evaluate(State(state.latent, state.transl * scale))
        assert found.energy.isfinite().all()
        assert found.gradient.isfinite().all()
    huge = replace(objective.problem, keypoints=objective.problem.keypoints * 1e6)
    assert replace(objective, problem=huge).evaluate(state).energy.isfinite().all()


def test_without_any_keypoint_only_the_prior_speaks(crowd, body, prior, state):
    nothing = torch.zeros_like(crowd.problem.confidence)
    problem = FitProblem.build(BODY25, crowd.problem.keypoints, nothing, crowd.problem.camera)
    found = Objective(problem, body, prior, STAGE).evaluate(state)
    assert not found.terms["reprojection"].any()
    assert not found.gradient[:, -3:].any()
    full = Objective(crowd.problem, body, prior, STAGE).evaluate(state)
    torch.testing.assert_close(found.terms["pose"], full.terms["pose"])
    assert found.hessian.isfinite().all()


def test_keypoints_that_the_body_lacks_count_for_nothing(make_crowd, body, prior):
    crowd = make_crowd(2, schema=MEDIAPIPE33)
    missing = ~body.keypoint_model(MEDIAPIPE33).available
    assert missing.any()
    state = start_near(crowd, prior)
    found = Objective(crowd.problem, body, prior, STAGE).evaluate(state)
    assert found.energy.isfinite().all()
    moved = crowd.problem.keypoints.clone()
    moved[:, missing] += 13  # inside the box: it sets the scale
    other = replace(crowd.problem, keypoints=moved)
    again = Objective(other, body, prior, STAGE).evaluate(state)
    torch.testing.assert_close(again.energy, found.energy)
    torch.testing.assert_close(again.gradient, found.gradient)


def test_unseen_keypoints_may_be_anything(crowd, body, prior, state):
    keypoints = crowd.problem.keypoints.clone()
    unseen = crowd.problem.confidence == 0
    expected = Objective(crowd.problem, body, prior, STAGE).evaluate(state)
    for value in (torch.nan, torch.inf, -1e30):
        keypoints[unseen] = value
        problem = FitProblem.build(
            BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera
        )
        found = Objective(problem, body, prior, STAGE).evaluate(state)
        torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bad_row_stays_alone(crowd, body, prior, state, value):
    clean = Objective(crowd.problem, body, prior, STAGE).evaluate(state)
    others = [0, 2, 3]
    keypoints = crowd.problem.keypoints.clone()
    keypoints[1] = value
    problem = FitProblem.build(BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera)
    found = Objective(problem, body, prior, STAGE).evaluate(state)
    assert not found.energy[1].isfinite()
    for got, expected in ((found.energy, clean.energy), (found.gradient, clean.gradient)):
        torch.testing.assert_close(got[others], expected[others], rtol=0, atol=1e-12)
    bad = State(state.latent.clone(), state.transl.clone())
    bad.latent[1] = value
    found = Objective(crowd.problem, body, prior, STAGE).evaluate(bad)
    torch.testing.assert_close(found.energy[others], clean.energy[others], rtol=0, atol=1e-12)


def test_inputs_are_not_changed(crowd, body, prior):
    state = start_near(crowd, prior)
    problem = crowd.problem
    inputs = [state.latent, state.transl, problem.keypoints, problem.confidence, problem.size]
    before = [x.clone() for x in inputs]
    objective = Objective(problem, body, prior, STAGE)
    objective.evaluate(state)
    objective.errors(state)
    objective.move(state, torch.ones(4, 85, dtype=torch.float64))
    problem.evidence()
    for now, then in zip(inputs, before, strict=True):
        assert torch.equal(now, then)


# --- the problem ---


def test_evidence_drops_midpoints_of_what_is_seen():
    confidence = torch.full((3, 25), 0.5)
    confidence[1, 2] = 0
    confidence[2, [9, 12]] = 0
    camera = Camera.from_size(10, 10, 10)
    evidence = FitProblem.build(BODY25, torch.zeros(3, 25, 2), confidence, camera).evidence()
    assert evidence[:, 1].tolist() == [0, 0.5, 0]
    assert evidence[:, 8].tolist() == [0, 0, 0.5]
    rest = [k for k in range(25) if k not in (1, 8)]
    assert torch.equal(evidence[:, rest], confidence[:, rest])


def test_size_is_the_longer_side_of_what_was_seen():
    keypoints = torch.zeros(3, 25, 2)
    confidence = torch.zeros(3, 25)
    keypoints[0, :2] = torch.tensor([[10.0, 20.0], [60.0, 50.0]])
    keypoints[0, 2] = 1e5  # not seen
    confidence[0, :2] = 1
    confidence[1, 0] = 1
    size = FitProblem.build(BODY25, keypoints, confidence, Camera.from_size(9, 9, 9)).size
    assert size.tolist() == [50, 8, 8]


@pytest.mark.parametrize(
    ("keypoints", "confidence", "focal"),
    [
        ((2, 17, 2), (2, 17), 9.0),
        ((25, 2), (25,), 9.0),
        ((2, 25, 3), (2, 25), 9.0),
        ((2, 25, 2), (2, 24), 9.0),
        ((2, 25, 2), (1, 25), 9.0),
        ((2, 25, 2), (2, 25), 0.0),
        ((2, 25, 2), (2, 25), float("nan")),
    ],
)
def test_problems_that_do_not_fit_together(keypoints, confidence, focal):
    with pytest.raises(InputError):
        FitProblem.build(
            BODY25, torch.zeros(keypoints), torch.zeros(confidence), Camera.from_size(9, 9, focal)
        )
