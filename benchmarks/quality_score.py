"""Whether the quality score tells bad fits: ROC curve, reliability, real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.corrupted import CORRUPTED, made_up
from benchmarks.tune_quality import outcome
from fitting.fit_image import NAME_ENDINGS, fit
from fitting.quality import GOOD_PA_MPJPE
from models.body import Body

BAD_PA_MPJPE = 0.100  # metres
TURNED = 45.0  # degrees
BINS = 10
_PICTURES = (".png", ".jpg", ".jpeg")


def measure(mocap: Path, body: Body, people: int, seed: int, recipe: str) -> dict[str, Any]:
    """Of people with corrupted keypoints, fitted with a recipe."""
    sets = made_up(mocap, body, CORRUPTED, people, seed)
    found = {n: outcome(p, body, recipe) for n, p in tqdm(sets.items(), disable=None)}
    quality = torch.cat([f.result.quality for f in found.values()]).double()
    error = torch.cat([f.pa_mpjpe for f in found.values()]).double()
    turned = torch.cat([f.turned for f in found.values()]).double()
    good = (error < GOOD_PA_MPJPE).double()
    share = good.mean()
    return {
        "people": len(quality),
        "recipe": recipe,
        "auc_above_100_mm": auc(-quality, error > BAD_PA_MPJPE),
        "auc_turned": auc(-quality, turned > TURNED),
        "auc_below_70_mm": auc(quality, good > 0),
        "bad_share": (error > BAD_PA_MPJPE).double().mean().item(),
        "turned_share": (turned > TURNED).double().mean().item(),
        "brier": ((quality - good) ** 2).mean().item(),
        "brier_of_the_share": (share * (1 - share)).item(),
        "reliability": reliability(quality, good),
        "sets": {
            name: {
                "quality": f.result.quality.mean().item(),
                "below_70_mm": (f.pa_mpjpe < GOOD_PA_MPJPE).double().mean().item(),
                "pa_mpjpe_mm": 1000 * f.pa_mpjpe.mean().item(),
                "auc_above_100_mm": auc(-f.result.quality, f.pa_mpjpe > BAD_PA_MPJPE),
            }
            for name, f in found.items()
        },
    }


def auc(score: Tensor, positive: Tensor) -> float:
    """Chance that somebody positive has a higher score than somebody who is not; ties count half.

    NaN when there is nobody of one kind.
    """
    yes, no = score[positive], score[~positive]
    if not len(yes) or not len(no):
        return float("nan")
    above = (yes[:, None] > no).double() + 0.5 * (yes[:, None] == no).double()
    return above.mean().item()


def reliability(quality: Tensor, good: Tensor) -> list[dict[str, float]]:
    """In bins of quality: how many people, their mean quality, and the share that was good."""
    place = (quality * BINS).long().clamp(max=BINS - 1)
    found = []
    for one in range(BINS):
        here = place == one
        if bool(here.any()):
            found.append(
                {
                    "people": int(here.sum()),
                    "quality": quality[here].mean().item(),
                    "good": good[here].mean().item(),
                }
            )
    return found


def photographs(folder: Path) -> list[dict[str, Any]]:
    """Quality of the people in the pictures of a folder that has their keypoints, best first."""
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
                        "seen": int(done.result.seen[person]),
                    }
                )
    return sorted(found, key=lambda f: -f["quality"])
