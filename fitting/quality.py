"""A number from 0 to 1 that says how far to trust a fit."""

from __future__ import annotations

import torch
from torch import Tensor

from fitting.problem import FitProblem
from models.keypoints import KeypointSchema

# what carries evidence about the pose: the limbs' joints, for any schema that has them
_LIMB_KEYPOINTS = tuple(
    side + joint
    for joint in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
    for side in "LR"
)
_POOR_ERROR = 0.03  # of the box: a median error this large leaves 1/e of the quality
LOW_QUALITY = 0.3  # below it the command line warns


def quality(problem: FitProblem, errors: Tensor, in_front: Tensor) -> Tensor:
    """Evidence times agreement, per person.

    Evidence is the confidence-weighted share of the twelve limb keypoints that were seen.
    Agreement falls with the mean reprojection error, each keypoint's error counted up to a tenth
    of the person's box.

    Args:
        problem: of B people. errors, in_front: (B, K) from `Objective.errors`.

    Returns:
        (B,), 0 to 1; 0 for a row with values that are not finite.
    """
    trust = problem.evidence()
    evidence = _limb_share(problem.schema, problem.confidence)
    relative = torch.where(in_front, errors / problem.size[:, None], torch.inf).clamp(max=0.1)
    total = trust.sum(-1).clamp(min=1e-9)
    relative = torch.where(trust > 0, relative, 0)
    agreement = (-(trust * relative).sum(-1) / total / _POOR_ERROR).exp()
    sane = torch.where(trust > 0, errors, 0).isfinite().all(-1)
    return torch.where(sane, evidence * agreement, 0).nan_to_num(nan=0.0)


def _limb_share(schema: KeypointSchema, confidence: Tensor) -> Tensor:
    limbs = [schema.index(n) for n in _LIMB_KEYPOINTS if n in schema]
    if not limbs:
        return (confidence > 0).to(confidence.dtype).mean(-1)
    # half of full confidence is as good as a detector gives on many clear joints
    return (2 * confidence[:, limbs]).clamp(0, 1).mean(-1)
