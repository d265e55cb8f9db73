"""The two engines that draw for `flowfit.fitting.drawing.render`: OpenGL through pyrender, and
Embree's rays.

Each takes vertices (V, 3) in the camera's frame, faces (F, 3) and vertex colours (V, 3) in 0..1, a
pinhole camera and a size in pixels, and only interpolates the colours: the pictures are the same.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
from typing import Any

import numpy as np

from flowfit.models.cameras import MIN_DEPTH

_RAYS_AT_ONCE = 400_000  # bounds the memory
# where OpenGL takes its four samples of a pixel; the ray caster takes the same
_SAMPLES = np.array([[3, 7], [7, 5], [1, 3], [5, 1]], np.float32) / 8

Camera4 = tuple[float, float, float, float]  # focal x, y and center x, y, pixels
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]  # colour (h, w, 3) 0..1, coverage, depth


def raycast(
    vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, camera: Camera4, size: Any
) -> Drawn:
    """Ray casting; needs nothing of the system."""
    import cv2
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, vertices, faces.astype(np.int32))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    # a point of the face is a + s (b - a) + t (c - a); s and t are dot products with these
    to_s, to_t = np.cross(c - a, normal), np.cross(normal, b - a)
    area = np.maximum((normal * normal).sum(-1, keepdims=True), 1e-30)
    to_s, to_t = to_s / area, to_t / area

    def cast(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour (N, 3) and depth (N,), infinite where nothing is hit, at (N, 2) pixels."""
        color = np.zeros((len(pixels), 3), np.float32)
        depth = np.full(len(pixels), np.inf, np.float32)
        for start in range(0, len(pixels), _RAYS_AT_ONCE):
            part = np.s_[start : start + _RAYS_AT_ONCE]
            rays = np.ones((len(pixels[part]), 3), np.float32)
            rays[:, :2] = (pixels[part] - camera[2:]) / camera[:2]
            face = scene.run(rays * np.float32(MIN_DEPTH), rays)  # what is nearer is cut off
            hit = np.flatnonzero(face >= 0)
            face, ray = face[hit], rays[hit]
            along = (normal[face] * ray).sum(-1)
            z = (normal[face] * a[face]).sum(-1) / np.where(along == 0, 1e-20, along)
            local = ray * z[:, None] - a[face]
            s = np.clip((local * to_s[face]).sum(-1), 0, 1)[:, None]
            t = np.clip((local * to_t[face]).sum(-1), 0, 1)[:, None]
            one, two, three = (colors[faces[face, i]] for i in range(3))
            color[part][hit] = (1 - s - t) * one + s * two + t * three
            depth[part][hit] = z
        return color, depth

    width, height = size
    middles = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + np.float32(0.5)
    color, depth = cast(middles.reshape(-1, 2))
    color, depth = color.reshape(height, width, 3), depth.reshape(height, width)
    coverage = np.isfinite(depth).astype(np.float32)
    # one ray is enough but at outlines, steep places and where colours change
    around = np.ones((3, 3), np.uint8)
    flat = np.where(coverage > 0, depth, 1e9).astype(np.float32)
    spread = cv2.dilate(flat, around) - cv2.erode(flat, around)
    contrast = (cv2.dilate(color, around) - cv2.erode(color, around)).max(-1)
    edge = (spread > flat * (6 / min(camera[:2]))) | (spread > 1e8) | (contrast > 0.1)
    rows, columns = np.nonzero(edge)
    corners = np.stack((columns, rows), -1)[:, None].astype(np.float32) + _SAMPLES
    four_colors, four_depths = cast(corners.reshape(-1, 2))
    hits = np.isfinite(four_depths).reshape(-1, 4)
    counts = hits.sum(-1)
    color[edge] = four_colors.reshape(-1, 4, 3).sum(1) / np.maximum(counts, 1)[:, None]
    coverage[edge] = counts / 4
    depth[edge] = four_depths.reshape(-1, 4).min(-1)
    return color, coverage, depth


