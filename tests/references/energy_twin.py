"""The whole energy of one person written out slowly: loops, NumPy float64, no derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.references import priors_twin
from tests.references.body_twin import twin_body

# OpenPose's BODY_25 on SMPL: a joint's number, or the name of a vertex
BODY25_POINTS: tuple[int | str, ...] = (
    *("nose", 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7),
    *("reye", "leye", "rear", "lear"),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
)
# a detector's neck and mid-hip repeat the shoulders and the hips
_REPEATS = {1: (2, 5), 8: (9, 12)}
_NEAREST = 0.05  # metres


def twin_energy(
    model: Mapping[str, np.ndarray],
    vertex_ids: Mapping[str, int],
    betas: np.ndarray,
    rotations: np.ndarray,
    transl: np.ndarray,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    focal: tuple[float, float],
    center: tuple[float, float],
    sigma: float,
    scale: float,
    weights: Mapping[str, float],
    mixture: tuple[np.ndarray, np.ndarray, np.ndarray],
    up: np.ndarray,
) -> dict[str, float]:
    """Energy terms of one person by name.

    `model`: arrays of a body file; `keypoints` (25, 2) pixels, `confidence` (25,); `mixture`:
    means, covariances and weights over 69 numbers; `weights`: factors of the prior's terms.
    """
    vertices, joints = twin_body(model, betas, rotations, transl)

    seen = [k for k in range(25) if confidence[k] > 0]
    size = 8.0
    for axis in (0, 1):
        for a in seen:
            for b in seen:
                size = max(size, keypoints[a][axis] - keypoints[b][axis])

    reprojection = 0.0
    for k in seen:
        if k in _REPEATS and all(confidence[other] > 0 for other in _REPEATS[k]):
            continue
        place = BODY25_POINTS[k]
        x, y, z = joints[place] if isinstance(place, int) else vertices[vertex_ids[place]]
        outlier = (scale * size) ** 2
        if z > _NEAREST:
            u = focal[0] * x / z + center[0]
            v = focal[1] * y / z + center[1]
            r2 = (u - keypoints[k][0]) ** 2 + (v - keypoints[k][1]) ** 2
            loss = outlier * r2 / (outlier + r2)
        else:
            loss = outlier
        reprojection += confidence[k] * loss / (2 * (sigma * size) ** 2)

    pose = priors_twin.body_numbers(rotations)
    constant = priors_twin.least_constant(*mixture[1:])
    leaning = rotations[0] @ np.array([0.0, 1.0, 0.0]) - up
    plain = {
        "pose": priors_twin.max_mixture_energy(pose, *mixture) - constant,
        "limits": priors_twin.limits_energy(pose),
        "shape": 0.5 * sum(b * b for b in betas),
        "upright": 0.5 * sum(d * d for d in leaning),
    }
    terms = {name: weights.get(name, 1.0) * value for name, value in plain.items()}
    return {"reprojection": reprojection, **terms}
