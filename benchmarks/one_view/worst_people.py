"""A picture of people and their fits: what was seen, the fitted body, the true body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from flowfit.fitting.drawing.overlay import (
    FIT,
    PAPER,
    SMPLIFY,
    blank,
    draw_keypoints,
    overlay,
    side_view,
    write_png,
)
from flowfit.fitting.drawing.render import Shape
from flowfit.models.cameras import MIN_DEPTH

HEIGHT = 220  # pixels of a row
_FRAME, _TEXT = (90, 120, 200), (60, 62, 66)
_HEADS = ("keypoints", "fit, front", "fit, side", "truth, front", "truth, side")


@dataclass(frozen=True, eq=False)
class Drawn:
    """One person. Vertices (V, 3) in metres, camera frame; keypoints (K, 2) and focal in pixels."""

    label: str
    keypoints: np.ndarray
    confidence: np.ndarray
    edges: Sequence[tuple[int, int]]
    size: tuple[int, ...]
    center: tuple[float, ...]
    faces: np.ndarray
    fitted: np.ndarray
    fitted_focal: float
    true: np.ndarray
    true_focal: float


def draw_worst(path: Path, people: Sequence[Drawn]) -> None:
    """One row a person, five panels each; the blue line is the picture's frame."""
    rows = [_row(person) for person in people]
    width = max(r.shape[1] for r in rows)
    rows = [np.pad(r, ((0, 8), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    write_png(path, np.concatenate(rows))


def _row(person: Drawn) -> np.ndarray:
    seen = person.keypoints[person.confidence > 0]
    shown = [seen]
    for vertices, focal in (
        (person.fitted, person.fitted_focal),
        (person.true, person.true_focal),
    ):
        ahead = vertices[vertices[:, 2] > MIN_DEPTH]
        shown.append(ahead[:, :2] / ahead[:, 2:] * focal + person.center)
    size = np.array(person.size, float)
    points = np.clip(np.concatenate(shown), -0.6 * size, 1.6 * size)
    low, high = points.min(0) - 0.02 * size, points.max(0) + 0.02 * size
    scale = HEIGHT / float((high - low)[1])
    wide = int(min((high - low)[0] * scale, 1.5 * HEIGHT))
    middle = (np.array(person.center) - low) * scale
    center = float(middle[0]), float(middle[1])
    keypoints = ((person.keypoints - low) * scale)[None]
    confidence = person.confidence[None]
    canvas = blank(wide, HEIGHT)
    corner, far = (np.round((p - low) * scale).astype(int).tolist() for p in (0 * size, size))
    cv2.rectangle(canvas, corner, far, _FRAME, 1)
    fitted = Shape(person.fitted, person.faces, FIT)
    true = Shape(person.true, person.faces, SMPLIFY)
    panels = [draw_keypoints(canvas, keypoints, confidence, person.edges)]
    for shape, focal in ((fitted, person.fitted_focal), (true, person.true_focal)):
        f = focal * scale
        panels.append(overlay(canvas, [shape], (f, f), center, keypoints, confidence))
        panels.append(side_view([shape], height=HEIGHT, width=HEIGHT))
    for panel, head in zip(panels, _HEADS, strict=True):
        _write(panel, head)
    gap = np.full((HEIGHT, 4, 3), 255, np.uint8)
    row = np.concatenate([part for panel in panels for part in (panel, gap)], 1)
    title = np.full((18, row.shape[1], 3), PAPER, np.uint8)
    _write(title, person.label)
    return np.concatenate([title, row])


def _write(panel: np.ndarray, text: str) -> None:
    cv2.putText(panel, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _TEXT, 1, cv2.LINE_AA)
