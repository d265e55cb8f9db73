"""Who is who in several views: by person_id, or by where the rays through their keypoints meet.

Matching begins with points that two people in two views agree on, and asks the other views how many
of them see somebody there. The best supported become people; then each view's people are assigned
to them at least cost (scipy), and again with better points. Frames are matched on their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.scenes.camera_files import SceneCameras
from flowfit.fitting.scenes.scene import Scene
from flowfit.models.cameras import undistort
from flowfit.models.errors import InputError

GATE = 0.15  # of the person's size: the mean error of keypoints that may be the same person's
_CAP = 0.5  # of the person's size: one wrong keypoint says no more than this
_LEAST_SHARED = 4  # keypoints; fewer agree by chance
_LEAST_SIZE = 8.0  # pixels
_ROUNDS = 3  # of assignment
_AT_ONCE = 400  # hypotheses; bounds the memory
_RIDGE = 1e-9


@dataclass(frozen=True)
class Seen:
    """One person of a frame.

    Attributes:
        number: person_id where files give one, else a count from 0.
        rows: view -> the person's row in that view's detections.
    """

    number: int
    rows: Mapping[str, int]


def people_of(scene: Scene, frame: str, *, match: bool = False) -> list[Seen]:
    """The people of a frame, each with their row in every view that sees them.

    Args:
        scene, frame: of what. match: whatever person_id says, match by geometry.

    Raises:
        InputError: several people without ids, and no cameras to match them with.
    """
    found = {v: scene.people[frame, v] for v in scene.views if (frame, v) in scene.people}
    found = {view: seen for view, seen in found.items() if len(seen)}
    if not match and all(_has_ids(seen) for seen in found.values()):
        return _by_id(found)
    if scene.cameras is not None:
        return match_people(found, scene.cameras)
    crowded = [view for view, seen in found.items() if len(seen) > 1]
    if crowded:
        raise InputError(
            f"{scene.folder}: frame {frame} has several people in view {crowded[0]}, without "
            "person_id or cameras nobody can tell who is who; give either, or one person a view"
        )
    return [Seen(0, dict.fromkeys(found, 0))] if found else []


def _has_ids(seen: Detections) -> bool:
    return min(seen.person_ids) >= 0 and len(set(seen.person_ids)) == len(seen)


def _by_id(found: Mapping[str, Detections]) -> list[Seen]:
    rows: dict[int, dict[str, int]] = {}
    for view, seen in found.items():
        for row, number in enumerate(seen.person_ids):
            rows.setdefault(number, {})[view] = row
    return [Seen(number, rows[number]) for number in sorted(rows)]


def match_people(found: Mapping[str, Detections], cameras: SceneCameras) -> list[Seen]:
    """Match people by geometry.

    Args:
        found: view -> who was seen there. cameras: of at least these views.

    Returns:
        The people, those whom most views see first; those whom nobody else sees last.
    """
    people = [(view, row) for view, seen in found.items() for row in range(len(seen))]
    if not people:
        return []
    rays = _Rays.through(found, cameras)
    groups = _assign(rays, _seeds(rays))
    grouped = {one for group in groups for one in group}
    groups += [[one] for one in range(len(people)) if one not in grouped]
    groups.sort(key=lambda group: (-len(group), group[0]))
    return [Seen(n, dict(people[one] for one in group)) for n, group in enumerate(groups)]


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rays through the keypoints of D people in all views, world frame.

    Attributes:
        view: (D,) number of the view. origin: (D, 3) metres. direction: (D, K, 3) of length 1.
        weight: (D, K) confidence. size: (D,) how large the person looks, as tangent of an angle.
    """

    view: np.ndarray
    origin: np.ndarray
    direction: np.ndarray
    weight: np.ndarray
    size: np.ndarray

    @classmethod
    def through(cls, found: Mapping[str, Detections], cameras: SceneCameras) -> _Rays:
        view, origin, direction, weight, size = [], [], [], [], []
        centres = cameras.rig.centres.numpy()
        for number, (name, seen) in enumerate(found.items()):
            row = cameras.names.index(name)
            lens = cameras.camera
            focal = lens.focal[row]
            plane = (torch.from_numpy(seen.keypoints) - lens.center[row]) / focal
            if lens.distortion is not None:
                plane = undistort(plane, lens.distortion[row].expand(*plane.shape[:-1], 5))
            there = torch.cat((plane, torch.ones_like(plane[..., :1])), -1)
            world = (there @ cameras.rig.rotations[row]).nan_to_num().numpy()
            view += [number] * len(seen)
            origin += [centres[row]] * len(seen)
            direction.append(world / np.linalg.norm(world, axis=-1, keepdims=True))
            weight.append(seen.confidence)
            for points, sure in zip(seen.keypoints, seen.confidence, strict=True):
                extent = float(np.ptp(points[sure > 0], axis=0).max())
                size.append(max(extent, _LEAST_SIZE) / float(focal.mean()))
        return cls(
            np.array(view),
            np.stack(origin),
            np.concatenate(direction),
            np.concatenate(weight),
            np.array(size),
        )

    def meet(self, members: np.ndarray) -> np.ndarray:
        """Points nearest to the rays of the members, (H, D) of them -> (H, K, 3) metres.

        NaN where fewer than two members saw a keypoint.
        """
        across = np.eye(3) - self.direction[..., :, None] * self.direction[..., None, :]
        across = across * self.weight[..., None, None]
        to = np.einsum("dkab,db->dka", across, self.origin)
        matrix = np.tensordot(members, across, 1) + _RIDGE * np.eye(3)
        points = np.linalg.solve(matrix, np.tensordot(members, to, 1)[..., None])[..., 0]
        points[members @ (self.weight > 0) < 2] = np.nan
        return np.asarray(points)

    def cost(self, points: np.ndarray) -> np.ndarray:
        """How far each person's rays pass by points (H, K, 3), in their size: (H, D)."""
        away = points[:, None] - self.origin[:, None]
        along = (away * self.direction).sum(-1)
        aside = np.linalg.norm(away - along[..., None] * self.direction, axis=-1)
        behind = along <= 0
        error = aside / np.where(behind, 1, along) / self.size[:, None]
        error = np.minimum(np.where(behind, _CAP, error), _CAP)
        shared = np.isfinite(points).all(-1)[:, None] & (self.weight > 0)
        weight = shared * self.weight  # what is hidden is guessed at low confidence
        mean = np.where(shared, weight * error, 0).sum(-1) / np.maximum(weight.sum(-1), 1e-9)
        return np.where(shared.sum(-1) >= _LEAST_SHARED, mean, _CAP)


