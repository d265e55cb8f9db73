"""Whether the two trust scores tell bad fits: ROC curve, reliability, real photographs.

Beside the scores stands a judge who goes by the posterior's own draws alone: the chance of a bad
body is the share of the draws that lie so far from the fit. What this judge would reach if these
chances were true is the most that anybody could who knows no more than the posterior.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.trust.corrupted import CORRUPTED, made_up
from benchmarks.trust.tune_quality import Outcome, outcome
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.fitting.reading.inputs import NAME_ENDINGS
from flowfit.fitting.results.quality import GOOD_PA_MPJPE
from flowfit.fitting.results.second_look import against_draws
from flowfit.fitting.verbs.fit import fit
from flowfit.models.body import Body
from flowfit.models.metrics import TURNED
from flowfit.priors.base import Pose

BAD_PA_MPJPE = 0.100  # metres
BINS = 10
PLAIN = "plain"
_USUAL = 0.5  # share of plain people in the second mixture
_RESAMPLED = 200
_DRAWS = 256
_PICTURES = (".png", ".jpg", ".jpeg")


def measure(mocap: Path, body: Body, people: int, seed: int, recipe: str) -> dict[str, Any]:
    """Of people with corrupted keypoints, fitted with a recipe."""
    sets = made_up(mocap, body, CORRUPTED, people, seed)
    found = {n: outcome(p, body, recipe) for n, p in tqdm(sets.items(), disable=None)}
    each = list(found.values())
    quality = torch.cat([f.result.quality for f in each]).double()
    facing = torch.cat([f.result.facing for f in each]).double()
    error = torch.cat([f.pa_mpjpe for f in each]).double()
    turned = torch.cat([f.turned for f in each]).double() > TURNED
    far, away = (
        torch.cat(t).double() for t in zip(*(by_draws(f, body) for f in each), strict=True)
    )
    bad, good = error > BAD_PA_MPJPE, error < GOOD_PA_MPJPE
    usual = torch.cat([_usual_weight(n, len(found[n].pa_mpjpe), len(found)) for n in found])
    whose = torch.cat([torch.arange(len(f.pa_mpjpe)) for f in each])

    def area(score: Tensor, truth: Tensor) -> dict[str, float]:
        return {
            "alike": auc(score, truth),
            "alike_sd": auc_sd(score, truth, whose),
            "half_plain": auc(score, truth, usual),
        }

    shares = {
        name: {
            "alike": truth.double().mean().item(),
            "half_plain": ((usual * truth).sum() / usual.sum()).item(),
        }
        for name, truth in (("bad", bad), ("turned", turned), ("good", good))
    }
    return {
        "people": len(quality),
        "recipe": recipe,
        "shares": shares,
        "areas": {
            "bad": {
                "quality": area(-quality, bad),
                "the posterior's draws": area(far, bad),
                "the same, were they right": {
                    "alike": auc_if_true(far),
                    "half_plain": auc_if_true(far, usual),
                },
            },
            "turned": {
                "facing": area(-facing, turned),
                "quality": area(-quality, turned),
                "the posterior's draws": area(away, turned),
                "the same, were they right": {
                    "alike": auc_if_true(away),
                    "half_plain": auc_if_true(away, usual),
                },
            },
            "good": {"quality": area(quality, good)},
        },
        "brier": {
            "quality": brier(quality, good),
            "facing": brier(facing, ~turned),
        },
        "reliability": {
            "quality": reliability(quality, good),
            "facing": reliability(facing, ~turned),
        },
        "sets": {name: _of_set(f) for name, f in found.items()},
    }


def by_draws(found: Outcome, body: Body) -> tuple[Tensor, Tensor]:
    """Shares (B,) of the posterior's draws further than 100 mm and 45 degrees from the fit."""
    result = found.result
    told = torch.where(result.doubted, 0, found.problem.confidence)
    given = tell(found.model, replace(found.problem, confidence=told), body)
    fitted = Pose(result.rotations, result.betas)
    away = against_draws(given, body, fitted, result.joints3d, _DRAWS)
    far = (away.distance > BAD_PA_MPJPE).double().mean(-1)
    return far, (away.turn > TURNED).double().mean(-1)


