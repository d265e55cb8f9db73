"""Fits the few numbers of the quality score to made-up people with corrupted keypoints.

    python -m benchmarks.tune_quality --mocap MOCAP/val

Fits people from validation recordings (never test) with every recipe, and then one logistic
regression for each recipe: is the PA-MPJPE below 70 mm? Coefficients of the wrong sign are held at
zero. Writes `fitting/data/quality.json`. The row "any", for recipes of one's own, is fitted to all
of them together. What was found with each recipe is kept in a folder; run again, only the missing
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

from benchmarks.corrupted import CORRUPTED, made_up
from benchmarks.hardware import conditions
from benchmarks.single_image import JOINTS
from fitting.fit_people import FitResult
from fitting.fit_seen import fit_seen
from fitting.metrics import orientation_error, pa_mpjpe
from fitting.problem import FitProblem
from fitting.quality import ANY_RECIPE, ENERGY, FEATURES, GOOD_PA_MPJPE, features, predictors
from fitting.recipes import RECIPES
from fitting.results import write_arrays
from models.body import Body
from models.body_files import find_body
from models.keypoints import BODY25
from priors.data.synthetic import People
from priors.load import load

UP = torch.tensor([0.0, -1.0, 0.0])
# of a squared standardised coefficient, in people; a little, so that features that say the same
# share it
_RIDGE = 0.5
_OUTER = 0.1  # of the people at either end of the prior's energies, which are held there


class Outcome(NamedTuple):
    """Fits of B people: features (B, F), PA-MPJPE (B,) metres, orientation error (B,) degrees."""

    features: Tensor
    pa_mpjpe: Tensor
    turned: Tensor
    result: FitResult


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.tune_quality"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--people", type=int, default=250, help="in each set")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path("runs/tune_quality"))
    parser.add_argument("--out", type=Path, default=Path("fitting/data/quality.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_room(args.out)
    body = find_body("open")
    recipes: dict[str, dict[str, Any]] = {}
    all_x, all_y = [], []
    args.kept.mkdir(parents=True, exist_ok=True)
    for name in args.recipes:
        path = args.kept / f"{name}_{len(FEATURES)}.npz"
        if not path.exists():
            sets = made_up(args.mocap, body, CORRUPTED, args.people, args.seed)
            found = [outcome(p, body, name) for p in tqdm(sets.values(), desc=name)]
            x = torch.cat([f.features for f in found]).numpy()
            write_arrays(path, {"x": x, "error": torch.cat([f.pa_mpjpe for f in found]).numpy()})
        with np.load(path, allow_pickle=False) as data:
            x, y = data["x"], (data["error"] < GOOD_PA_MPJPE).astype(float)
        recipes[name] = fitted(x, y)
        all_x.append(x)
        all_y.append(y)
    recipes[ANY_RECIPE] = fitted(np.concatenate(all_x), np.concatenate(all_y))
    content = {
        "what": f"chance that PA-MPJPE is below {1000 * GOOD_PA_MPJPE:.0f} mm",
        "made_by": "python -m benchmarks.tune_quality",
        "sets": list(CORRUPTED),
        "seed": args.seed,
        **conditions(),
        "features": list(FEATURES),
        "recipes": recipes,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_room(path: Path) -> None:
    """Fits need some coefficients: where those of a file are of other features, all become zero."""
    try:
        predictors()
    except (OSError, ValueError, KeyError):
        nothing = {"offset": 0.0, "coefficients": [0.0] * len(FEATURES), "energies": [0.0, 0.0]}
        content = {"features": list(FEATURES), "recipes": {ANY_RECIPE: nothing}}
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
    return Outcome(of_result(problem, result), error, turned, result)


def of_result(problem: FitProblem, result: FitResult) -> Tensor:
    """The features (B, F) that a result's quality came from."""
    in_front = result.keypoints2d.isfinite().all(-1)
    errors = (result.keypoints2d - problem.keypoints).norm(dim=-1)
    same = FitProblem(
        problem.schema,
        problem.keypoints,
        problem.confidence,
        problem.camera,
        problem.size,
        result.unit,
    )
    energy = torch.stack([e for n, e in result.energy.items() if n != "reprojection"]).sum(0)
    return features(same, errors.nan_to_num(), in_front, result.keypoint_sd, energy)


def fitted(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Offset and coefficients of the likeliest logistic regression with the right signs."""
    x = x.copy()
    energies = np.quantile(x[:, ENERGY], (_OUTER, 1 - _OUTER))
    x[:, ENERGY] = np.clip(x[:, ENERGY], *energies)
    mean, sd = x.mean(0), x.std(0).clip(1e-6)
    z = (x - mean) / sd

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logit = w[0] + z @ w[1:]
        value = (np.logaddexp(0, logit) - y * logit).sum() + 0.5 * _RIDGE * (w[1:] ** 2).sum()
        wrong = expit(logit) - y
        return value, np.concatenate(([wrong.sum()], z.T @ wrong + _RIDGE * w[1:]))

    bounds = [(None, None)] + [(0, None) if s > 0 else (None, 0) for s in FEATURES.values()]
    best = minimize(loss, np.zeros(1 + x.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    coefficients = best[1:] / sd
    return {
        "offset": round(float(best[0] - coefficients @ mean), 5),
        "coefficients": [round(float(c), 5) + 0.0 for c in coefficients],
        "energies": [round(float(e), 5) for e in energies],
        "people": len(y),
        "good_share": round(float(y.mean()), 4),
    }


if __name__ == "__main__":
    main()
