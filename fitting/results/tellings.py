"""What a posterior can be told of a person besides what was seen, and how far to believe it.

A detector that exchanges the legs of somebody gives keypoints that a body turned about explains. So
the posterior is told of the keypoints as its fit was told in the end, of all of them as they were
seen, and with the sides of legs, arms or both exchanged. How likely its likeliest body is, and how
well it meets the keypoints, says which of these to believe.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.placement import place
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Reprojection
from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.results.sides import AS_SEEN, SIDES, put_back
from flowfit.models.body import Body
from flowfit.priors.base import Pose, PosePrior, PriorModel

AS_FITTED = "as fitted"
TELLINGS = (AS_FITTED, *SIDES)
_DATA = RECIPES["flow"].stages[-1].reprojection
_HEAT = 2.0  # what bodies cost that nobody has fitted is roughly known
_PLACED = 3  # times: with the weights that the errors of the time before leave


class Told(NamedTuple):
    """T tellings of B people, telling by telling.

    Attributes:
        given: the posterior of T B people. person: (T B,), whose each is.
        belief: (T, B), how far to believe each; a person's add up to 1.
    """

    given: PosePrior
    person: Tensor
    belief: Tensor


@torch.no_grad()
def tell_all(problem: FitProblem, doubted: Tensor, body: Body, model: PriorModel) -> Told:
    """Tell the posterior everything in `TELLINGS`.

    Args:
        problem: of B people. doubted: (B, K), what the fit's prior was not told of in the end.
    """
    count = len(problem)
    person = torch.arange(count, device=problem.keypoints.device).repeat(len(TELLINGS))
    kinds = torch.arange(len(SIDES), device=person.device)
    # as fitted is as seen, but for what is doubted
    each = put_back(problem.rows(person), torch.cat((kinds[:1], kinds)).repeat_interleave(count))
    # what was not told of counts among the errors all the same
    keypoints, confidence = each.keypoints, each.confidence
    trusted = confidence.clone()
    trusted[:count].masked_fill_(doubted, 0)
    given, nothing = (
        model.given(each.schema, keypoints, c, each.camera, body)
        for c in (trusted, torch.zeros_like(trusted))
    )
    start = given.start()
    assert start is not None
    mode = given.decode(start.latent)
    rare = nothing.encode(mode)
    cost = misfit(each, body, mode, _DATA) + 0.5 * (rare * rare).sum(-1)
    belief = torch.softmax(-cost.view(len(TELLINGS), count) / _HEAT, 0)
    return Told(given, person, belief)


def believed_exchange(told: Told, problem: FitProblem) -> Tensor:
    """Whose sides the posterior believes exchanged rather than not: (B,), counted in `SIDES`.

    Args:
        told: of everybody in `problem`. An exchange that moves nothing that was seen is none.
    """
    first = TELLINGS.index(AS_SEEN)
    as_seen = told.belief[: first + 1].sum(0)
    otherwise = told.belief[first + 1 :].clone()
    for kind, belief in enumerate(otherwise, start=1):
        exchanged = torch.full_like(as_seen, kind, dtype=torch.long)
        other = put_back(problem, exchanged)
        same = (other.keypoints == problem.keypoints).all(-1) & (
            other.confidence == problem.confidence
        )
        belief[same.all(-1)] = 0
    # NaN of an invalid person compares false
    likely = otherwise.sum(0) > as_seen
    return torch.where(likely, otherwise.argmax(0) + 1, 0)


def misfit(problem: FitProblem, body: Body, pose: Pose, data: Reprojection) -> Tensor:
    """What B bodies cost, each placed where it meets the keypoints best: (B,) nats.

    Args:
        problem: of B people. pose: their bodies. data: noise and outlier scale, in persons.
    """
    points = body.keypoints(pose.betas, pose.rotations, problem.schema).nan_to_num()
    term = ReprojectionTerm.of_people(data, problem, body)
    weight = term.trust
    for _ in range(_PLACED):
        placed = points + place(problem, points[:, None], weight)
        met = term.met(*problem.camera.project(placed))
        weight = met.weight[..., 0]
    return met.energy
