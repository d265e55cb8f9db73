"""Keypoints as they could have been seen, and what bodies cost that are held against them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Reprojection
from flowfit.fitting.results.sides import AS_SEEN, EXCHANGED, exchange
from flowfit.fitting.results.tellings import AS_FITTED, TELLINGS, misfit, tell_all
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.load import load


@pytest.fixture(scope="module")
def model():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(3, seed=7, noise=1.5, bend=0.08)


DATA = Reprojection(sigma=0.014, scale=0.05)


def test_everybody_in_every_telling(crowd, body, model):
    doubted = torch.zeros_like(crowd.problem.confidence, dtype=torch.bool)
    told = tell_all(crowd.problem, doubted, body, model)
    assert told.person.tolist() == [0, 1, 2] * len(TELLINGS)
    assert told.belief.shape == (len(TELLINGS), 3)
    torch.testing.assert_close(told.belief.sum(0), torch.ones(3, dtype=torch.float64))
    # nothing is doubted: the fit was told what was seen
    first, second = (told.belief[TELLINGS.index(n)] for n in (AS_FITTED, AS_SEEN))
    torch.testing.assert_close(first, second)
    assert (first + second > 0.6).all()
    assert (first + second).mean() > 0.8
    doubted[0, BODY25.index("LWrist")] = True
    other = tell_all(crowd.problem, doubted, body, model)
    assert not torch.equal(other.given.context[0], told.given.context[0])
    torch.testing.assert_close(other.given.context[1:], told.given.context[1:])


def test_exchanged_sides_are_believed_exchanged(crowd, body, model):
    for name, ends in EXCHANGED.items():
        places = exchange(BODY25, ends)
        problem = FitProblem.build(
            BODY25,
            crowd.problem.keypoints[:, places],
            crowd.problem.confidence[:, places],
            crowd.problem.camera,
        )
        doubted = torch.zeros_like(problem.confidence, dtype=torch.bool)
        belief = tell_all(problem, doubted, body, model).belief
        assert belief[TELLINGS.index(name)].mean() > 0.4, name


def test_a_body_is_placed_and_its_misfit_measured(make_crowd, body):
    crowd = make_crowd(3, noise=0.0)
    true = Pose(crowd.rotations, crowd.betas)
    exact = misfit(crowd.problem, body, true, DATA)
    assert (exact < 0.01).all()
    away = axis_angle_to_matrix(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    turned = Pose(torch.cat((away @ true.rotations[:, :1], true.rotations[:, 1:]), 1), true.betas)
    assert (misfit(crowd.problem, body, turned, DATA) > exact + 10).all()
    # a wrong keypoint costs what an outlier costs, wherever it is
    costs = []
    for far in (1.0, 30.0):
        keypoints = crowd.problem.keypoints.clone()
        keypoints[:, BODY25.index("RWrist")] += far * crowd.problem.size[:, None]
        costs.append(misfit(replace(crowd.problem, keypoints=keypoints), body, true, DATA))
    torch.testing.assert_close(costs[0], costs[1], rtol=0.05, atol=0.05)
    # nobody is left out of whom nothing was seen
    unseen = replace(crowd.problem, confidence=torch.zeros_like(crowd.problem.confidence))
    assert (misfit(unseen, body, true, DATA) == 0).all()
