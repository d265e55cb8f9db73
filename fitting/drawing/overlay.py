"""Pictures to judge a fit by: keypoints, the body over the photo, the body from its side.

Pictures are (H, W, 3) uint8, red green blue. Frame and pixels as in
`flowfit.fitting.drawing.render`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from flowfit.fitting.drawing.render import Pair, Rendering, Shape, render
from flowfit.models.files import write_whole

# body colours, soft enough for print
FIT = (0.56, 0.80, 0.64)  # green: fitting with the flow as prior
REGRESSION = (0.95, 0.66, 0.72)  # pink: the flow's mode, not fitted
SMPLIFY = (0.74, 0.75, 0.77)  # grey: fitting with SMPLify's priors
SAMPLE_PURPLE = (0.70, 0.62, 0.86)  # samples of the flow, to take by turns
SAMPLE_YELLOW = (0.96, 0.84, 0.50)

PAPER = (247, 247, 245)
_GRID = (228, 229, 230)
_GROUND = (196, 198, 200)
_DOT, _BONE, _RIM = (255, 176, 32), (255, 214, 120), (38, 38, 42)
_TEXT = (60, 62, 66)
_OPACITY = 0.88  # enough of the photo shines through to see what lies under the body
_SHOWN_MIN, _SHOWN_FROM, _SHOWN_MAX = 512, 400, 1600  # pixels
_SUBPIXEL = 4  # binary digits of a pixel that cv2's drawing takes
_FAR_OFF = 30_000  # pixels; beyond, cv2's numbers overflow


def blank(width: int, height: int) -> np.ndarray:
    """A light canvas."""
    return np.full((height, width, 3), PAPER, np.uint8)


def canvas(pixels: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """What to draw on: the picture (H, W, 3), or a light canvas of its width and height."""
    return blank(*size) if pixels is None else pixels


def _mix(picture: np.ndarray, drawn: Rendering, opacity: float = 1.0) -> np.ndarray:
    weight = drawn.coverage[..., None] * np.float32(opacity)
    return np.round(picture + (drawn.color - picture.astype(np.float32)) * weight).astype(np.uint8)


def overlay(
    picture: np.ndarray,
    shapes: Sequence[Shape],
    focal: Pair,
    center: Pair,
    keypoints: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    edges: Iterable[tuple[int, int]] = (),
    *,
    engine: str = "auto",
) -> np.ndarray:
    """The bodies over the picture, and the keypoints over both.

    Args:
        picture: (H, W, 3) uint8.
        shapes: bodies in the frame of the camera that took the picture.
        focal, center: (x, y) pixels.
        keypoints: (N, K, 2) pixels of N persons, or None.
        confidence: (N, K), 0 where a keypoint is absent; None: all are there.
        edges: pairs of keypoint numbers to draw as bones.
        engine: as in `render`, whose errors are raised.

    Returns:
        A new picture of the same size.
    """
    height, width = picture.shape[:2]
    drawn = render(shapes, width=width, height=height, focal=focal, center=center, engine=engine)
    mixed = _mix(picture, drawn, _OPACITY)
    return mixed if keypoints is None else draw_keypoints(mixed, keypoints, confidence, edges)


def draw_keypoints(
    picture: np.ndarray,
    keypoints: np.ndarray,
    confidence: np.ndarray | None = None,
    edges: Iterable[tuple[int, int]] = (),
) -> np.ndarray:
    """Dots and bones on a copy of the picture; arguments as in `overlay`. Surer dots are larger."""
    import cv2

    canvas = np.ascontiguousarray(picture).copy()
    points = np.asarray(keypoints, float)
    sure = np.ones(points.shape[:2]) if confidence is None else np.asarray(confidence, float)
    there = (sure > 0) & (np.abs(np.nan_to_num(points, nan=np.inf)) < _FAR_OFF).all(-1)
    unit = max(picture.shape[:2]) / 512
    # cv2 counts from the middle of the first pixel, keypoints from the picture's corner
    grid = np.round((np.where(there[..., None], points, 0) - 0.5) * 2**_SUBPIXEL).astype(int)
    bone, rim = max(1, round(1.3 * unit)), max(1, round(unit))
    pairs = tuple(edges)
    for person, seen in zip(grid.tolist(), there.tolist(), strict=True):
        bones = [(person[a], person[b]) for a, b in pairs if seen[a] and seen[b]]
        for color, thickness in ((_RIM, bone + 2 * ((rim + 1) // 2)), (_BONE, bone)):
            for one, two in bones:
                cv2.line(canvas, one, two, color, thickness, cv2.LINE_AA, _SUBPIXEL)
    for person, seen, weights in zip(grid.tolist(), there.tolist(), sure, strict=True):
        for k in np.flatnonzero(seen):
            radius = unit * (1.9 + 1.1 * min(1.0, float(weights[k])))
            for color, size in ((_RIM, radius + 0.8 * rim), (_DOT, radius)):
                length = round(size * 2**_SUBPIXEL)
                cv2.circle(canvas, person[k], length, color, -1, cv2.LINE_AA, _SUBPIXEL)
    return canvas


def side_view(
    shapes: Sequence[Shape],
    *,
    height: int,
    width: int | None = None,
    engine: str = "auto",
) -> np.ndarray:
    """The bodies from their left: who looks at the camera looks to the left edge.

    The scene is turned by 90 degrees about the camera's y axis and framed to hold every body
    whole. Grid lines stand half a metre apart in the plane through the bodies' middle.

    Args:
        shapes: bodies in the camera's frame.
        height: pixels of the picture.
        width: pixels; None: as the bodies need, 0.5 to 1.5 heights.
        engine: as in `render`, whose errors are raised.
    """
    if not shapes:
        return blank(width or height // 2, height)
    points = np.concatenate([s.vertices for s in shapes])
    middle = np.mean([(s.vertices.min(0) + s.vertices.max(0)) / 2 for s in shapes], 0)
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)  # depth becomes x
    # from far off, so that bodies side by side keep nearly one scale
    distance = np.array([0, 0, 12 * max(1.0, float(np.abs(points - middle).max()))])
    turned = [replace(s, vertices=(s.vertices - middle) @ turn.T + distance) for s in shapes]
    points = np.concatenate([s.vertices for s in turned])
    flat = points[:, :2] / points[:, 2:]
    low, high = flat.min(0), flat.max(0)
    extent = np.maximum(high - low, 1e-6)
    margin = 0.06 * height
    if width is None:
        wanted = (height - 2 * margin) * extent[0] / extent[1] + 2 * margin
        width = round(float(np.clip(wanted, 0.5 * height, 1.5 * height)))
    size = np.array([width, height])
    focal = float(((size - 2 * min(margin, width / 4)) / extent).min())
    center = size / 2 - focal * (low + high) / 2
    camera = {"focal": (focal, focal), "center": (float(center[0]), float(center[1]))}
    step = 0.5 * focal / distance[2]
    canvas = _grid(width, height, step, float(center[0]), float(focal * high[1] + center[1]))
    return _mix(canvas, render(turned, width=width, height=height, engine=engine, **camera))


def _grid(width: int, height: int, step: float, x: float, ground: float) -> np.ndarray:
    """Canvas with lines each `step` pixels from the ground line up and from x to both sides."""
    canvas = blank(width, height)
    if step >= 8:  # closer lines would be grey mist
        for y in np.arange(ground, -1, -step):
            canvas[max(0, min(height - 1, round(y)))] = _GRID
        for column in np.arange(x % step, width, step):
            canvas[: round(ground), int(column)] = _GRID
    thick = max(1, height // 400)
    canvas[round(ground) : round(ground) + thick] = _GROUND
    return canvas


def fit_picture(
    picture: np.ndarray,
    shapes: Sequence[Shape],
    focal: Pair,
    center: Pair,
    keypoints: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    edges: Iterable[tuple[int, int]] = (),
    labels: Sequence[str] = (),
    *,
    engine: str = "auto",
) -> np.ndarray:
    """Side by side: the picture with keypoints, the bodies over it, the bodies from the side.

    Pictures less than 400 pixels high are enlarged to 512, those longer than 1600 are reduced to
    that before anything is drawn. Arguments as in `overlay`; labels are texts for the panels.
    """
    import cv2

    height, width = picture.shape[:2]
    scale = _SHOWN_MIN / height if height < _SHOWN_FROM else 1.0
    scale = min(scale, _SHOWN_MAX / max(height, width))
    if scale != 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=way)
        ratio = np.array(size) / (width, height)
        focal = (focal[0] * ratio[0], focal[1] * ratio[1])
        center = (center[0] * ratio[0], center[1] * ratio[1])
        keypoints = None if keypoints is None else np.asarray(keypoints) * ratio
        height, width = picture.shape[:2]
    pairs = tuple(edges)
    first = picture if keypoints is None else draw_keypoints(picture, keypoints, confidence, pairs)
    panels = [
        first,
        overlay(picture, shapes, focal, center, keypoints, confidence, engine=engine),
        side_view(shapes, height=height, engine=engine),
    ]
    for panel, label in zip(panels, labels, strict=False):
        write_label(panel, label)
    gap = np.full((height, max(2, height // 128), 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def write_label(panel: np.ndarray, text: str, size: float | None = None) -> None:
    """Text in the panel's upper left corner, on paper; the panel is changed.

    `size` is cv2's font scale; None: as the panel's height needs it.
    """
    import cv2

    size = size or panel.shape[0] / 1000
    thick = max(1, round(1.6 * size))
    (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
    pad = tall // 2
    panel[: tall + below + 2 * pad, : wide + 2 * pad] = PAPER  # readable on any photo
    spot = pad, pad + tall
    cv2.putText(panel, text, spot, cv2.FONT_HERSHEY_SIMPLEX, size, _TEXT, thick, cv2.LINE_AA)


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture whole or not at all; errors as in `write_whole`."""
    import cv2

    data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
    write_whole(path, data.tobytes())
