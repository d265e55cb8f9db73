"""A number from 0 to 1 that says how far to trust a fit: the chance that the body is a good one.

It is the chance that the PA-MPJPE over 14 joints is below 70 mm, by a logistic regression on what
was seen, how well it is met, how sure the posterior is and what the body costs. Its few numbers
were fitted to made-up people with corrupted keypoints (`python -m benchmarks.tune_quality`) and lie
in `data/quality.json`. No coefficient may have the wrong sign, so that less evidence, larger errors
and a wider posterior never make a fit better.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

from fitting.problem import FitProblem
from models.keypoints import KeypointSchema

GOOD_PA_MPJPE = 0.070  # metres
LOW_QUALITY = 0.5  # below it the body is more likely a bad one, and the command line warns

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
FEATURES = {
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
ENERGY = list(FEATURES).index("prior energy")
ANY_RECIPE = "any"


class Predictor(NamedTuple):
    """Logistic regression: chance = sigmoid(offset + sum of coefficient x feature).

    The feature of the prior's energy is held between `energies`, where four of five of the people
    are to whom this was fitted: photographs have rarer poses, of which a straight line through
    made-up people tells nothing.
    """

    offset: float
    coefficients: tuple[float, ...]
    energies: tuple[float, float]


def quality(
    problem: FitProblem,
    errors: Tensor,
    in_front: Tensor,
    spread: Tensor,
    prior_energy: Tensor,
    recipe: str = ANY_RECIPE,
) -> Tensor:
    """Chance of a PA-MPJPE below 70 mm, per person.

    Args:
        problem, errors, in_front, spread, prior_energy: as in `features`.
        recipe: whose coefficients; those of no recipe in particular where it has none.

    Returns:
        (B,), 0 to 1; 0 for a row with values that are not finite, and of whom nothing was seen.
    """
    known = predictors()
    chosen = known.get(recipe, known[ANY_RECIPE])
    found = features(problem, errors, in_front, spread, prior_energy)
    found[:, ENERGY] = found[:, ENERGY].clamp(*chosen.energies)
    weight = found.new_tensor(chosen.coefficients)
    chance = (chosen.offset + (found * weight).sum(-1)).sigmoid()
    guessed = found[:, list(FEATURES).index("few limbs")] > _FEW_LIMBS - _LITTLE
    chance = torch.where(guessed, chance.clamp(max=_GUESS), chance)
    evidence = problem.evidence()
    sane = torch.where(evidence > 0, errors, 0).isfinite().all(-1) & (evidence > 0).any(-1)
    return torch.where(sane, chance, 0).nan_to_num(nan=0.0)


def features(
    problem: FitProblem, errors: Tensor, in_front: Tensor, spread: Tensor, prior_energy: Tensor
) -> Tensor:
    """What the chance follows from, in the order of `FEATURES`: (B, F), finite for finite people.

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
def predictors() -> dict[str, Predictor]:
    """By recipe's name, as the file has them."""
    text = (resources.files("fitting") / "data" / "quality.json").read_text(encoding="utf-8")
    found = json.loads(text)
    if found["features"] != list(FEATURES):
        raise ValueError("quality.json is of other features; run benchmarks.tune_quality")
    return {
        name: Predictor(one["offset"], tuple(one["coefficients"]), tuple(one["energies"]))
        for name, one in found["recipes"].items()
    }
