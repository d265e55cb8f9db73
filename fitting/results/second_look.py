"""What the posterior itself makes of a fitted body: where its own draws have the person.

A fit ends near the posterior's mode, and the mode looks as sure where half of the draws face the
other way. So bodies are drawn from the posterior and held against the fit, as it was told and as it
could have been told (`tellings`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.results.sides import AS_SEEN
from flowfit.fitting.results.tellings import AS_FITTED, TELLINGS, tell_all
from flowfit.models.body import Body
from flowfit.models.kinematics import joint_index
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.models.rows import cat, take
from flowfit.priors.base import Pose, PosePrior, PriorModel
from flowfit.priors.keypoints.draws import AT_ONCE, latent_noise

_PELVIS = joint_index("pelvis")
# name -> the sign that its coefficient has to have
OPINIONS = {
    "draws' mean turn": -1,
    "draws turned away": -1,
    "draws' mean distance": -1,
    "draws' spread": -1,
    "turned away, sides exchanged or not": -1,
    "mean distance, sides exchanged or not": -1,
}
_DRAWS = 48
_PEOPLE_AT_ONCE = 64
_LEAST_TURN, _MOST_TURN = 2.0, 180.0  # degrees
_SOFT = 5.0  # degrees; so that nobody's share jumps with a last digit
_LEAST_SHARE = 0.02  # of so few draws, none is no certainty
_LEAST, _MOST = 0.005, 1.0  # metres
_LEAST_BELIEF = 0.01  # of a telling, for which it is worth drawing


class Away(NamedTuple):
    """S draws of B people, held against their fits.

    Attributes:
        turn: (B, S) degrees between the orientations. distance: (B, S) metres, PA-MPJPE.
        spread: (B,) metres, the joints' mean standard deviation over the draws, the pelvis held.
    """

    turn: Tensor
    distance: Tensor
    spread: Tensor

    @property
    def turned(self) -> Tensor:
        """Share (B,) of the draws that are turned away from the fit."""
        return ((self.turn - TURNED) / _SOFT).sigmoid().mean(-1)

    @property
    def mean_distance(self) -> Tensor:
        """(B,) metres."""
        return self.distance.mean(-1)


def second_look(
    problem: FitProblem,
    doubted: Tensor,
    body: Body,
    model: PriorModel,
    fitted: Pose,
    joints3d: Tensor,
) -> Tensor | None:
    """What speaks for and against a fit, in the order of `OPINIONS`: (B, O), finite.

    Args:
        problem: of B people. doubted: (B, K), of which the prior was not told in the end.
        body, model: as in the fit. fitted: the bodies. joints3d: (B, 24, 3) metres, their joints.

    Returns:
        None for a prior that was told nothing or has no draws.
    """
    if not model.by_keypoints_alone:
        return None
    parts = []
    for first in range(0, len(problem), _PEOPLE_AT_ONCE):
        rows = torch.arange(first, min(first + _PEOPLE_AT_ONCE, len(problem)))
        rows = rows.to(joints3d.device)
        some = take(fitted, rows), joints3d[rows]
        parts.append(_look(problem.rows(rows), doubted[rows], body, model, *some))
    return torch.cat(parts)


def _look(
    problem: FitProblem,
    doubted: Tensor,
    body: Body,
    model: PriorModel,
    fitted: Pose,
    joints3d: Tensor,
) -> Tensor:
    told = tell_all(problem, doubted, body, model)
    # what is hardly believed is not worth drawing; and where nothing is doubted, what was seen is
    # what the fit's prior was told
    drawn = told.belief > _LEAST_BELIEF
    drawn[TELLINGS.index(AS_SEEN)] &= doubted.any(-1)
    drawn[TELLINGS.index(AS_FITTED)] = True
    rows = drawn.flatten().nonzero()[:, 0]
    who = told.person[rows]
    every = against_draws(told.given.rows(rows), body, take(fitted, who), joints3d[who], _DRAWS)
    away = take(every, who[: len(problem)])  # as fitted: the first
    turned, distance = (v.repeat(len(TELLINGS)) for v in (away.turned, away.mean_distance))
    turned[rows], distance[rows] = every.turned, every.mean_distance
    found = (
        away.turn.clamp(_LEAST_TURN, _MOST_TURN).mean(-1).log(),
        _logit(away.turned),
        _log_metres(away.mean_distance),
        _log_metres(away.spread),
        _logit((told.belief * turned.view_as(told.belief)).sum(0)),
        _log_metres((told.belief * distance.view_as(told.belief)).sum(0)),
    )
    return torch.stack(found, -1).nan_to_num()


def _logit(share: Tensor) -> Tensor:
    return ((share + _LEAST_SHARE) / (1 - share + _LEAST_SHARE)).log()


def _log_metres(distance: Tensor) -> Tensor:
    return distance.clamp(_LEAST, _MOST).log()


@torch.no_grad()
def against_draws(given: PosePrior, body: Body, fitted: Pose, joints3d: Tensor, count: int) -> Away:
    """The first of `count` draws is the mode, which is left out; they are the same in every run.

    Args:
        given: the posterior of B people. fitted, joints3d: as in `second_look`.
    """
    people = len(joints3d)
    assert given.flow is not None
    noise = latent_noise(count, given.flow.features, 0, joints3d)[1:]
    parts = []
    at_once = max(1, AT_ONCE // len(noise))
    for first in range(0, people, at_once):
        who = torch.arange(first, min(first + at_once, people), device=joints3d.device)
        each = who.repeat_interleave(len(noise))
        pose = given.rows(each).decode(noise.repeat(len(who), 1))
        joints = body.joints(pose.betas, pose.rotations)
        turn = orientation_error(pose.rotations[:, 0], fitted.rotations[each, 0])
        distance = pa_mpjpe(_finite(joints[:, JOINTS]), _finite(joints3d[each][:, JOINTS]))
        apart = (joints[:, JOINTS] - joints[:, _PELVIS : _PELVIS + 1]).unflatten(0, (len(who), -1))
        spread = apart.var(1).sum(-1).sqrt().mean(-1)
        shape = (len(who), len(noise))
        parts.append(Away(turn.view(shape), distance.view(shape), spread))
    return cat(parts)


def _finite(points: Tensor) -> Tensor:
    """Somebody's who has none: anything, as their fit is invalid."""
    return points.nan_to_num(0.0, 0.0, 0.0)
