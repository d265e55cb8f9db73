"""Fits the few numbers of the two trust scores to made-up people with corrupted keypoints.

    python -m benchmarks.trust.tune_quality --mocap MOCAP/val

Fits people from validation recordings (never test) with every recipe, and then two logistic
regressions for each recipe: is the PA-MPJPE below 70 mm, and is the body turned the right way?
Coefficients of the wrong sign are held at zero. Writes `fitting/data/quality.json`. The row "any",
for recipes of one's own and priors that have no opinion of a fit, is fitted to all of them together
without opinions. What was found with each recipe is kept in a folder; run again, only the missing
recipes are fitted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor
from tqdm import tqdm

from benchmarks.hardware import conditions
from benchmarks.trust.corrupted import CORRUPTED, made_up
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import DEFAULT_RECIPE, RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.results.judge import evidence
from flowfit.fitting.results.quality import (
    ANY_RECIPE,
    ENERGY,
    FACING,
    FEATURES,
    GOOD_PA_MPJPE,
    QUALITY,
    SCORES,
    SEEN,
    predictors,
)
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.second_look import OPINIONS
from flowfit.fitting.writing.files import write_arrays
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.priors.base import PriorModel
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.load import load

UP = torch.tensor([0.0, -1.0, 0.0])
# of a squared standardised coefficient, in people; a little, so that features that say the same
# share it
_RIDGE = 0.5
_OUTER = 0.1  # of the people at either end of the prior's energies, which are held there
_BOUNDS = (GOOD_PA_MPJPE, 0.050, 0.085, 0.100, 0.130)  # metres; the first is what is told
_KEPT = ("features", "pa_mpjpe", "turned")


class Outcome(NamedTuple):
    """Fits of B people: what was fitted, with what prior, what came of it, and how good it is.

    Attributes:
        features: (B, F), opinions included; those are 0 where the prior has none.
        pa_mpjpe: (B,) metres. turned: (B,) degrees, the orientation's error.
    """

    features: Tensor
    pa_mpjpe: Tensor
    turned: Tensor
    problem: FitProblem
    model: PriorModel
    result: FitResult


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.trust.tune_quality"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--people", type=int, default=200, help="in each set, recipe flow")
    parser.add_argument("--others", type=int, default=40, help="in each set, the other recipes")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path("runs/tune_quality"))
    parser.add_argument("--out", type=Path, default=Path("fitting/data/quality.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_room(args.out)
    body = find_body("open")
    args.kept.mkdir(parents=True, exist_ok=True)
    measured: dict[str, dict[str, np.ndarray]] = {}
    for name in args.recipes:
        people = args.people if name == DEFAULT_RECIPE else args.others
        path = args.kept / f"{name}_{people}_{args.seed}_{len(FEATURES)}.npz"
        if not path.exists():
            # other bodies in every set: people who differ tell more than the same ones ten times
            sets = made_up(args.mocap, body, CORRUPTED, people, args.seed, same=False)
            found = [outcome(p, body, name) for p in tqdm(sets.values(), desc=name)]
            arrays = {key: [getattr(f, key) for f in found] for key in _KEPT}
            write_arrays(path, {key: torch.cat(v).numpy() for key, v in arrays.items()})
        with np.load(path, allow_pickle=False) as data:
            measured[name] = {key: data[key] for key in _KEPT}
    everybody = {k: np.concatenate([m[k] for m in measured.values()]) for k in _KEPT}
    everybody["features"][:, len(SEEN) :] = 0
    measured[ANY_RECIPE] = everybody
    rows = measured.items()
    content = {
        "what": {
            QUALITY: f"chance that PA-MPJPE is below {1000 * GOOD_PA_MPJPE:.0f} mm",
            FACING: f"chance that the orientation is within {TURNED:.0f} degrees",
        },
        "made_by": "python -m benchmarks.trust.tune_quality",
        "sets": list(CORRUPTED),
        "seed": args.seed,
        **conditions(),
        "features": list(FEATURES),
        "scores": {
            QUALITY: {n: fitted(m["features"], kept(m["pa_mpjpe"], _BOUNDS)) for n, m in rows},
            FACING: {n: fitted(m["features"], kept(m["turned"], (TURNED,))) for n, m in rows},
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def kept(error: np.ndarray, bounds: tuple[float, ...]) -> np.ndarray:
    """(N, C): whether errors (N,) are below each of the bounds."""
    return error[:, None] < np.array(bounds)


def make_room(path: Path) -> None:
    """Fits need some coefficients: where those of a file are of other features, all become zero."""
    try:
        predictors(QUALITY)
    except (OSError, ValueError, KeyError):
        nothing = {"offset": 0.0, "coefficients": [0.0] * len(FEATURES), "energies": [0.0, 0.0]}
        scores = {score: {ANY_RECIPE: nothing} for score in SCORES}
        content = {"features": list(FEATURES), "scores": scores}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def outcome(people: People, body: Body, recipe: str) -> Outcome:
    """Fit some people with a recipe and its own prior, and compare with the truth."""
    double = body.dtype
    problem = FitProblem.build(
        BODY25,
        people.keypoints.to(double),
        people.confidence.to(double),
        people.camera.to(dtype=double),
    )
    how = RECIPES[recipe]
    prior = load(how.prior, up=UP, dtype=double, bending=how.bending)
    result = fit_seen(problem, body, prior, how)
    truth = body.joints(people.betas.to(double), people.rotations.to(double))
    error = pa_mpjpe(result.joints3d[:, JOINTS], truth[:, JOINTS])
    turned = orientation_error(result.rotations[:, 0], people.rotations[:, 0].to(double))
    seen, opinions = evidence(problem, result, body, prior)
    if opinions is None:
        opinions = seen.new_zeros(len(seen), len(OPINIONS))
    return Outcome(torch.cat((seen, opinions), -1), error, turned, problem, prior, result)


def fitted(x: np.ndarray, events: np.ndarray) -> dict[str, Any]:
    """Offset and coefficients of the likeliest logistic regression with the right signs.

    Args:
        x: (N, F) features. events: (N, C), whether each of C bounds was kept. All have the same
            coefficients (proportional odds), so that how good and how bad somebody is counts, too;
            the offset is the first one's.
    """
    x, y = x.copy(), events.astype(float)
    energies = np.quantile(x[:, ENERGY], (_OUTER, 1 - _OUTER))
    x[:, ENERGY] = np.clip(x[:, ENERGY], *energies)
    mean, sd = x.mean(0), x.std(0).clip(1e-6)
    z = (x - mean) / sd
    bounds_kept = y.shape[1]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        offsets, slopes = w[:bounds_kept], w[bounds_kept:]
        logit = offsets + (z @ slopes)[:, None]
        value = (np.logaddexp(0, logit) - y * logit).mean(1).sum()
        wrong = (expit(logit) - y) / bounds_kept
        gradient = (wrong.sum(0), z.T @ wrong.sum(1) + _RIDGE * slopes)
        return value + 0.5 * _RIDGE * (slopes**2).sum(), np.concatenate(gradient)

    bounds = [(None, None)] * bounds_kept
    bounds += [(0, None) if sign > 0 else (None, 0) for sign in FEATURES.values()]
    start = np.zeros(bounds_kept + x.shape[1])
    best = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    coefficients = best[bounds_kept:] / sd
    return {
        "offset": round(float(best[0] - coefficients @ mean), 5),
        "coefficients": [round(float(c), 5) + 0.0 for c in coefficients],
        "energies": [round(float(e), 5) for e in energies],
        "people": len(y),
        "share": round(float(y[:, 0].mean()), 4),
    }


if __name__ == "__main__":
    main()
