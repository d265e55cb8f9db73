"""Fit people with a prior that is told what was seen of them, twice where it was told wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fitting.fit_people import FitResult, fit_people, replace_rows
from fitting.judge import judged
from fitting.problem import FitProblem
from fitting.recipes import Recipe
from models.body import Body
from priors.base import PosePrior, PriorModel
from priors.picture_prior import rows_of


def fit_seen(
    problem: FitProblem,
    body: Body,
    model: PriorModel,
    recipe: Recipe,
    *,
    progress: Callable[[int], object] | None = None,
    solver: str | None = None,
) -> FitResult:
    """Tell the prior what was seen, fit, and reconsider.

    A detector can be wrong with full confidence. The data term then gives way, being robust; a
    posterior that was told of the keypoint does not, and pulls the body there. So keypoints that
    the fitted body is far from are doubted (`Recipe.doubt`), the posterior is told again without
    them, and those people are fitted once more. The doubted keypoints stay in the data term.

    How far to trust a fit is judged with what the prior makes of it (`judge`).

    Args:
        problem: of B people. body, model: in its number type. recipe: the stages.
        progress: called with the number of people just done.
        solver: for every stage; None for each stage's own.
    """
    result = _fitted(problem, body, model, recipe, progress, solver)
    return judged(problem, result, body, model)


def _fitted(
    problem: FitProblem,
    body: Body,
    model: PriorModel,
    recipe: Recipe,
    progress: Callable[[int], object] | None,
    solver: str | None,
) -> FitResult:
    told = tell(model, problem, body)
    first = fit_people(problem, body, told, recipe, progress=progress, solver=solver)
    if recipe.doubt is None or not model.looks:
        return first
    doubted = _doubted(problem, first, recipe.doubt)
    rows = doubted.any(-1).nonzero()[:, 0]
    if not len(rows):
        return first
    again = problem.rows(rows)
    trusted = torch.where(doubted[rows], 0, again.confidence)
    told = tell(rows_of(model, rows), replace(again, confidence=trusted), body)
    second = fit_people(again, body, told, recipe, solver=solver)
    second = replace(
        second, doubted=doubted[rows], iterations=second.iterations + first.iterations[rows]
    )
    return replace_rows(first, rows, second)


def tell(model: PriorModel, problem: FitProblem, body: Body) -> PosePrior:
    """The prior of these people."""
    return model.given(problem.schema, problem.keypoints, problem.confidence, problem.camera, body)


def _doubted(problem: FitProblem, result: FitResult, distance: float) -> Tensor:
    error = (result.keypoints2d - problem.keypoints).norm(dim=-1) / result.unit[:, None]
    # a keypoint that the body lacks has no error; of an invalid person nothing is known
    far = error.nan_to_num(nan=0.0) > distance
    return far & (problem.confidence > 0)
