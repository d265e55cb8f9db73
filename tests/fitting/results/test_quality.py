"""The two scores: they fall with less evidence, larger errors and a wider posterior."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.results.quality import (
    ANY_RECIPE,
    FEATURES,
    SCORES,
    SEEN,
    chances,
    features,
    predictors,
)
from flowfit.fitting.results.second_look import OPINIONS
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import SCHEMAS

CAMERA = Camera.from_size(640, 480, 800.0).to(dtype=torch.float64)


def a_problem(people=3, schema="body25", confidence=0.9):
    names = SCHEMAS[schema]
    generator = torch.Generator().manual_seed(0)
    keypoints = 100 + 200 * torch.rand(
        people, len(names), 2, generator=generator, dtype=torch.float64
    )
    sure = torch.full((people, len(names)), confidence, dtype=torch.float64)
    return FitProblem.build(names, keypoints, sure, CAMERA)


# what is more than a sure posterior of an ordinary fit says, feature by feature
SURE, UNSURE = -3.0, 3.0


def trust(problem, *, error=0.01, sd=0.08, energy=2.0, recipe="flow", opinion=SURE):
    shape = problem.confidence.shape
    errors = error * problem.unit[:, None].expand(shape)
    spread = torch.full(shape, sd, dtype=torch.float64)
    cost = torch.full((shape[0],), energy, dtype=torch.float64)
    seen = features(problem, errors, torch.ones(shape, dtype=torch.bool), spread, cost)
    signs = torch.tensor([float(s) for s in OPINIONS.values()], dtype=torch.float64)
    own = predictors("quality").get(recipe, predictors("quality")[ANY_RECIPE])
    silent = opinion is None or not any(own.coefficients[len(SEEN) :])
    opinions = None if silent else -opinion * signs.expand(shape[0], -1)
    return chances(problem, seen, opinions, recipe)


def score(problem, **given):
    return trust(problem, **given).quality


@pytest.mark.parametrize("which", SCORES)
@pytest.mark.parametrize("recipe", [*RECIPES, "my own"])
def test_they_fall_with_errors_spread_and_cost(recipe, which):
    problem = a_problem()
    best = getattr(trust(problem, recipe=recipe), which)
    assert ((best > 0) & (best < 1)).all()
    bad = {"error": 0.06, "sd": 0.3, "energy": 20.0, "opinion": UNSURE}
    for worse, value in bad.items():
        one = getattr(trust(problem, **{worse: value}, recipe=recipe), which)
        assert (one <= best).all(), worse
    every = getattr(trust(problem, **bad, recipe=recipe), which)
    assert (every < best).all()
    if recipe == "flow":
        assert (every < 0.5 * best).all()


@pytest.mark.parametrize("which", SCORES)
@pytest.mark.parametrize("recipe", [*RECIPES, "my own"])
def test_less_evidence_is_never_better(recipe, which):
    whole = a_problem()
    limbs = [n for n in whole.schema.names if "Wrist" in n or "Ankle" in n]
    confidence = whole.confidence.clone()
    confidence[:, whole.schema.indices(limbs)] = 0.2
    part = FitProblem.build(whole.schema, whole.keypoints, confidence, CAMERA)
    less, more = (getattr(trust(p, recipe=recipe), which) for p in (part, whole))
    assert (less <= more).all()


@pytest.mark.parametrize("which", SCORES)
@pytest.mark.parametrize("recipe", [*RECIPES, ANY_RECIPE])
def test_no_coefficient_has_the_wrong_sign(recipe, which):
    known = predictors(which)[recipe]
    for value, sign in zip(known.coefficients, FEATURES.values(), strict=True):
        assert value * sign >= 0
    assert math.isfinite(known.offset)


@pytest.mark.parametrize("which", SCORES)
def test_without_opinions_the_coefficients_are_those_that_need_none(which):
    assert any(predictors(which)["flow"].coefficients[len(SEEN) :])
    assert not any(predictors(which)[ANY_RECIPE].coefficients[len(SEEN) :])
    problem = a_problem()
    alone, own = (trust(problem, recipe=r, opinion=None) for r in ("flow", ANY_RECIPE))
    assert torch.equal(getattr(alone, which), getattr(own, which))


def test_a_prior_of_another_kind_has_coefficients_of_no_recipe():
    problem = a_problem()
    seen = torch.ones(len(problem), len(SEEN), dtype=torch.float64)
    opinions = torch.zeros(len(problem), len(OPINIONS), dtype=torch.float64)
    mixture, general = (chances(problem, seen, None, r) for r in ("gmm", ANY_RECIPE))
    told = chances(problem, seen, opinions, "gmm")
    assert torch.equal(told.quality, general.quality)
    assert not torch.equal(told.quality, mixture.quality)


def test_people_do_not_know_each_other():
    problem = a_problem(4)
    together = trust(problem)
    for row in range(4):
        alone = trust(problem.rows(torch.tensor([row])))
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one, all_of_them[row : row + 1])


def test_nobody_and_nonsense_have_none():
    problem = a_problem()
    confidence = problem.confidence.clone()
    confidence[1] = 0
    keypoints = problem.keypoints.clone()
    keypoints[2, 5] = torch.nan
    odd = FitProblem.build(problem.schema, keypoints, confidence, CAMERA)
    errors = (keypoints - problem.keypoints + 1).norm(dim=-1)
    shape = confidence.shape
    seen = features(
        odd,
        errors,
        torch.ones(shape, dtype=torch.bool),
        torch.full(shape, 0.05, dtype=torch.float64),
        torch.full(shape[:1], 20.0, dtype=torch.float64),
    )
    for found in chances(odd, seen, None):
        assert found[0] > 0
        assert found[1:].tolist() == [0, 0]


@pytest.mark.parametrize("schema", list(SCHEMAS))
def test_every_schema_has_its_features(schema):
    problem = a_problem(2, schema)
    shape = problem.confidence.shape
    found = features(
        problem,
        torch.full(shape, 3.0, dtype=torch.float64),
        torch.ones(shape, dtype=torch.bool),
        torch.full(shape, torch.inf, dtype=torch.float64),
        torch.full(shape[:1], torch.inf, dtype=torch.float64),
    )
    assert found.shape == (2, len(SEEN))
    assert found.isfinite().all()


def test_a_person_of_whom_little_is_seen_is_trusted_less(make_crowd, body, prior):
    crowd = make_crowd(3, seed=21)
    whole = fit_people(crowd.problem, body, prior, RECIPES["gmm"])
    confidence = crowd.problem.confidence.clone()
    confidence[:, 5:] = 0
    few = FitProblem.build(
        crowd.problem.schema, crowd.problem.keypoints, confidence, crowd.problem.camera
    )
    part = fit_people(few, body, prior, RECIPES["gmm"])
    assert (part.quality < whole.quality - 0.1).all()


def test_the_regression_finds_what_made_the_data():
    from benchmarks.trust.tune_quality import fitted

    generator = np.random.default_rng(0)
    signs = np.array(list(FEATURES.values()), float)
    x = generator.normal(size=(20_000, len(FEATURES)))
    true = 0.7 * signs
    true[0] = -0.5  # of the wrong sign: to be held at zero
    y = (generator.random(len(x)) < 1 / (1 + np.exp(-(0.4 + x @ true)))).astype(float)
    found = fitted(x, y[:, None])
    assert found["coefficients"][0] == 0
    assert np.allclose(found["coefficients"][1:], true[1:], atol=0.12)


def test_the_page_shows_the_committed_parts():
    from benchmarks.trust.uncertainty import PARTS
    from benchmarks.trust.uncertainty_page import markdown

    root = Path(__file__).parents[3]
    folder = root / "benchmarks" / "results" / "uncertainty"
    parts = {p: json.loads((folder / f"{p}.json").read_text(encoding="utf-8")) for p in PARTS}
    page = (root / "docs" / "uncertainty.md").read_text(encoding="utf-8")
    assert markdown(parts).strip() in page


def test_reliability_and_brier_score():
    from benchmarks.trust.quality_score import brier, reliability

    chance = torch.tensor([0.05, 0.05, 0.95, 1.0], dtype=torch.float64)
    truth = torch.tensor([False, True, True, True])
    low, high = reliability(chance, truth)
    assert (low["people"], low["true"]) == (2, 0.5)
    assert high["chance"] == pytest.approx(0.975)
    assert brier(truth.double(), truth)["score"] == 0
    assert brier(torch.full((4,), 0.75).double(), truth)["score"] == pytest.approx(
        brier(chance, truth)["of_the_share"]
    )


def test_area_under_the_curve():
    from benchmarks.trust.quality_score import auc, auc_if_true

    score = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert auc(score, torch.tensor([True, True, False, False])) == 1
    assert auc(score, torch.tensor([False, True, False, True])) == 0.25
    assert auc(torch.ones(4), torch.tensor([False, True, False, True])) == 0.5
    assert math.isnan(auc(score, torch.zeros(4, dtype=torch.bool)))
    # who counts twice is there twice
    twice, none = torch.tensor([True, False, True, False]), torch.tensor([2.0, 1.0, 1.0, 1.0])
    again = torch.tensor([0.9, 0.9, 0.8, 0.7, 0.6])
    assert auc(score, twice, none.double()) == pytest.approx(
        auc(again, torch.tensor([True, True, False, True, False]))
    )
    # chances that are true: 0 and 1 are told apart, one chance for all tells nobody
    assert auc_if_true(torch.tensor([1.0, 0.0, 1.0]).double()) == 1
    assert auc_if_true(torch.full((4,), 0.3).double()) == pytest.approx(0.5)
