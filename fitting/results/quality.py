"""Two numbers from 0 to 1 that say how far to trust a fit.

`quality` is the chance that the PA-MPJPE over 14 joints is below 70 mm, `facing` the chance that
the body is turned the right way, within 45 degrees. Each is a logistic regression on what was seen,
how well it is met, how sure the posterior is, what the body costs, and what the posterior makes of
the fitted body (`second_look`). Their few numbers were fitted to made-up people with corrupted
keypoints (`python -m benchmarks.trust.tune_quality`) and lie in `data/quality.json`. No coefficient
may have the wrong sign, so that less evidence, larger errors and a wider posterior never make a fit
better.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.results.second_look import OPINIONS
from flowfit.models.keypoints import KeypointSchema

GOOD_PA_MPJPE = 0.070  # metres
# below these the body is more likely a bad one, or turned the wrong way; the command line warns
LOW_QUALITY, LOW_FACING = 0.5, 0.5

# what carries evidence about the pose: the limbs' joints, for any schema that has them
_SIDES = "LR"
_TORSO = tuple(s + joint for joint in ("Shoulder", "Hip") for s in _SIDES)
_ENDS = tuple(s + joint for joint in ("Elbow", "Wrist", "Knee", "Ankle") for s in _SIDES)
_FACE = ("Nose", *(s + part for part in ("Eye", "Ear") for s in _SIDES))
_MOST_ERROR = 0.1  # of the person; an error beyond it is as wrong as can be
_USUAL_ERROR = 0.03
_FAR = 0.08  # of the person; a keypoint that no step of the pose explains
_LEAST_SD, _MOST_SD = 0.01, 1.0  # metres
_FEW_LIMBS = 0.4  # of the limbs' joints; with fewer seen, what is unseen decides
# of the limbs' joints; of whom less is seen, nobody can be called good: three in ten of them are
_LITTLE, _GUESS = 0.3, 0.4
_MOST_CUT = 8.0  # how many times larger than its box a person may be

# name -> the sign that its coefficient has to have
SEEN = {
    "torso seen": 1,
    "limbs seen": 1,
    "face seen": 1,
    "cut by the frame": -1,
    "mean error": -1,
    "keypoints far off": -1,
    "mean spread": -1,
    "largest spread": -1,
    "prior energy": -1,
    "few limbs": -1,
}
FEATURES = SEEN | OPINIONS
ENERGY = list(SEEN).index("prior energy")
ANY_RECIPE = "any"
QUALITY, FACING = SCORES = ("quality", "facing")


class Predictor(NamedTuple):
    """Logistic regression: chance = sigmoid(offset + sum of coefficient x feature).

    The feature of the prior's energy is held between `energies`, where four of five of the people
    are to whom this was fitted: photographs have rarer poses, of which a straight line through
    made-up people tells nothing.
    """

    offset: float
    coefficients: tuple[float, ...]
    energies: tuple[float, float]


class Chances(NamedTuple):
    """Chances (B,): that the PA-MPJPE is below 70 mm, that the orientation is within 45 degrees."""

    quality: Tensor
    facing: Tensor


def chances(
    problem: FitProblem, seen: Tensor, opinions: Tensor | None, recipe: str = ANY_RECIPE
) -> Chances:
    """How far to trust everyone's fit.

    Args:
        problem: of B people. seen: (B, F) as in `features`. opinions: (B, O) of `second_look`.
        recipe: whose coefficients. Those of no recipe in particular, which need no opinions, where
            it has none, or where it is run with another kind of prior than they were fitted with:
            one that has opinions where theirs had none, or the other way about.

    Returns:
        0 for a row with values that are not finite, and of whom nothing was seen.
    """
    evidence = problem.evidence()
    there = (evidence > 0)[..., None]
    sane = torch.where(there, problem.keypoints, 0).isfinite().all(-1).all(-1) & there.any(1)[:, 0]
    found = seen.new_zeros(len(seen), len(FEATURES))
    found[:, : len(SEEN)] = seen
    if opinions is not None:
        found[:, len(SEEN) :] = opinions
    quality, facing = (_chance(found, s, recipe, opinions is not None) for s in SCORES)
    guessed = found[:, list(FEATURES).index("few limbs")] > _FEW_LIMBS - _LITTLE
    quality = torch.where(guessed, quality.clamp(max=_GUESS), quality)
    return Chances(*(torch.where(sane, c, 0).nan_to_num(nan=0.0) for c in (quality, facing)))


def _chance(found: Tensor, score: str, recipe: str, has_opinions: bool) -> Tensor:
    known = predictors(score)
    chosen = known.get(recipe, known[ANY_RECIPE])
    if any(chosen.coefficients[len(SEEN) :]) != has_opinions:
        chosen = known[ANY_RECIPE]
    energy = found[:, ENERGY].clamp(*chosen.energies)
    found = found.index_copy(1, torch.tensor([ENERGY], device=found.device), energy[:, None])
    weight = found.new_tensor(chosen.coefficients)
    return (chosen.offset + (found * weight).sum(-1)).sigmoid()


def features(
    problem: FitProblem, errors: Tensor, in_front: Tensor, spread: Tensor, prior_energy: Tensor
) -> Tensor:
    """What the chances follow from, in the order of `SEEN`: (B, F), finite for finite people.

    Args:
        problem: of B people. errors, in_front: (B, K) from `Objective.errors`.
        spread: (B, K) metres, the keypoints' standard deviations. prior_energy: (B,) nats.
    """
    trust, schema = problem.evidence(), problem.schema
    relative = torch.where(in_front, errors / problem.unit[:, None], torch.inf)
    relative = torch.where(trust > 0, relative, 0)
    total = trust.sum(-1).clamp(min=1e-9)
    mean_error = (trust * relative.clamp(max=_MOST_ERROR)).sum(-1) / total / _USUAL_ERROR
    far = (trust * (relative > _FAR)).sum(-1).clamp(max=4)
    limbs = [k for k in _places(schema, (*_TORSO, *_ENDS))] or list(range(len(schema)))
    log_sd = spread[:, limbs].nan_to_num(nan=_MOST_SD, posinf=_MOST_SD)
    log_sd = log_sd.clamp(_LEAST_SD, _MOST_SD).log()
    cut = (problem.unit / problem.size).clamp(1, _MOST_CUT).log()
    energy = prior_energy.nan_to_num(nan=torch.inf).clamp(0, 1e6).log1p()  # nats
    torso, ends = _share(problem, _TORSO), _share(problem, _ENDS)
    limbs_seen = (len(_TORSO) * torso + len(_ENDS) * ends) / len((*_TORSO, *_ENDS))
    few = (_FEW_LIMBS - limbs_seen).clamp(min=0)
    return torch.stack(
        (
            torso,
            ends,
            (_share(problem, _FACE) * 2.5).clamp(max=1),  # two of the five tell where it looks
            cut,
            mean_error,
            far,
            log_sd.mean(-1),
            log_sd.amax(-1),
            energy,
            few,
        ),
        -1,
    )


def _places(schema: KeypointSchema, names: tuple[str, ...]) -> list[int]:
    return [schema.index(n) for n in names if n in schema]


def _share(problem: FitProblem, names: tuple[str, ...]) -> Tensor:
    """(B,): how much of some keypoints was seen."""
    places = _places(problem.schema, names)
    if not places:
        return (problem.confidence > 0).to(problem.confidence.dtype).mean(-1)
    # half of full confidence is as good as a detector gives on many clear joints
    return (2 * problem.confidence[:, places]).clamp(0, 1).mean(-1)


@cache
def predictors(score: str) -> dict[str, Predictor]:
    """Those of a name in `SCORES`, by recipe's name, as the file has them."""
    file = resources.files("flowfit.fitting") / "data" / "quality.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["features"] != list(FEATURES):
        raise ValueError("quality.json is of other features; run benchmarks.trust.tune_quality")
    return {
        name: Predictor(one["offset"], tuple(one["coefficients"]), tuple(one["energies"]))
        for name, one in found["scores"][score].items()
    }
