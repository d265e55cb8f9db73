"""Which view of a frame contradicts the others: another person, or a detection gone wrong.

The data term gives way to such a view, being robust; the view's posterior does not. With a known
rig the others say where the person must be, and the view is plainly far off. With an unknown one it
is placed wherever it fits best and only bends the pose, so it is tried: it is doubted when the
others fit better without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.energy.units import Unit
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import ViewsRecipe
from flowfit.fitting.several_views.result import ViewsResult

_ENOUGH = 3  # of two views that disagree nobody knows which to believe


def far_off(result: ViewsResult, recipe: ViewsRecipe) -> Tensor:
    """(F, V): views whose median error is large in itself and next to the others'."""
    assert recipe.doubt is not None
    error = result.reprojection_px / result.unit
    usual = error.nanmedian(-1, keepdim=True).values
    several = (error.isfinite().sum(-1) >= _ENOUGH)[:, None]
    return several & (error > recipe.doubt) & (error > recipe.doubt_ratio * usual)


def suspects(problem: MultiviewProblem, result: ViewsResult, recipe: ViewsRecipe) -> Tensor:
    """(F, V): the view of each frame that fits worst, if it fits badly."""
    energy = data_energy(problem, result, recipe)
    several = ((energy > 0).sum(-1) >= _ENOUGH)[:, None]
    worst = energy == energy.amax(-1, keepdim=True)
    return several & worst & (energy > recipe.suspicious)


def data_energy(problem: MultiviewProblem, result: ViewsResult, recipe: ViewsRecipe) -> Tensor:
    """Reprojection energy of each view (F, V), nats; 0 of one without a place."""
    known = (result.keypoints2d - problem.keypoints).isfinite().all(-1)
    data, unit = recipe.stages[-1].reprojection, Unit(result.unit, result.unit)
    evidence = problem.evidence() * known
    term = ReprojectionTerm.of(data, problem.keypoints, evidence, unit)
    return term.met(result.keypoints2d, known).energy


def others_fell(
    problem: MultiviewProblem,
    before: ViewsResult,
    after: ViewsResult,
    left_out: Tensor,
    recipe: ViewsRecipe,
) -> Tensor:
    """(F,): how far the energy of the views fell that were not left out (F, V), nats."""
    fall = data_energy(problem, before, recipe) - data_energy(problem, after, recipe)
    return torch.where(left_out, 0, fall).sum(-1)