class OpenGL:
    """pyrender with one reused context; what went wrong is remembered, not tried again."""

    def __init__(self) -> None:
        self.failure: str | None = None  # None: not tried; "": works
        self.renderer: Any = None
        self.process = 0

    def start(self) -> str:
        """Import pyrender and make a context, once. -> "" or why that is impossible."""
        if self.failure is None:
            self.failure = self._try()
        if not self.failure and os.getpid() != self.process:
            return "an OpenGL context does not survive a fork"
        return self.failure

    def _try(self) -> str:
        if "PYOPENGL_PLATFORM" not in os.environ:  # OpenGL reads it at its first import
            for platform, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")):
                try:
                    ctypes.CDLL(library)
                except OSError:
                    continue
                os.environ["PYOPENGL_PLATFORM"] = platform
                break
            else:
                return "neither libEGL.so.1 nor libOSMesa.so.8 is installed"
        try:
            import pyrender

            self.renderer = pyrender.OffscreenRenderer(64, 64)
        except Exception as error:  # ImportError, AttributeError, GLError, AssertionError, ...
            return self._in_words(error)
        self.process = os.getpid()
        atexit.register(self.close)  # while the OpenGL modules still are whole
        return ""

    @staticmethod
    def _in_words(error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError):
            return f"the package {error.name} is not installed"
        lines = str(error).strip().splitlines() or ["no reason given"]
        platform = os.environ.get("PYOPENGL_PLATFORM")
        return f"OpenGL fails on PYOPENGL_PLATFORM={platform} ({type(error).__name__}: {lines[0]})"

    def give_up(self, error: BaseException) -> str:
        """Stop drawing through OpenGL. -> why, in words."""
        self.failure = self._in_words(error)
        self.close()
        return self.failure

    def close(self) -> None:
        """Free the context; for good."""
        if self.renderer is None or os.getpid() != self.process:  # a forked child: not its own
            return
        renderer, self.renderer = self.renderer, None
        with contextlib.suppress(Exception):  # the process ends or the driver broke
            renderer.delete()

    def draw(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        colors: np.ndarray,
        camera: Camera4,
        size: Any,
    ) -> Drawn:
        """One picture; raises whatever the driver raises."""
        import cv2
        import pyrender

        width, height = size
        near = max(MIN_DEPTH, 0.9 * float(vertices[:, 2].min()))
        far = max(1.1 * float(vertices[:, 2].max()), 2 * near)
        material = pyrender.MetallicRoughnessMaterial(doubleSided=True)
        upright = vertices * np.array([1, -1, -1], np.float32)  # OpenGL: y up, z backward
        part = pyrender.Primitive(upright, color_0=colors, indices=faces, material=material, mode=4)
        scene = pyrender.Scene()
        scene.add(pyrender.Mesh([part]))
        scene.add(pyrender.IntrinsicsCamera(*camera, znear=near, zfar=far))
        self.renderer.viewport_width, self.renderer.viewport_height = width, height
        flat = pyrender.RenderFlags.FLAT
        # OpenGL mixes its samples of a pixel with the background. Over black and over white the
        # mixtures tell the coverage; alpha would too, but OSMesa has none.
        scene.bg_color = np.zeros(4)
        black, depth = self.renderer.render(scene, flat)
        scene.bg_color = np.ones(4)
        white = self.renderer.render(scene, flat)[0]
        gap = (white.astype(np.float32) - black).mean(-1) / 255
        coverage = np.round(np.clip(1 - gap, 0, 1) * 4).astype(np.float32) / 4
        depth = np.where(depth > 0, depth, np.inf).astype(np.float32)
        # the depth is one sample's, which may miss the shape where another hits it
        nearest = cv2.erode(np.minimum(depth, 1e9), np.ones((3, 3), np.uint8))
        depth = np.where((coverage > 0) & np.isinf(depth), nearest, depth)
        depth[(coverage == 0) | (depth >= 1e9)] = np.inf
        coverage[np.isinf(depth)] = 0
        color = black.astype(np.float32) / 255 / np.maximum(coverage, 0.25)[..., None]
        return color, coverage, depth


OPENGL = OpenGL()
