"""Pictures of meshes by two engines that give the same picture.

pyrender draws through OpenGL where the machine has it; ray casting (Embree) draws where not. The
light is worked out once per vertex, so all that an engine does is to interpolate vertex colours.

Frame: the camera's, OpenCV's. x right, y down, z forward, metres; pixels with the origin at the
top left corner of the picture, so that the first pixel's middle is at (0.5, 0.5).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowfit.fitting.drawing.engines import OPENGL, raycast
from flowfit.models.cameras import MIN_DEPTH
from flowfit.models.errors import InputError

Pair = tuple[float, float]
ENGINES = ("auto", "pyrender", "raycast")
_TILE = 2048  # pixels; graphics drivers limit how large a picture they draw


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh to draw; ValueError when its arrays do not fit together.

    Attributes:
        vertices: (V, 3) metres, camera frame, finite. faces: (F, 3) vertex numbers,
            counter-clockwise from outside.
        color: red, green, blue in 0..1, (3,) of the mesh or (V, 3) of its vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray
    color: np.ndarray | Sequence[float]

    def __post_init__(self) -> None:
        vertices, color = (np.asarray(a, np.float32) for a in (self.vertices, self.color))
        faces = np.asarray(self.faces).astype(np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise ValueError(f"vertices must be finite and (V, 3); they are {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces must be (F, 3); they are {faces.shape}")
        if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise ValueError("faces name vertices that the mesh does not have")
        if color.shape not in ((3,), vertices.shape):
            raise ValueError(f"color must be (3,) or (V, 3); it is {color.shape}")
        for name, value in (("vertices", vertices), ("faces", faces), ("color", color)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Rendering:
    """What the camera sees of the shapes.

    Attributes:
        color: (H, W, 3) uint8, not yet mixed with any background; black where empty.
        coverage: (H, W) float32, share of the pixel that the shapes cover, 0..1.
        depth: (H, W) float32, metres along z of the surface, infinite where empty.
    """

    color: np.ndarray
    coverage: np.ndarray
    depth: np.ndarray


def render(
    shapes: Sequence[Shape],
    *,
    width: int,
    height: int,
    focal: Pair,
    center: Pair,
    engine: str = "auto",
) -> Rendering:
    """Draw shapes; nearer ones hide farther ones. Four samples a pixel smooth the edges.

    Args:
        shapes: what to draw, possibly nothing.
        width, height: pixels of the picture.
        focal, center: (x, y) pixels of the pinhole camera.
        engine: "pyrender", "raycast", or "auto": pyrender where it works, else raycast.

    Raises:
        InputError: the engine is unknown, or was asked for by name and does not work here.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is unknown; give one of {', '.join(ENGINES)}")
    failure = "" if engine == "raycast" else OPENGL.start()
    if engine == "pyrender" and failure:
        raise InputError(f"pyrender cannot draw here: {failure}; use engine 'raycast'")
    picture = Rendering(
        np.zeros((height, width, 3), np.uint8),
        np.zeros((height, width), np.float32),
        np.full((height, width), np.inf, np.float32),
    )
    shapes = [s for s in shapes if len(s.faces)]
    if not shapes:
        return picture
    starts = np.cumsum([0, *(len(s.vertices) for s in shapes)])[:-1]
    vertices = np.concatenate([s.vertices for s in shapes])
    faces = np.concatenate([s.faces + n for s, n in zip(shapes, starts, strict=True)])
    colors = np.concatenate([lit_colors(s) for s in shapes])
    x0, y0, x1, y1 = _region(vertices, (width, height), focal, center)
    for y in range(y0, y1, _TILE):
        for x in range(x0, x1, _TILE):
            size = min(_TILE, x1 - x), min(_TILE, y1 - y)
            camera = (*focal, center[0] - x, center[1] - y)
            drawn = None
            if engine != "raycast" and not failure:
                try:
                    drawn = OPENGL.draw(vertices, faces, colors, camera, size)
                except Exception as error:  # a driver fails in its own ways
                    failure = OPENGL.give_up(error)
                    if engine == "pyrender":
                        raise InputError(f"pyrender cannot draw here: {failure}") from error
            if drawn is None:
                drawn = raycast(vertices, faces, colors, camera, size)
            tile = np.s_[y : y + size[1], x : x + size[0]]
            picture.color[tile] = np.clip(drawn[0] * 255 + 0.5, 0, 255).astype(np.uint8)
            picture.coverage[tile], picture.depth[tile] = drawn[1], drawn[2]
    return picture


def available_engine() -> tuple[str, str]:
    """The engine that "auto" uses here, and why, in words."""
    failure = OPENGL.start()
    if failure:
        return "raycast", failure
    return "pyrender", f"OpenGL works, through {os.environ.get('PYOPENGL_PLATFORM', 'a window')}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-20)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Smooth outward unit normals, the faces' by area. (V, 3), (F, 3) -> (V, 3)."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    of_corners = np.repeat(np.cross(b - a, c - a), 3, axis=0).T
    sums = [np.bincount(faces.ravel(), axis, minlength=len(vertices)) for axis in of_corners]
    return _unit(np.stack(sums, -1))


def lit_colors(shape: Shape) -> np.ndarray:
    """Colours of a shape's vertices under the studio light. -> (V, 3) float32 in 0..1."""
    normals, to_eye = vertex_normals(shape.vertices, shape.faces), _unit(-shape.vertices)
    key = _unit(np.array([-0.6, -0.75, -0.6]))  # from the viewer's upper left
    fill = _unit(np.array([0.95, 0.1, -0.35]))
    facing = np.clip((normals * to_eye).sum(-1), 0, 1)
    wrapped = np.clip((normals @ key + 0.2) / 1.2, 0, 1)  # a large lamp reaches round the edge
    shade = 0.36 + 0.14 * (0.5 - 0.5 * normals[:, 1])  # from everywhere, more from the sky
    shade += 0.56 * wrapped + 0.2 * np.clip(normals @ fill, 0, 1)
    shade *= 0.8 + 0.2 * facing  # darker to the outline, so that limbs stand off the trunk
    gloss = 0.1 * np.clip((normals * _unit(key + to_eye)).sum(-1), 0, 1) ** 18
    lit = np.asarray(shape.color) * shade[:, None] + gloss[:, None]
    return np.clip(lit, 0, 1).astype(np.float32)


def _region(vertices: np.ndarray, size: Pair, focal: Pair, center: Pair) -> list[int]:
    """x0, y0, x1, y1 of the pixels that the vertices may cover; may be empty."""
    in_front = vertices[:, 2] > MIN_DEPTH
    if not in_front.all():  # a face through the camera's plane may reach any pixel
        return [0, 0, *(int(n) * bool(in_front.any()) for n in size)]
    pixels = vertices[:, :2].astype(float) / vertices[:, 2:] * focal + center
    low, high = np.floor(pixels.min(0)) - 1, np.ceil(pixels.max(0)) + 1
    return [int(n) for n in np.clip((low, high), 0, size).ravel()]
