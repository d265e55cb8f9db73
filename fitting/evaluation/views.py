"""Several views of a moment without cameras, as an evaluation judges them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowfit.fitting.evaluation.people import Joints, Watched
from flowfit.fitting.evaluation.prohmr_views import averaged, refined
from flowfit.fitting.evaluation.ways import KEYPOINTS, Priors, given_of
from flowfit.models.body import Body
from flowfit.priors.base import Pose

ALONE, AVERAGED, REFINED = "each alone", "averaged", "ProHMR's refinement"


def judge_views(people: Watched, body: Body, priors: Priors, joints: Joints) -> dict[str, Any]:
    """Errors of every view's body, for each posterior: alone, averaged, refined."""
    moments = [m for m in torch.unique(people.frame).tolist() if m >= 0]
    rows = [(people.frame == moment).nonzero()[:, 0] for moment in moments]
    found: dict[str, Any] = {}
    for told in priors.posteriors:
        if told == KEYPOINTS and not bool((people.detected.confidence > 0).any()):
            continue
        given = given_of(told, people, body, priors)
        start = given.start()
        assert start is not None
        alone = given.decode(start.latent)
        ways: dict[str, list[Pose]] = {ALONE: [], AVERAGED: [], REFINED: []}
        for views in rows:
            of_views = Pose(alone.rotations[views], alone.betas[views])
            ways[ALONE].append(of_views)
            ways[AVERAGED].append(averaged(of_views))
            ways[REFINED].append(refined(given.rows(views)))
        order = torch.cat(rows)
        for how, poses in ways.items():
            rotations = torch.cat([pose.rotations for pose in poses])
            betas = torch.cat([pose.betas for pose in poses])
            points = joints.of(body, betas, rotations)
            errors = joints.errors(points, people.truth[order], people.known[order])
            found[f"{told}/{how}"] = {k: _list(v) for k, v in errors.items()}
    return found


def _list(values: Tensor) -> list[float]:
    numbers: list[float] = values.cpu().tolist()
    return numbers
