"""Pictures of a scene: bodies as a lens with distortion shows them, and everything from outside.

World: metres, any axes; `up` says which way is up. Camera frames and pixels as in
`flowfit.fitting.drawing.render`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flowfit.fitting.drawing.overlay import blank
from flowfit.fitting.drawing.render import Rendering, Shape, render
from flowfit.models.cameras import MIN_DEPTH, distort

_CAMERA_COLOR = (0.30, 0.36, 0.46)
_GRID, _TEXT = (222, 223, 225), (60, 62, 66)
_FRUSTUM, _THICK = 0.055, 0.0018  # length and half thickness, in scene sizes
_ELEVATIONS = (24.0, 89.0)  # degrees: the oblique panel, and the one from above
_OBLIQUE = 0.6  # radians from the first camera's side
_FAR = 6.0  # scene sizes from its middle: nearly one scale in front and behind
_MARGIN, _NAME_AWAY = 0.12, 0.04  # of the panel
_MOST_GRID = 60  # lines
_FARTHEST_RADIUS = 4.0  # tangent of the widest angle of view


@dataclass(frozen=True, eq=False)
class Stand:
    """Where a camera stands: rotation (3, 3), translation (3,), name, half its view as tangents."""

    rotation: np.ndarray
    translation: np.ndarray
    name: str
    half_view: np.ndarray


def bent(shape: Shape, distortion: np.ndarray | None) -> Shape:
    """A shape in the camera's frame moved so that a pinhole shows it as the lens does.

    Depths stay. What lies where the distortion's polynomial folds back is left out: the lens was
    not calibrated that far outside.
    """
    if distortion is None or not np.any(distortion):
        return shape
    vertices = shape.vertices.astype(np.float64)
    depth = np.maximum(vertices[:, 2:], MIN_DEPTH)
    plane = vertices[:, :2] / depth
    seen = (vertices[:, 2] > MIN_DEPTH) & (np.linalg.norm(plane, axis=-1) < _widest(distortion))
    moved = distort(torch.from_numpy(plane), torch.from_numpy(distortion)).numpy()
    vertices[:, :2] = np.where(seen[:, None], moved * depth, vertices[:, :2])
    return replace(shape, vertices=vertices, faces=shape.faces[seen[shape.faces].all(-1)])


def _widest(distortion: np.ndarray) -> float:
    """The distance from the axis, as tangent, up to which the lens is one to one."""
    k1, k2, _, _, k3 = distortion.tolist()
    r = np.linspace(0, _FARTHEST_RADIUS, 801)
    slope = 1 + 3 * k1 * r**2 + 5 * k2 * r**4 + 7 * k3 * r**6
    folded = np.flatnonzero(slope <= 0.05)
    return float(r[folded[0]]) if len(folded) else _FARTHEST_RADIUS


def in_camera(
    shapes: Sequence[Shape],
    rotation: np.ndarray,
    translation: np.ndarray,
    distortion: np.ndarray | None = None,
) -> list[Shape]:
    """World shapes in a camera's frame, bent as its lens has them, without what is behind it."""
    found = []
    for shape in shapes:
        moved = shape.vertices.astype(np.float64) @ rotation.T + translation
        front = (moved[:, 2] > MIN_DEPTH)[shape.faces].all(-1)
        found.append(bent(replace(shape, vertices=moved, faces=shape.faces[front]), distortion))
    return found


