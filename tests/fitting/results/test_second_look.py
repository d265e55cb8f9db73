"""What the posterior makes of a fit: the same alone and in company, and lower for a wrong body."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.results.judge import evidence, judged
from flowfit.fitting.results.quality import LOW_FACING
from flowfit.fitting.results.second_look import OPINIONS, second_look
from flowfit.fitting.solvers.solution import Status
from flowfit.models.keypoints import BODY25, mirrored_keypoint
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.load import load


@pytest.fixture(scope="module")
def model():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(4, seed=7, noise=1.5, bend=0.08)


@pytest.fixture(scope="module")
def together(crowd, body, model):
    return fit_seen(crowd.problem, body, model, RECIPES["flow"])


def look(problem, body, model, result):
    pose = Pose(result.rotations, result.betas)
    return second_look(problem, result.doubted, body, model, pose, result.joints3d)


def test_priors_that_heard_nothing_have_no_opinion(crowd, body, together, prior):
    for silent in (prior, load("pose-flow", dtype=torch.float64)):
        assert look(crowd.problem, body, silent, together) is None
    gmm = fit_seen(crowd.problem, body, prior, RECIPES["gmm"])
    assert ((gmm.facing > 0) & (gmm.facing < 1)).all()


def test_a_body_turned_about_is_found_out(crowd, body, model, together):
    turned = together.rotations.clone()
    about = axis_angle_to_matrix(torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64))
    turned[:, 0] = about @ turned[:, 0]
    joints = body.joints(together.betas, turned, together.transl)
    backwards = replace(together, rotations=turned, joints3d=joints)
    right = look(crowd.problem, body, model, together)
    wrong = look(crowd.problem, body, model, backwards)
    assert right.shape == wrong.shape == (4, len(OPINIONS))
    for place in (list(OPINIONS).index(n) for n in ("draws' mean turn", "draws turned away")):
        assert (wrong[:, place] > right[:, place]).all()
    # the draws are part of the evidence: the keypoints are met as well as before
    chance = judged(crowd.problem, backwards, body, model).facing
    assert (chance < together.facing - 0.2).all()
    assert (chance.logit() < together.facing.logit() - 4).all()


def test_people_do_not_know_each_other(crowd, body, model, together):
    keypoints = crowd.problem.keypoints.clone()
    keypoints[2] = torch.nan
    confidence = crowd.problem.confidence
    odd = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    beside = fit_seen(odd, body, model, RECIPES["flow"])
    assert beside.status[2] is Status.INVALID
    assert (float(beside.quality[2]), float(beside.facing[2])) == (0, 0)
    for row in (0, 1, 3):
        alone = fit_seen(crowd.problem.rows(torch.tensor([row])), body, model, RECIPES["flow"])
        for name in ("quality", "facing"):
            expected = getattr(together, name)[row : row + 1]
            for got in (getattr(alone, name), getattr(beside, name)[row : row + 1]):
                torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_many_are_looked_at_in_parts(crowd, body, model, together):
    places = torch.arange(70) % 4
    pose = Pose(together.rotations[places], together.betas[places])
    many = crowd.problem.rows(places), together.doubted[places]
    found = second_look(*many, body, model, pose, together.joints3d[places])
    few = look(crowd.problem, body, model, together)
    torch.testing.assert_close(found, few[places], rtol=1e-9, atol=1e-9)


def test_judging_again_changes_nothing(crowd, body, model, together):
    again = judged(crowd.problem, together, body, model)
    assert torch.equal(again.quality, together.quality)
    assert torch.equal(again.facing, together.facing)


def test_nobody_seen_has_finite_evidence(crowd, body, model):
    confidence = crowd.problem.confidence.clone()
    confidence[0] = 0
    problem = FitProblem.build(BODY25, crowd.problem.keypoints, confidence, crowd.problem.camera)
    result = fit_seen(problem, body, model, RECIPES["flow"])
    seen, opinions = evidence(problem, result, body, model)
    assert seen.isfinite().all()
    assert opinions.isfinite().all()
    assert (float(result.quality[0]), float(result.facing[0])) == (0, 0)


def test_legs_seen_the_wrong_way_round_lower_the_score(crowd, body, model, together):
    """Hips and legs with left and right exchanged: the body is turned, or its waist is."""
    legs = ("Hip", "Knee", "Ankle", "BigToe", "SmallToe", "Heel")
    places = [
        BODY25.index(mirrored_keypoint(n)) if n.endswith(legs) and n != "MidHip" else i
        for i, n in enumerate(BODY25.names)
    ]
    problem = crowd.problem
    keypoints, confidence = problem.keypoints[:, places], problem.confidence[:, places]
    exchanged = FitProblem.build(BODY25, keypoints, confidence, problem.camera)
    as_seen = replace(RECIPES["flow"], exchange=None)  # else it puts them back
    result = fit_seen(exchanged, body, model, as_seen)
    assert (together.facing > LOW_FACING).all()
    assert (result.facing < together.facing).all()
