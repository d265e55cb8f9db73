"""How far to trust each person of a result: gathers the evidence, and asks `quality`."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.results.quality import chances, features
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.second_look import second_look
from flowfit.fitting.results.sides import put_back
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body import Body
from flowfit.priors.base import Pose, PriorModel


def evidence(
    problem: FitProblem, result: FitResult, body: Body, model: PriorModel
) -> tuple[Tensor, Tensor | None]:
    """What a result's chances follow from: see `quality.features` and `second_look`.

    Args:
        problem, body, model: what was given to `fit_seen`. result: what came of it.
    """
    same = replace(put_back(problem, result.exchanged), unit=result.unit)
    in_front = result.keypoints2d.isfinite().all(-1)
    errors = (result.keypoints2d - same.keypoints).norm(dim=-1)
    costs = [e for n, e in result.energy.items() if n != "reprojection"]
    seen = features(same, errors, in_front, result.keypoint_sd, torch.stack(costs).sum(0))
    fitted = Pose(result.rotations, result.betas)
    return seen, second_look(same, result.doubted, body, model, fitted, result.joints3d)


def judged(problem: FitProblem, result: FitResult, body: Body, model: PriorModel) -> FitResult:
    """The result with the chances that follow from all evidence; arguments as in `evidence`."""
    began = time.perf_counter()
    trust = chances(problem, *evidence(problem, result, body, model), result.recipe)
    invalid = [status is Status.INVALID for status in result.status]
    nobody = torch.tensor(invalid, device=trust.quality.device)
    quality, facing = (torch.where(nobody, 0, chance) for chance in trust)
    spent = time.perf_counter() - began
    return replace(result, quality=quality, facing=facing, seconds=result.seconds + spent)
