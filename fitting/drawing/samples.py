"""Pictures of what a person could be: the likeliest body, the modes, bodies along the latent.

Colours as in ProHMR: the posterior's mode pink, samples purple and yellow by turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flowfit.fitting.drawing.overlay import (
    PAPER,
    REGRESSION,
    SAMPLE_PURPLE,
    SAMPLE_YELLOW,
    draw_keypoints,
    overlay,
    side_view,
    write_label,
)
from flowfit.fitting.drawing.render import Pair, Shape
from flowfit.models.cameras import MIN_DEPTH

_HEIGHT = 360  # pixels of a panel
_WIDEST = 420
_MARGIN = 0.08  # of the region shown, on each side
_BEYOND = 0.25  # of the picture: how far past its frame the region may reach
_GAP = 4
# metres, and the colours between them: green, yellow, orange, red
_SURE_SD, _GUESS_SD = 0.02, 0.30
_SD_COLORS = ((0.45, 0.75, 0.52), (0.95, 0.88, 0.50), (0.93, 0.60, 0.35), (0.80, 0.25, 0.25))


def modes_picture(
    picture: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    weights: Sequence[float],
    focal: Pair,
    center: Pair,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    edges: Iterable[tuple[int, int]],
    *,
    first: str = "mode",
    first_color: tuple[float, float, float] = REGRESSION,
    corner: Callable[[int, int], np.ndarray] | None = None,
    engine: str = "auto",
) -> np.ndarray:
    """One column a body: over the picture above, from its left side below.

    Args:
        picture: (H, W, 3) uint8. vertices: (1 + m, V, 3) metres, camera frame: the likeliest body,
            then the modes. faces: (F, 3). weights: of the m modes.
        focal, center: (x, y) pixels. keypoints: (K, 2), confidence: (K,), edges: as in `overlay`.
        first: what the first body is called; first_color: what it looks like.
        corner: makes the panel below the keypoints, of a height and a width; None: left empty.
    """
    import cv2

    low, high = _region(picture, vertices, focal, center, keypoints[confidence > 0])
    canvas = np.full((*(high - low)[::-1], 3), PAPER, np.uint8)
    height, width = picture.shape[:2]
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, (width, height))
    canvas[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]] = picture[y0:y1, x0:x1]
    scale = min(_HEIGHT / canvas.shape[0], _WIDEST / canvas.shape[1])
    shown = max(1, round(canvas.shape[1] * scale)), max(1, round(canvas.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(canvas, shown, interpolation=way)
    ratio = np.array(shown) / (high - low)
    middle = (np.array(center) - low) * ratio
    camera = (focal[0] * ratio[0], focal[1] * ratio[1]), (float(middle[0]), float(middle[1]))
    points, sure, pairs = ((keypoints - low) * ratio)[None], confidence[None], tuple(edges)
    columns = [_column(draw_keypoints(canvas, points, sure, pairs), None, "keypoints")]
    if corner is not None:
        columns[0][-_HEIGHT:] = corner(_HEIGHT, shown[0])
    labels = [first, *(f"{100 * w:.0f} %" for w in weights)]
    for number, (body, label) in enumerate(zip(vertices, labels, strict=True)):
        by_turns = SAMPLE_PURPLE if number % 2 else SAMPLE_YELLOW
        shape = Shape(body, faces, by_turns if number else first_color)
        over = overlay(canvas, [shape], *camera, engine=engine)
        columns.append(_column(over, shape, label, engine))
    gap = np.full((columns[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.hstack([part for column in columns for part in (column, gap)][:-1])


def _column(over: np.ndarray, shape: Shape | None, label: str, engine: str = "auto") -> np.ndarray:
    over = over.copy()
    write_label(over, label, 0.45)
    width = over.shape[1]
    if shape is None:
        below = np.full((_HEIGHT, width, 3), PAPER, np.uint8)
    else:
        below = side_view([shape], height=_HEIGHT, width=width, engine=engine)
    return np.vstack([over, np.full((_GAP, width, 3), 255, np.uint8), below])


def _region(
    picture: np.ndarray, vertices: np.ndarray, focal: Pair, center: Pair, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (x, y) in whole pixels around the person, not far beyond the picture."""
    size = np.array(picture.shape[1::-1])
    points = vertices.reshape(-1, 3)
    points = points[points[:, 2] > MIN_DEPTH]
    pixels = points[:, :2] / points[:, 2:] * focal + center
    # one sample with a stretched arm must not make all the others small
    shown = np.concatenate([seen, pixels]) if len(seen) else pixels
    shown = np.clip(shown, -_BEYOND * size, (1 + _BEYOND) * size)
    low, high = shown.min(0), shown.max(0)
    margin = _MARGIN * (high - low).max()
    low, high = np.floor(low - margin).astype(int), np.ceil(high + margin).astype(int)
    return low, np.maximum(high, low + 8)


def interpolation_picture(
    vertices: np.ndarray, faces: np.ndarray, steps: Sequence[float], *, engine: str = "auto"
) -> np.ndarray:
    """Bodies along random directions of the latent, from their left side; the mode is pink.

    Args:
        vertices: (W, T, V, 3), W directions. faces: (F, 3). steps: (T,) how far along each.
    """
    rows = []
    for color, along in zip((SAMPLE_PURPLE, SAMPLE_YELLOW), vertices, strict=False):
        panels = []
        for body, step in zip(along, steps, strict=True):
            shape = Shape(body, faces, REGRESSION if step == 0 else color)
            panel = side_view([shape], height=_HEIGHT, width=_HEIGHT * 3 // 4, engine=engine)
            write_label(panel, "mode" if step == 0 else f"{step:+.1f}", 0.45)
            panels.append(panel)
        rows.append(np.hstack(panels))
    return np.vstack(rows)


def sd_colors(sd: np.ndarray) -> np.ndarray:
    """Colours (V, 3) of standard deviations (V,), metres: from sure (green) to a guess (red)."""
    place = np.log(np.clip(sd, _SURE_SD, _GUESS_SD) / _SURE_SD) / np.log(_GUESS_SD / _SURE_SD)
    steps = np.linspace(0, 1, len(_SD_COLORS))
    return np.stack([np.interp(place, steps, c) for c in np.array(_SD_COLORS).T], -1)


def sd_panel(
    vertices: np.ndarray,
    faces: np.ndarray,
    sd: np.ndarray,
    height: int,
    width: int,
    *,
    engine: str = "auto",
) -> np.ndarray:
    """A body from its left side in the colours of its standard deviations, with their scale."""
    shape = Shape(vertices, faces, sd_colors(sd))
    panel = side_view([shape], height=height, width=width, engine=engine)
    bar = np.geomspace(_GUESS_SD, _SURE_SD, height // 3)
    panel[8 : 8 + len(bar), width - 18 : width - 8] = (255 * sd_colors(bar))[:, None]
    for metres, y in ((_GUESS_SD, 18), (_SURE_SD, 8 + len(bar))):
        write_at(panel, f"{100 * metres:.0f} cm", (width - 68, y))
    write_label(panel, "deviation", 0.45)
    return panel


def write_at(panel: np.ndarray, text: str, spot: tuple[int, int]) -> None:
    """Small text with its lower left corner at a spot; the panel is changed."""
    import cv2

    cv2.putText(panel, text, spot, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60, 62, 66), 1, cv2.LINE_AA)
