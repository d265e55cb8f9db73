"""How often intervals of bodies drawn after a fit hold the truth."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.after_fit import COLD, Surroundings, surroundings, weighted
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.one_view.importance import TRUSTED_K
from flowfit.models.body import Body
from flowfit.models.keypoints import BODY25
from flowfit.models.kinematics import joint_index
from flowfit.models.metrics import JOINTS
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.load import load

LEVELS = (0.5, 0.8, 0.95)
KINDS = ("sideways", "up and down", "depth", "distance")
PELVIS = joint_index("pelvis")


class Covered(NamedTuple):
    """Of one person.

    Attributes:
        hits: (4 kinds, 3 levels), shares of the 14 joints whose interval holds the truth.
        sd: (3,) metres, along x, y and z, mean over the joints. crps: (3,), the same.
    """

    hits: Tensor
    sd: Tensor
    crps: Tensor


class OnePerson(NamedTuple):
    """Laplace alone and corrected, and what the weights were worth."""

    laplace: Covered
    corrected: Covered
    k_hat: float
    effective: float


def one_person(around: Surroundings, cold: Surroundings, truth: Tensor, count: int) -> OnePerson:
    """Measure a person.

    Args:
        around: tempered, to be corrected. cold: without temperature, for Laplace alone.
        truth: (24, 3) metres, camera frame. count: draws.
    """
    found = weighted(around, count, 0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, cold.size, generator=generator, dtype=torch.float64)
    even = torch.full_like(found.weights, 1 / count)
    plain = cold.draws(noise.to(cold.state.latent)).joints3d
    return OnePerson(
        covered(plain, even, truth),
        covered(around.draws(found.points).joints3d, found.weights, truth),
        found.k_hat,
        found.effective,
    )


def covered(joints: Tensor, weights: Tensor, truth: Tensor) -> Covered:
    """Of weighted draws (S, 24, 3), (S,)."""
    relative = (joints - joints[:, PELVIS : PELVIS + 1])[:, JOINTS]
    true = (truth - truth[PELVIS])[JOINTS]
    far, true_far = joints[:, PELVIS, 2:], truth[PELVIS, 2:]
    of_joints = _inside(relative, weights, true).mean(0)  # (3, levels)
    of_distance = _inside(far, weights, true_far)  # (1, levels)
    weight = weights[:, None, None]
    mean = (weight * relative).sum(0)
    sd = (weight * (relative - mean) ** 2).sum(0).sqrt().mean(0)
    return Covered(torch.cat((of_joints, of_distance)), sd, _crps(relative, weights, true).mean(0))


def _inside(values: Tensor, weights: Tensor, truth: Tensor) -> Tensor:
    """Whether the central intervals of values (S, ...) hold the truth (...): (..., levels)."""
    weight = weights.view(-1, *(1,) * (values.ndim - 1))
    off = ((weight * (values < truth)).sum(0) - 0.5).abs()
    return torch.stack([off <= level / 2 for level in LEVELS], -1).to(values.dtype)


def _crps(values: Tensor, weights: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of values (S, ...): (...)."""
    ordered, order = values.sort(0)
    below = weights[order].cumsum(0)[:-1]
    gaps = ordered.diff(dim=0)
    step = (ordered[:-1] >= truth).to(values.dtype)
    inner = (gaps * (below - step) ** 2).sum(0)
    # a gap in which the truth lies has both parts
    low = ordered[:-1] < truth
    split = low & (ordered[1:] > truth)
    right = ordered[1:] - truth
    inner = inner + (torch.where(split, right * ((below - 1) ** 2 - below**2), 0)).sum(0)
    outside = (ordered[0] - truth).clamp(min=0) + (truth - ordered[-1]).clamp(min=0)
    return inner + outside


def measure(people: People, body: Body, samples: int) -> dict[str, Any]:
    """Laplace alone and corrected, of one set of people."""
    model = load("keypoint-flow")
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    result = fit_seen(problem, body, model, RECIPES["flow"])
    truth = body.joints(people.betas, people.rotations, people.transl)
    began = time.process_time()
    around = surroundings(problem, body, model, result)
    cold = surroundings(problem, body, model, result, heat=COLD)
    found = []
    for row, (one, as_fitted) in enumerate(
        tqdm(zip(around, cold, strict=True), total=len(problem), disable=None)
    ):
        if one is not None and as_fitted is not None:
            found.append(one_person(one, as_fitted, truth[row], samples))
    spent = time.process_time() - began

    def summary(name: str) -> dict[str, Any]:
        parts: list[Covered] = [getattr(f, name) for f in found]
        inside = torch.stack([p.hits for p in parts]).mean(0).tolist()
        return {
            "inside": dict(zip(KINDS, inside, strict=True)),
            "sd_mm": (1000 * torch.stack([p.sd for p in parts]).mean(0)).tolist(),
            "crps_mm": (1000 * torch.stack([p.crps for p in parts]).mean(0)).tolist(),
        }

    k_hat = torch.tensor([f.k_hat for f in found])
    return {
        "people": len(found),
        "laplace": summary("laplace"),
        "corrected": summary("corrected"),
        "k_hat_median": k_hat.median().item(),
        "not_trusted": (k_hat > TRUSTED_K).float().mean().item(),
        "effective_share": sum(f.effective for f in found) / len(found) / samples,
        "cpu_seconds_a_person": spent / len(found),
    }