def _seeds(rays: _Rays) -> np.ndarray:
    """Groups to begin with, (H, D) 0 or 1: of the best supported points, one after another."""
    first, second = np.nonzero(rays.view[:, None] < rays.view[None])
    members, costs = [], []
    for start in range(0, len(first), _AT_ONCE):
        a, b = first[start : start + _AT_ONCE], second[start : start + _AT_ONCE]
        pair = np.zeros((len(a), len(rays.view)))
        pair[np.arange(len(a)), a] = pair[np.arange(len(a)), b] = 1
        cost = rays.cost(rays.meet(pair))
        agree = (cost * pair).max(-1) < GATE
        members.append(pair[agree])
        costs.append(cost[agree])
    if not members:
        return np.zeros((0, len(rays.view)))
    pairs, support = np.concatenate(members), np.maximum(0, 1 - np.concatenate(costs) / GATE)
    left = np.ones(len(rays.view))
    found: list[np.ndarray] = []
    while True:
        by_view = [(support * left)[:, rays.view == view] for view in range(rays.view.max() + 1)]
        best = np.stack([s.max(-1) if s.shape[1] else np.zeros(len(s)) for s in by_view], -1)
        score = np.where((pairs * (1 - left)).any(-1), 0, best.sum(-1))
        if not len(score) or score.max() <= 0:
            return np.array(found).reshape(-1, len(rays.view))
        top = int(score.argmax())
        group = np.zeros(len(rays.view))
        for view in range(len(by_view)):
            own = np.flatnonzero(rays.view == view)
            if best[top, view] > 0:
                group[own[(support[top, own] * left[own]).argmax()]] = 1
        found.append(group)
        left = left * (1 - group)


def _assign(rays: _Rays, groups: np.ndarray) -> list[list[int]]:
    """Give every view's people to the groups at least cost, and again with the points of these."""
    from scipy.optimize import linear_sum_assignment

    for _ in range(_ROUNDS if len(groups) else 0):
        for view in range(rays.view.max() + 1):
            own = np.flatnonzero(rays.view == view)
            others = groups * (rays.view != view)
            # of a pair the partner alone makes no point: the group's own points stand in
            alone = others.sum(-1) < 2
            cost = rays.cost(rays.meet(np.where(alone[:, None], groups, others)))[:, own]
            chosen = zip(*linear_sum_assignment(cost), strict=True)
            groups[:, own] = 0
            for group, one in chosen:
                if cost[group, one] < GATE:
                    groups[group, own[one]] = 1
    return [np.flatnonzero(group).tolist() for group in groups if group.any()]


def rows_of(people: Sequence[Seen], views: Sequence[str]) -> list[list[int]]:
    """For each person the row in each view, -1 where the view does not see them."""
    return [[person.rows.get(view, -1) for view in views] for person in people]
