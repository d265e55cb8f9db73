"""Fit people with a prior that is told what was seen of them, again where it was told wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Recipe, Reprojection
from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.one_view.fit_people import PEOPLE_AT_ONCE, fit_people
from flowfit.fitting.results.judge import judged
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.sides import put_back
from flowfit.fitting.results.tellings import believed_exchange, tell_all
from flowfit.models.body import Body
from flowfit.priors.base import Pose, PosePrior, PriorModel

# of how rare a body is without its keypoints; the whole of it would tell strange poses from usual
# ones rather than wrong sides from right ones (`python -m benchmarks.one_view.exchanged`)
_RARITY = 0.5


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

    A detector can exchange left and right, too. Whoever's legs or arms the posterior believes
    exchanged is fitted with them put back, and stays so if that explains them much better
    (`Recipe.exchange`).

    How far to trust a fit is judged with what the prior makes of it (`judge`).

    Args:
        problem: of B people. body, model: in its number type. recipe: the stages.
        progress: called with the number of people just done.
        solver: for every stage; None for each stage's own.
    """
    result = _fitted(problem, body, model, recipe, progress, solver)
    if recipe.exchange is not None and model.by_keypoints_alone:
        spent, began = result.seconds, time.perf_counter()
        tried = try_sides(problem, result, body, model, recipe, solver)
        if tried is not None:
            better = (tried.gain > recipe.exchange).nonzero()[:, 0]
            result = result.put(tried.rows[better], tried.result.rows(better))
        result = replace(result, seconds=spent + time.perf_counter() - began)
    return judged(problem, result, body, model)


class Tried(NamedTuple):
    """Fits of some people with exchanged sides.

    Attributes:
        rows: (R,) who they are. result: their fits. gain: (R,) nats by which these are better.
    """

    rows: Tensor
    result: FitResult
    gain: Tensor


def try_sides(
    problem: FitProblem,
    result: FitResult,
    body: Body,
    model: PriorModel,
    recipe: Recipe,
    solver: str | None = None,
) -> Tried | None:
    """Fit those whose sides the posterior believes exchanged with them put back; None: nobody.

    Args:
        problem, body, model, recipe, solver: as in `fit_seen`. result: of the fit as seen.
    """
    same = replace(problem, unit=result.unit)
    everyone = torch.arange(len(problem), device=result.betas.device)
    believed = [
        believed_exchange(
            tell_all(same.rows(some), result.doubted[some], body, model), same.rows(some)
        )
        for some in everyone.split(PEOPLE_AT_ONCE)
    ]
    exchanged = torch.cat(believed)
    rows = exchanged.nonzero()[:, 0]
    if not len(rows):
        return None
    exchanged, before = exchanged[rows], result.rows(rows)
    other = put_back(problem.rows(rows), exchanged)
    found = _fitted(other, body, model, recipe, None, solver)
    # in the same unit: the noise is the same, whoever explains it
    as_seen, as_put_back = same.rows(rows), replace(other, unit=before.unit)
    data = recipe.stages[-1].reprojection
    gain = _cost(as_seen, before, body, model, data) - _cost(as_put_back, found, body, model, data)
    iterations = before.iterations + found.iterations
    return Tried(rows, replace(found, exchanged=exchanged, iterations=iterations), gain)


@torch.no_grad()
def _cost(
    problem: FitProblem, result: FitResult, body: Body, model: PriorModel, data: Reprojection
) -> Tensor:
    """What fits (B,) cost, whatever the posterior was told: nats, NaN of invalid people.

    Not their energies, as each latent is counted from what the posterior made of its keypoints.
    """
    nothing = torch.zeros_like(problem.confidence)
    prior = model.given(problem.schema, problem.keypoints, nothing, problem.camera, body)
    rare = prior.encode(Pose(result.rotations, result.betas))
    term = ReprojectionTerm.of_people(data, problem, body)
    met = term.met(result.keypoints2d, result.keypoints2d.isfinite().all(-1))
    return met.energy + _RARITY * 0.5 * (rare * rare).sum(-1)


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
    told = tell(model.rows(rows), replace(again, confidence=trusted), body)
    second = fit_people(again, body, told, recipe, solver=solver)
    second = replace(
        second, doubted=doubted[rows], iterations=second.iterations + first.iterations[rows]
    )
    return replace(first.put(rows, second), seconds=first.seconds + second.seconds)


def tell(model: PriorModel, problem: FitProblem, body: Body) -> PosePrior:
    """The prior of these people."""
    return model.given(problem.schema, problem.keypoints, problem.confidence, problem.camera, body)


def _doubted(problem: FitProblem, result: FitResult, distance: float) -> Tensor:
    error = (result.keypoints2d - problem.keypoints).norm(dim=-1) / result.unit[:, None]
    # a keypoint that the body lacks has no error; of an invalid person nothing is known
    far = error.nan_to_num(nan=0.0) > distance
    return far & (problem.confidence > 0)
