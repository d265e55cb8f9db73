"""One person, fitted in several ways, as one picture: over the photo above, from the side below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from flowfit.fitting.drawing.overlay import blank, draw_keypoints, overlay, side_view, write_label
from flowfit.fitting.drawing.render import Pair, Shape

PANEL = 400  # pixels of a panel's height
_MARGIN = 0.35  # of the person's box, to each side
_NARROWEST, _WIDEST = 0.5, 1.2  # of a panel's height
_GAP, _TEXT = 4, 0.6  # pixels; cv2's font scale


@dataclass(frozen=True, eq=False)
class Fitted:
    """A body to draw, None where the fit failed, and what to write above it."""

    label: str
    note: str
    shape: Shape | None


def person_picture(
    picture: np.ndarray,
    focal: float,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    edges: Iterable[tuple[int, int]],
    fits: Sequence[Fitted],
    *,
    engine: str = "auto",
) -> np.ndarray:
    """The person's part of the photo, once with the keypoints and once with each body.

    Args:
        picture: (H, W, 3) uint8, seen by a camera through its middle. focal: pixels.
        keypoints: (K, 2) pixels. confidence: (K,), 0 where not seen. edges: bones to draw.
        fits: the bodies, in the camera's frame. engine: as in `render`.
    """
    crop, scale, corner = _cut(picture, keypoints[confidence > 0])
    height, width = crop.shape[:2]
    middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])
    center = tuple(float(x) for x in (middle - corner) * scale)
    lens: tuple[Pair, Pair] = ((focal * scale, focal * scale), (center[0], center[1]))
    points = (keypoints - corner) * scale
    first = draw_keypoints(crop, points[None], confidence[None], edges)
    write_label(first, "keypoints", _TEXT)
    columns = [np.vstack([first, _gap(_GAP, width), blank(width, height)])]
    for fit in fits:
        shapes = [] if fit.shape is None else [fit.shape]
        front = overlay(crop, shapes, *lens, engine=engine)
        side = side_view(shapes, height=height, width=width, engine=engine)
        write_label(front, fit.label, _TEXT)
        write_label(side, fit.note, _TEXT)
        columns.append(np.vstack([front, _gap(_GAP, width), side]))
    tall = columns[0].shape[0]
    parts = [part for column in columns for part in (column, _gap(tall, _GAP))]
    return np.hstack(parts[:-1])


def _gap(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def _cut(picture: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The part around what was seen, a panel high: pixels, factor, corner in the picture."""
    import cv2

    sides = np.array([picture.shape[1], picture.shape[0]])
    low, high = seen.min(0), seen.max(0)
    half = (high - low) / 2 + _MARGIN * max(float((high - low).max()), 16.0)
    half = np.maximum(half, half[::-1] * (_NARROWEST, 1 / _WIDEST))
    start = np.clip(np.floor((low + high) / 2 - half), 0, sides - 2).astype(int)
    stop = np.clip(np.ceil((low + high) / 2 + half), start + 2, sides).astype(int)
    part = picture[start[1] : stop[1], start[0] : stop[0]]
    scale = min(PANEL / part.shape[0], _WIDEST * PANEL / part.shape[1])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(part), size, interpolation=way)
    canvas = blank(max(size[0], round(_NARROWEST * PANEL)), PANEL)
    canvas[: size[1], : size[0]] = resized
    return canvas, scale, start.astype(float)
