"""SMPL written out slowly: one joint and one vertex at a time, in NumPy float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def parents_of(model: Mapping[str, np.ndarray]) -> list[int]:
    """Parent of each joint as the file says it; the root's entry means nothing."""
    return [int(p) for p in np.asarray(model["kintree_table"])[0]]


def twin_body(
    model: Mapping[str, np.ndarray],
    betas: np.ndarray,
    rotations: np.ndarray,
    transl: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and joints (24, 3) of one person; dense arrays, rotations (24, 3, 3)."""
    template = np.asarray(model["v_template"], dtype=np.float64)
    parents = parents_of(model)

    shaped = template.copy()
    for k, beta in enumerate(betas):
        shaped += beta * model["shapedirs"][:, :, k]

    rest = np.zeros((24, 3))
    for j in range(24):
        for v in range(len(shaped)):
            rest[j] += model["J_regressor"][j, v] * shaped[v]

    feature = []
    for j in range(1, 24):
        feature += list((rotations[j] - np.eye(3)).ravel())
    posed_rest = shaped.copy()
    for p, value in enumerate(feature):
        posed_rest += value * model["posedirs"][:, :, p]

    world = []
    for j in range(24):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = rest[j] if j == 0 else rest[j] - rest[parents[j]]
        world.append(local if j == 0 else world[parents[j]] @ local)

    joints = np.array([transform[:3, 3] + transl for transform in world])
    vertices = np.zeros_like(shaped)
    for v in range(len(shaped)):
        for j in range(24):
            away = np.eye(4)
            away[:3, 3] = -rest[j]
            moved = world[j] @ away @ np.append(posed_rest[v], 1.0)
            vertices[v] += model["weights"][v, j] * moved[:3]
        vertices[v] += transl
    return vertices, joints