def outside_view(
    shapes: Sequence[Shape],
    stands: Sequence[Stand],
    up: np.ndarray,
    *,
    height: int = 560,
    engine: str = "auto",
) -> np.ndarray:
    """People and cameras from obliquely above and from above, side by side.

    Args:
        shapes: world frame. stands: the cameras. up: (3,) of the world.
        height: pixels; each panel is as wide as high. engine: as in `render`.

    Returns:
        (H, W, 3) uint8. Lines on the floor stand one metre apart.
    """
    if not shapes and not stands:
        return blank(2 * height, height)
    panels = [_panel(shapes, stands, up, angle, height, engine) for angle in _ELEVATIONS]
    gap = np.full((height, max(2, height // 128), 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1]])


def _panel(
    shapes: Sequence[Shape],
    stands: Sequence[Stand],
    up: np.ndarray,
    elevation: float,
    side: int,
    engine: str,
) -> np.ndarray:
    import cv2

    centres = [-stand.rotation.T @ stand.translation for stand in stands]
    points = np.concatenate([*(s.vertices for s in shapes), np.array(centres).reshape(-1, 3)])
    rotation, middle, size = _looking(points, centres, up, np.deg2rad(elevation))
    frusta = [_frustum(stand, size) for stand in stands]
    translation = np.array([0, 0, _FAR * size]) - rotation @ middle
    moved = in_camera([*shapes, *frusta], rotation, translation)
    flat = np.concatenate([s.vertices[:, :2] / s.vertices[:, 2:] for s in moved])
    low, high = flat.min(0), flat.max(0)
    focal = float((side * (1 - 2 * _MARGIN) / np.maximum(high - low, 1e-6)).min())
    center = side / 2 - focal * (low + high) / 2

    def project(world: np.ndarray) -> np.ndarray:
        there = world @ rotation.T + translation
        return there[..., :2] / there[..., 2:] * focal + center

    canvas = blank(side, side)
    floor = float(np.min(np.concatenate([s.vertices for s in shapes]) @ up)) if shapes else 0.0
    for ends in project(_floor_lines(points, up, floor)):
        one, two = (tuple(int(v) for v in np.round(end * 16)) for end in ends)
        cv2.line(canvas, one, two, _GRID, 1, cv2.LINE_AA, 4)
    drawn = render(
        moved, width=side, height=side, focal=(focal, focal), center=(center[0], center[1]),
        engine=engine,
    )  # fmt: skip
    canvas = _mixed(canvas, drawn)
    scale = side / 1100
    for stand, centre in zip(stands, centres, strict=True):
        wide, tall = cv2.getTextSize(stand.name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0]
        at = project(centre)
        out = at - side / 2  # names stand outside, where people are not
        out = out / max(float(np.linalg.norm(out)), 1e-6)
        at = at + out * (_NAME_AWAY * side + np.array([wide / 2, 0.0]))
        x = int(np.clip(at[0] - wide / 2, 2, side - wide - 2))
        y = int(np.clip(at[1] + tall / 2, tall + 2, side - 4))
        cv2.putText(
            canvas, stand.name, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT, 1, cv2.LINE_AA
        )
    return canvas


def _mixed(canvas: np.ndarray, drawn: Rendering) -> np.ndarray:
    weight = drawn.coverage[..., None]
    return np.round(canvas + (drawn.color - canvas.astype(np.float32)) * weight).astype(np.uint8)


def _looking(
    points: np.ndarray, centres: Sequence[np.ndarray], up: np.ndarray, elevation: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """A camera that looks down at the points: rotation, their middle, their size in metres."""
    middle = (points.min(0) + points.max(0)) / 2
    size = max(1.0, float(np.linalg.norm(points.max(0) - points.min(0))))
    toward = centres[0] - middle if centres else np.ones(3)
    ahead = toward - (toward @ up) * up
    if np.linalg.norm(ahead) < 1e-6:  # the only camera is right above
        ahead = np.cross(up, [1.0, 0.3, 0.2])
    ahead = ahead / np.linalg.norm(ahead)
    aside = np.cross(up, ahead)
    from_side = np.cos(_OBLIQUE) * ahead + np.sin(_OBLIQUE) * aside
    back = np.cos(elevation) * from_side + np.sin(elevation) * up  # from the middle to the viewer
    right = np.cross(up, from_side)
    return np.stack((right, np.cross(-back, right), -back)), middle, size


def _floor_lines(points: np.ndarray, up: np.ndarray, floor: float) -> np.ndarray:
    """Ends (N, 2, 3) of lines one metre apart on the floor under all points."""
    first = np.cross(up, [0.0, 0.0, 1.0] if abs(up[2]) < 0.9 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(up, first)
    a, b = (np.round([(points @ axis).min() - 1, (points @ axis).max() + 1])
            for axis in (first, second))  # fmt: skip
    lines = []
    for along, across, (low, high), (start, end) in (
        (first, second, a, b),
        (second, first, b, a),
    ):
        step = max(1.0, np.ceil((high - low) / _MOST_GRID))
        for at in np.arange(low, high + 0.5, step):
            base = along * at + up * floor
            lines.append((base + across * start, base + across * end))
    return np.array(lines)


def _frustum(stand: Stand, size: float) -> Shape:
    """A camera as thin bars: from its centre to the corners of its picture, and around these."""
    length, thick = _FRUSTUM * size, _THICK * size
    x, y = stand.half_view * length
    corners = np.array([[-x, -y, length], [x, -y, length], [x, y, length], [-x, y, length]])
    top = np.array([[-0.35 * x, -1.1 * y, length], [0.35 * x, -1.1 * y, length],
                    [0.0, -1.6 * y, length]])  # fmt: skip
    bars = [(np.zeros(3), corner) for corner in corners]
    bars += [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
    bars += [(top[i], top[(i + 1) % 3]) for i in range(3)]  # the side of the picture that is up
    parts = [_bar(one, two, thick) for one, two in bars]
    count = len(parts[0][0])
    vertices = np.concatenate([v for v, _ in parts])
    faces = np.concatenate([f + i * count for i, (_, f) in enumerate(parts)])
    return Shape((vertices - stand.translation) @ stand.rotation, faces, _CAMERA_COLOR)


def _bar(one: np.ndarray, two: np.ndarray, thick: float) -> tuple[np.ndarray, np.ndarray]:
    """A bar with a square section: vertices (8, 3), faces (12, 3), counter-clockwise."""
    along = (two - one) / max(float(np.linalg.norm(two - one)), 1e-9)
    first = np.cross(along, [0.0, 1.0, 0.0] if abs(along[1]) < 0.9 else [1.0, 0.0, 0.0])
    first *= thick / np.linalg.norm(first)
    second = np.cross(along, first)
    ring = np.stack([first + second, -first + second, -first - second, first - second])
    sides = [(i, (i + 1) % 4, 4 + (i + 1) % 4, 4 + i) for i in range(4)]
    faces = [t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))]
    faces += [(0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7)]
    return np.concatenate((one + ring, two + ring)), np.array(faces)
