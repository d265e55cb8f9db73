"""What should make one doubt a person's fit, in plain sentences."""

from __future__ import annotations

import numpy as np
import torch

from flowfit.fitting.results.quality import LOW_FACING, LOW_QUALITY
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.sides import AS_SEEN, EXCHANGED, SIDES, exchange
from flowfit.fitting.solvers.solution import Status

# of the schema's keypoints; below it a limb or two at most can have been seen whole
_FEW = 0.4
# in the person's sizes, as where the flow doubts: ten times a detector's usual error, which no
# step of the pose explains
_FAR = 0.12
_SURE = 0.3  # confidence; what the detector itself doubts may well be far off
_NAMED = 4  # keypoints listed by name
_MANY = ("keypoints", "disagree", "they are")


def doubts(result: FitResult, row: int, keypoints: np.ndarray, confidence: np.ndarray) -> list[str]:
    """Reasons to look twice at a person's body; none for an ordinary fit.

    Args:
        result: of everyone. row: whose. keypoints: (K, 2) pixels that were seen.
        confidence: (K,), 0 where not seen.
    """
    if result.status[row] is Status.INVALID:
        return [Status.INVALID.value]
    found = []
    exchanged = SIDES[int(result.exchanged[row])]
    if exchanged != AS_SEEN:
        order = exchange(result.schema, EXCHANGED[exchanged])
        keypoints, confidence = keypoints[order], confidence[order]
        found.append(
            f"left and right of the {exchanged} look exchanged in the keypoints: "
            "they were fitted the other way round"
        )
    names = result.schema.names
    seen = int((confidence > 0).sum())
    if seen < _FEW * len(names):
        found.append(
            f"few keypoints ({seen} of {len(names)}): most of the pose is the prior's guess"
        )
    fitted = result.keypoints2d[row].detach().cpu().to(torch.float64).numpy()
    error = np.linalg.norm(fitted - keypoints, axis=-1) / float(result.unit[row])
    far = (np.nan_to_num(error) > _FAR) & (confidence >= _SURE)
    for place, name in enumerate(names):
        pair = result.schema.midpoint_of(name)  # the body's own joint of that name lies elsewhere
        if pair is not None and (confidence[result.schema.indices(list(pair))] > 0).all():
            far[place] = False
    if far.any():
        listed = [names[k] for k in np.argsort(-np.nan_to_num(error)) if far[k]]
        more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
        said = ("keypoint", "disagrees", "it is") if len(listed) == 1 else _MANY
        found.append(
            f"{said[0]} {', '.join(listed[:_NAMED])}{more} {said[1]} with the body: "
            f"{said[2]} wrong, or the body is"
        )
    quality = float(result.quality[row])
    if quality < LOW_QUALITY:
        found.append(
            f"quality {quality:.2f} is low; much of this body is a guess "
            "(few limbs seen, or keypoints that no body explains)"
        )
    facing = float(result.facing[row])
    if facing < LOW_FACING:
        found.append(
            f"facing {facing:.2f} is low; the body may be turned the wrong way "
            "(left and right exchanged in the keypoints, or too few of them)"
        )
    return found
