"""The quality score: it falls with less evidence, larger errors and a wider posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fitting.fit_people import fit_people
from fitting.problem import FitProblem
from fitting.quality import ANY_RECIPE, FEATURES, features, predictors, quality
from fitting.recipes import RECIPES
from models.cameras import Camera
from models.keypoints import SCHEMAS

CAMERA = Camera.from_size(640, 480, 800.0).to(dtype=torch.float64)


def a_problem(people=3, schema="body25", confidence=0.9):
    names = SCHEMAS[schema]
    generator = torch.Generator().manual_seed(0)
    keypoints = 100 + 200 * torch.rand(
        people, len(names), 2, generator=generator, dtype=torch.float64
    )
    sure = torch.full((people, len(names)), confidence, dtype=torch.float64)
    return FitProblem.build(names, keypoints, sure, CAMERA)


def score(problem, *, error=0.01, sd=0.08, energy=2.0, recipe="flow"):
    shape = problem.confidence.shape
    errors = error * problem.unit[:, None].expand(shape)
    spread = torch.full(shape, sd, dtype=torch.float64)
    cost = torch.full((shape[0],), energy, dtype=torch.float64)
    return quality(problem, errors, torch.ones(shape, dtype=torch.bool), spread, cost, recipe)


@pytest.mark.parametrize("recipe", [*RECIPES, "my own"])
def test_it_falls_with_errors_spread_and_cost(recipe):
    problem = a_problem()
    best = score(problem, recipe=recipe)
    assert ((best > 0) & (best < 1)).all()
    for worse in ({"error": 0.06}, {"sd": 0.3}, {"energy": 20.0}):
        assert (score(problem, **worse, recipe=recipe) <= best).all(), worse
    every = score(problem, error=0.06, sd=0.3, energy=20.0, recipe=recipe)
    assert (every < best).all()
    if recipe == "flow":
        assert (every < 0.5 * best).all()


@pytest.mark.parametrize("recipe", [*RECIPES, "my own"])
def test_less_evidence_is_never_better(recipe):
    whole = a_problem()
    limbs = [n for n in whole.schema.names if "Wrist" in n or "Ankle" in n]
    confidence = whole.confidence.clone()
    confidence[:, whole.schema.indices(limbs)] = 0.2
    part = FitProblem.build(whole.schema, whole.keypoints, confidence, CAMERA)
    assert (score(part, recipe=recipe) <= score(whole, recipe=recipe)).all()


@pytest.mark.parametrize("recipe", [*RECIPES, ANY_RECIPE])
def test_no_coefficient_has_the_wrong_sign(recipe):
    known = predictors().get(recipe, predictors()[ANY_RECIPE])
    for value, sign in zip(known.coefficients, FEATURES.values(), strict=True):
        assert value * sign >= 0
    assert math.isfinite(known.offset)


def test_people_do_not_know_each_other():
    problem = a_problem(4)
    together = score(problem)
    for row in range(4):
        assert torch.equal(score(problem.rows(torch.tensor([row]))), together[row : row + 1])


def test_nobody_and_nonsense_have_none():
    problem = a_problem()
    confidence = problem.confidence.clone()
    confidence[1] = 0
    keypoints = problem.keypoints.clone()
    keypoints[2, 5] = torch.nan
    odd = FitProblem.build(problem.schema, keypoints, confidence, CAMERA)
    errors = (keypoints - problem.keypoints + 1).norm(dim=-1)
    shape = confidence.shape
    found = quality(
        odd,
        errors,
        torch.ones(shape, dtype=torch.bool),
        torch.full(shape, 0.05, dtype=torch.float64),
        torch.full(shape[:1], 20.0, dtype=torch.float64),
    )
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
    assert found.shape == (2, len(FEATURES))
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
    from benchmarks.tune_quality import fitted

    generator = np.random.default_rng(0)
    signs = np.array(list(FEATURES.values()), float)
    x = generator.normal(size=(20_000, len(FEATURES)))
    true = 0.7 * signs
    true[0] = -0.5  # of the wrong sign: to be held at zero
    y = (generator.random(len(x)) < 1 / (1 + np.exp(-(0.4 + x @ true)))).astype(float)
    found = fitted(x, y)
    assert found["coefficients"][0] == 0
    assert np.allclose(found["coefficients"][1:], true[1:], atol=0.12)


def test_area_under_the_curve():
    from benchmarks.quality_score import auc

    score = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert auc(score, torch.tensor([True, True, False, False])) == 1
    assert auc(score, torch.tensor([False, True, False, True])) == 0.25
    assert auc(torch.ones(4), torch.tensor([False, True, False, True])) == 0.5
    assert math.isnan(auc(score, torch.zeros(4, dtype=torch.bool)))