def _of_set(found: Outcome) -> dict[str, float | None]:
    bad, turned = found.pa_mpjpe > BAD_PA_MPJPE, found.turned > TURNED
    return {
        "quality": found.result.quality.mean().item(),
        "below_70_mm": (found.pa_mpjpe < GOOD_PA_MPJPE).double().mean().item(),
        "facing": found.result.facing.mean().item(),
        "faces": (~turned).double().mean().item(),
        "pa_mpjpe_mm": 1000 * found.pa_mpjpe.mean().item(),
        "auc_above_100_mm": _or_none(auc(-found.result.quality, bad)),
        "auc_turned": _or_none(auc(-found.result.facing, turned)),
    }


def _or_none(area: float) -> float | None:
    """None where there is nobody of one kind."""
    return area if area == area else None


def _usual_weight(name: str, people: int, sets: int) -> Tensor:
    """(people,): half of all are plain, the rest are spread over the other sets."""
    share = _USUAL if name == PLAIN else (1 - _USUAL) / (sets - 1)
    return torch.full((people,), share / people, dtype=torch.float64)


def auc(score: Tensor, positive: Tensor, weight: Tensor | None = None) -> float:
    """Chance that somebody positive has a higher score than somebody who is not; ties count half.

    NaN when there is nobody of one kind. Args: all (N,); the weight is how often each one counts.
    """
    weight = torch.ones_like(score, dtype=torch.float64) if weight is None else weight
    return _area(_above(score), weight * positive, weight * ~positive)


def auc_if_true(chance: Tensor, weight: Tensor | None = None) -> float:
    """The area (N,) that chances reach if they are true: each is positive with its own chance."""
    weight = torch.ones_like(chance) if weight is None else weight
    return _area(_above(chance), weight * chance, weight * (1 - chance))


def _above(score: Tensor) -> Tensor:
    """(N, N): whether somebody's score is above another's; a tie is a half."""
    return (score[:, None] > score).double() + 0.5 * (score[:, None] == score).double()


def _area(above: Tensor, yes: Tensor, no: Tensor) -> float:
    """Where somebody counts `yes` (N,) as positive and `no` (N,) as not."""
    total = float(yes.sum() * no.sum())
    return float(yes.double() @ above @ no.double()) / total if total else float("nan")


def auc_sd(score: Tensor, positive: Tensor, whose: Tensor) -> float:
    """Standard deviation of the area by chance: bodies (N,) `whose` drawn anew with repeats."""
    generator = torch.Generator().manual_seed(0)
    count, above = int(whose.max()) + 1, _above(score)
    found = []
    for _ in range(_RESAMPLED):
        drawn = torch.randint(count, (count,), generator=generator)
        weight = torch.bincount(drawn, minlength=count)[whose].double()
        found.append(_area(above, weight * positive, weight * ~positive))
    return float(torch.tensor(found).std())


def brier(chance: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean squared error of a chance, and that of whoever says everybody's share."""
    share = truth.double().mean()
    return {
        "score": ((chance - truth.double()) ** 2).mean().item(),
        "of_the_share": (share * (1 - share)).item(),
    }


def reliability(chance: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """In bins of the chance: how many people, their mean chance, and for how many it came true."""
    place = (chance * BINS).long().clamp(max=BINS - 1)
    found = []
    for one in range(BINS):
        here = place == one
        if bool(here.any()):
            found.append(
                {
                    "people": int(here.sum()),
                    "chance": chance[here].mean().item(),
                    "true": truth[here].double().mean().item(),
                }
            )
    return found


def photographs(folder: Path) -> list[dict[str, Any]]:
    """Scores of the people in the pictures of a folder that has their keypoints, best first."""
    found = []
    for picture in sorted(p for p in folder.iterdir() if p.suffix in _PICTURES):
        files = [folder / f"{picture.stem}{ending}.json" for ending in NAME_ENDINGS]
        keypoints = next((f for f in files if f.exists()), None)
        if keypoints is not None:
            done = fit(picture, keypoints)
            for person in range(0 if done.result is None else len(done.result)):
                assert done.result is not None
                found.append(
                    {
                        "picture": picture.name,
                        "person": done.detections.indices[person],
                        "quality": float(done.result.quality[person]),
                        "facing": float(done.result.facing[person]),
                        "seen": int(done.result.seen[person]),
                    }
                )
    return sorted(found, key=lambda f: -f["quality"])
