"""A prior that looks is told again, without the keypoints that proved wrong."""

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.models.keypoints import BODY25
from flowfit.priors.base import KEYPOINTS, PriorModel

WRONG = BODY25.index("RWrist")


class Listener(PriorModel):
    """The mixture, but it takes notes of what it is told."""

    name = "listener"

    def __init__(self, prior, sees=frozenset({KEYPOINTS})):
        self.prior, self.sees, self.told = prior, sees, []

    def given(self, schema, keypoints, confidence, camera, body):
        self.told.append(confidence.clone())
        return self.prior


@pytest.fixture
def listener(prior):
    return Listener(prior)


@pytest.fixture
def crowd(make_crowd):
    return make_crowd(4)


@pytest.fixture
def spoiled(crowd):
    """The crowd, the first person's wrist moved by the person's own size."""
    keypoints = crowd.problem.keypoints.clone()
    keypoints[0, WRONG] += crowd.problem.size[0]
    confidence = torch.ones_like(crowd.problem.confidence)
    return replace(crowd.problem, keypoints=keypoints, confidence=confidence)


RECIPE = replace(RECIPES["gmm"], doubt=0.3)


def test_what_no_body_explains_is_doubted(spoiled, body, listener):
    result = fit_seen(spoiled, body, listener, RECIPE)
    assert result.doubted[0].nonzero()[:, 0].tolist() == [WRONG]
    assert len(listener.told) == 2
    assert torch.equal(listener.told[0], spoiled.confidence)
    assert listener.told[1][0, WRONG] == 0
    assert int((listener.told[1] == 0).sum()) == int(result.doubted.sum())


def test_the_others_stay_as_they_were(spoiled, body, listener):
    first = fit_people(spoiled, body, listener.prior, RECIPE)
    result = fit_seen(spoiled, body, listener, RECIPE)
    calm = (~result.doubted.any(-1)).nonzero()[:, 0]
    assert len(calm)
    for name in ("rotations", "betas", "transl", "keypoint_sd", "iterations"):
        assert torch.equal(getattr(result, name)[calm], getattr(first, name)[calm])
    assert result.iterations[0] > first.iterations[0]


def test_nobody_is_asked_twice_without_need(crowd, body, listener):
    recipe = replace(RECIPE, doubt=10.0)
    assert not fit_seen(crowd.problem, body, listener, recipe).doubted.any()
    fit_seen(crowd.problem, body, listener, replace(RECIPE, doubt=None))
    fit_seen(crowd.problem, body, Listener(listener.prior, sees=frozenset()), RECIPE)
    assert len(listener.told) == 2
