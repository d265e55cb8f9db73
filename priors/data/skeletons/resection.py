"""The camera that takes points of the world to their pictures (direct linear transform)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_ROUNDS = 10  # of reweighting, against wrong detections
_FEWEST = 12


class Resected(NamedTuple):
    """Rotation (3, 3) world to camera, intrinsics (3, 3), median error in pixels."""

    rotation: np.ndarray
    matrix: np.ndarray
    error: float


def resect(points: np.ndarray, pixels: np.ndarray) -> Resected | None:
    """A pinhole camera from (N, 3) points of the world and (N, 2) pixels, robust to outliers.

    None where the points do not tell: too few of them, all in a plane, or behind the camera.
    """
    if len(points) < _FEWEST:
        return None
    middle, reach = points.mean(0), points.std() + 1e-12
    center, extent = pixels.mean(0), pixels.std() + 1e-12
    world = np.c_[(points - middle) / reach, np.ones(len(points))]
    seen = (pixels - center) / extent
    weight = np.ones(len(points))
    for _ in range(_ROUNDS):
        zero = np.zeros_like(world)
        rows_x = np.c_[world, zero, -seen[:, :1] * world]
        rows_y = np.c_[zero, world, -seen[:, 1:] * world]
        rows = np.concatenate((rows_x * weight[:, None], rows_y * weight[:, None]))
        _, singular, directions = np.linalg.svd(rows, full_matrices=False)
        if singular[-2] < 1e-9 * singular[0]:
            return None  # more than one camera does
        projection = directions[-1].reshape(3, 4)
        if np.median(world @ projection[2]) < 0:
            projection = -projection
        depth = world @ projection[2]
        depth = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        error = np.linalg.norm((world @ projection[:2].T) / depth[:, None] - seen, axis=1)
        scale = 3 * np.median(error) + 1e-9
        # of the pictures' errors, not of the algebraic ones
        weight = 1 / (np.abs(depth) * (1 + (error / scale) ** 2))
    whole = np.array([[extent, 0, center[0]], [0, extent, center[1]], [0, 0, 1]]) @ projection
    rotation, matrix = _decompose(whole[:, :3] / reach)
    return Resected(rotation, matrix, float(np.median(error) * extent))


def _decompose(left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and intrinsics of a projection's left part, by RQ decomposition."""
    q, r = np.linalg.qr(np.flipud(left).T)
    matrix, rotation = np.flipud(np.fliplr(r.T)), np.flipud(q.T)
    signs = np.diag(np.sign(np.diag(matrix)))
    matrix, rotation = matrix @ signs, signs @ rotation
    if np.linalg.det(rotation) < 0:
        rotation = -rotation  # the projection is known up to its sign
    return rotation, matrix / matrix[2, 2]
