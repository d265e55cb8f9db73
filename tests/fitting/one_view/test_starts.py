from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.placement import place
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.starts import (
    NUM_YAWS,
    candidate_orientations,
    hypotheses,
    upright_facing_camera,
)
from flowfit.models.cameras import MIN_DEPTH, Camera
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.models.rotations import rotation_angle
from flowfit.priors.base import Pose
from flowfit.priors.classical.joint_limits import HingeLimits
from flowfit.priors.classical.prior import RotationPrior


def seen_from(points, transl, camera, confidence=None):
    """The problem that noiseless points make."""
    pixels, _ = camera.project(points + transl[:, None])
    ones = torch.ones(points.shape[:2], dtype=points.dtype)
    return FitProblem.build(BODY25, pixels, ones if confidence is None else confidence, camera)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(12, seed=21, noise=0.0)


@pytest.fixture(scope="module")
def points(crowd, body):
    return body.keypoints(crowd.betas, crowd.rotations, BODY25)


# --- place ---


def test_place_is_exact_for_points_that_face_the_camera(camera):
    """Where spread and projection agree on the depth, the pull changes nothing."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(20, 25, 3, generator=generator, dtype=torch.float64)
    flat[..., 2] = 0
    transl = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    transl[:, 2] = 2 + 20 * transl[:, 2]
    problem = seen_from(flat, transl, camera)
    got = place(problem, flat[:, None], problem.confidence)
    torch.testing.assert_close(got[:, 0], transl, rtol=1e-6, atol=1e-6)


def test_place_recovers_where_people_are(crowd, points):
    """Almost exactly: the pull towards the depth of equal spread weighs a hundredth."""
    problem = crowd.problem
    got = place(problem, points[:, None], torch.ones_like(problem.confidence))[:, 0]
    error = (got - crowd.transl).abs()
    assert (error[:, 2] < 0.004 * crowd.transl[:, 2]).all()
    assert (error[:, :2] < 0.003).all()


def test_place_tries_many_candidates_at_once(crowd, points):
    candidates = torch.stack((points, 2 * points, points.flip(0)), 1)
    trust = crowd.problem.confidence
    many = place(crowd.problem, candidates, trust)
    assert many.shape == (12, 3, 3)
    for m in range(3):
        one = place(crowd.problem, candidates[:, m : m + 1], trust)
        torch.testing.assert_close(many[:, m : m + 1], one, rtol=0, atol=1e-9)
    # twice as large and twice as far look the same
    torch.testing.assert_close(many[:, 1], 2 * many[:, 0], rtol=1e-6, atol=1e-6)


def test_place_ignores_what_is_not_trusted(crowd, points):
    trust = torch.ones_like(crowd.problem.confidence)
    trust[:, [4, 7]] = 0
    expected = place(crowd.problem, points[:, None], trust)
    keypoints = crowd.problem.keypoints.clone()
    keypoints[:, [4, 7]] = -1e5
    other = replace(crowd.problem, keypoints=keypoints)
    torch.testing.assert_close(place(other, points[:, None], trust), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seen", [[], [0], [10], [0, 14], [2, 5], [3, 3, 4]])
def test_place_with_few_keypoints(crowd, points, seen, dtype):
    confidence = torch.zeros(12, 25, dtype=dtype)
    confidence[:, seen] = 0.7
    camera = crowd.problem.camera.to(dtype=dtype)
    problem = FitProblem.build(BODY25, crowd.problem.keypoints.to(dtype), confidence, camera)
    points = points.to(dtype)
    got = place(problem, points[:, None], confidence)[:, 0]
    assert got.isfinite().all()
    assert (got[:, 2] > 0).all()
    if seen:  # and the body is where it was seen
        pixels, _ = camera.project(points + got[:, None])
        error = (pixels - problem.keypoints).norm(dim=-1)[:, seen]
        assert (error.mean(-1) < 60).all()


def test_place_when_all_keypoints_are_one(crowd, points):
    keypoints = torch.full_like(crowd.problem.keypoints, 200.0)
    confidence = torch.ones_like(crowd.problem.confidence)
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    got = place(problem, points[:, None], confidence)
    assert got.isfinite().all()
    assert (got[..., 2] > 1).all()  # far away


def test_place_keeps_a_hopeless_candidate_in_front(crowd, points):
    """Upside down and mirrored: least squares alone would put some behind the camera."""
    wrong = points * torch.tensor([-1.0, -1.0, 3.0])
    got = place(crowd.problem, wrong[:, None], crowd.problem.confidence)
    assert got.isfinite().all()
    assert (got[..., 2] > MIN_DEPTH).all()


# --- orientations ---


def test_upright_facing_camera_looks_back():
    turn = upright_facing_camera(torch.zeros(1, dtype=torch.float64))
    assert (turn @ torch.tensor([0.0, 1.0, 0.0]).double()).tolist() == [0, -1, 0]
    assert (turn @ torch.tensor([0.0, 0.0, 1.0]).double()).tolist() == [0, 0, -1]
    assert torch.linalg.det(turn) == 1


def test_orientations_are_different_rotations():
    rotations, sector, cost = candidate_orientations(torch.zeros(1, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(-1, -2), eye)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(len(rotations)).double())
    assert sector.bincount().tolist() == [len(rotations) // NUM_YAWS] * NUM_YAWS
    apart = rotation_angle(rotations[:, None].transpose(-1, -2) @ rotations)
    apart.fill_diagonal_(9)
    assert apart.min() > math.radians(4)
    upright = rotations[cost == 0]
    assert len(upright) == NUM_YAWS
    assert (upright[:, 1, 1] == -1).all()
    assert (cost >= 0).all()


# --- hypotheses ---


@pytest.mark.parametrize("kind", ["people", "one keypoint", "nothing", "nan", "garbage"])
def test_every_yaw_sector_is_there(crowd, body, prior, kind):
    keypoints, confidence = crowd.problem.keypoints.clone(), crowd.problem.confidence.clone()
    if kind == "one keypoint":
        confidence[:, 1:] = 0
    elif kind == "nothing":
        confidence[:] = 0
    elif kind == "nan":
        keypoints[::2] = torch.nan
    elif kind == "garbage":
        keypoints *= torch.linspace(-30, 30, 25, dtype=torch.float64)[:, None]
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    start = hypotheses(problem, body, prior, prior.modes())
    assert start.person.tolist() == [p for p in range(12) for _ in range(NUM_YAWS)]
    roots = prior.decode(start.state.latent).rotations[:, 0]
    orientations, sector, _ = candidate_orientations(problem.keypoints)
    nearest = (roots[:, None] - orientations).abs().amax((-1, -2))
    assert nearest.amin(-1).max() < 1e-12
    sane = slice(1, None, 2) if kind == "nan" else slice(None)
    sectors = sector[nearest.argmin(-1)].unflatten(0, (12, NUM_YAWS))[sane]
    assert (sectors == torch.arange(NUM_YAWS)).all()
    fine = start.state.transl.unflatten(0, (12, NUM_YAWS))[sane]
    assert fine.isfinite().all()
    assert (fine[..., 2] > 0).all()


def test_the_true_direction_is_among_the_best(crowd, body, prior):
    """Of the hypotheses, the one that reprojects best faces about the true way."""
    start = hypotheses(crowd.problem, body, prior, prior.modes())
    roots = prior.decode(start.state.latent).rotations[:, 0].unflatten(0, (12, NUM_YAWS))
    apart = rotation_angle(roots.transpose(-1, -2) @ crowd.rotations[:, None, 0])
    assert (apart.amin(-1) < math.radians(60)).float().mean() > 0.9


def test_people_do_not_know_of_each_other(crowd, body, prior):
    whole = hypotheses(crowd.problem, body, prior, prior.modes())
    for row in range(0, 12, 5):
        problem = crowd.problem.rows(torch.tensor([row]))
        alone = hypotheses(problem, body, prior, prior.modes())
        mine = whole.state.rows(whole.person == row)
        torch.testing.assert_close(alone.state.latent, mine.latent, rtol=0, atol=1e-9)
        torch.testing.assert_close(alone.state.transl, mine.transl, rtol=0, atol=1e-9)


@pytest.mark.parametrize("what", ["focal", "center", "both"])
def test_a_camera_each(crowd, body, prior, what):
    camera = crowd.problem.camera
    focal, center = camera.focal, camera.center
    if what != "center":
        focal = focal.expand(12, 2)
    if what != "focal":
        center = center.expand(12, 2)
    one = FitProblem.build(
        BODY25, crowd.problem.keypoints, crowd.problem.confidence, Camera(focal, center)
    )
    expected = hypotheses(crowd.problem, body, prior, prior.modes())
    got = hypotheses(one, body, prior, prior.modes())
    torch.testing.assert_close(got.state.transl, expected.state.transl)
    assert torch.equal(got.state.latent, expected.state.latent)


def test_unseen_keypoints_may_be_nan(crowd, body, prior):
    confidence = crowd.problem.confidence.clone()
    confidence[:, [3, 20]] = 0
    keypoints = crowd.problem.keypoints.clone()
    expected = FitProblem.build(BODY25, keypoints.clone(), confidence, crowd.problem.camera)
    keypoints[:, [3, 20]] = torch.nan
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    got = hypotheses(problem, body, prior, prior.modes())
    clean = hypotheses(expected, body, prior, prior.modes())
    assert torch.equal(got.state.latent, clean.state.latent)
    assert torch.equal(got.state.transl, clean.state.transl)
    assert keypoints[:, 3].isnan().all()  # the caller's array is as it was


def test_a_prior_without_modes_starts_from_the_rest_pose(crowd, body):
    prior = RotationPrior("limits", [HingeLimits()], num_betas=body.num_betas)
    start = hypotheses(crowd.problem, body, prior, prior.modes())
    assert start.state.latent.dtype == torch.float64
    assert start.state.transl.isfinite().all()


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_schema(make_crowd, body, prior, schema):
    crowd = make_crowd(2, schema=schema, noise=1.0)
    start = hypotheses(crowd.problem, body, prior, Pose(*(x[:2] for x in prior.modes())))
    assert start.state.transl.isfinite().all()
    assert (start.state.transl[:, 2] > 1).all()
