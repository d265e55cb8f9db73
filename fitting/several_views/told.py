"""Tell every view's posterior what it saw; what is then to be minimised."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from flowfit.fitting.energy.objective import State
from flowfit.fitting.one_view.fit_people import whole_person
from flowfit.fitting.several_views.objective import ViewsObjective
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import ViewsRecipe
from flowfit.fitting.several_views.starts import Modes, modes_of
from flowfit.models.body import Body
from flowfit.priors.base import PriorModel
from flowfit.priors.keypoints.body_latent import BodyLatent


class Told(NamedTuple):
    """Posteriors that have looked.

    Attributes:
        objective: of the recipe's last stage. modes: the views' likeliest bodies.
    """

    objective: ViewsObjective
    modes: Modes


def tell_views(
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    recipe: ViewsRecipe,
    mode: str,
) -> Told:
    """What is to be minimised.

    The views share one prior by the confidence of what they saw: their posteriors each hold the
    pose prior, so that V of them with full weight would count it V times.

    Args:
        problem, body, prior, recipe: as in `fit_views`. mode: what is known of the rig.
    """
    flat, views = problem.single_views(), problem.views
    given = prior.given(problem.schema, flat.keypoints, flat.confidence, flat.camera, body)
    share = problem.confidence.sum(-1)
    nobody = share.sum(-1, keepdim=True) <= 0
    share = torch.where(nobody, 1.0, share)
    share = share / share.sum(-1, keepdim=True)
    start = given.start()
    assert start is not None
    everyone = torch.arange(len(flat), device=share.device)
    unit = whole_person(flat, body, given, State(*start), everyone).unflatten(0, (-1, views))
    problem = replace(problem, unit=unit)
    objective = ViewsObjective(
        problem, body, BodyLatent.of(given), share, recipe, recipe.stages[-1], mode
    )
    return Told(objective, modes_of(given, views))
