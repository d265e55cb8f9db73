"""Both engines draw what geometry says, and the same."""

import os
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from trimesh.creation import icosphere

from flowfit.fitting.drawing.render import (
    Shape,
    available_engine,
    lit_colors,
    render,
    vertex_normals,
)
from flowfit.models.errors import InputError

WORKING = available_engine()[0]
ENGINES = [
    pytest.param("pyrender", marks=pytest.mark.skipif(WORKING != "pyrender", reason="no OpenGL")),
    "raycast",
]
CAMERA = {"width": 200, "height": 160, "focal": (300.0, 300.0), "center": (100.0, 80.0)}
RED, BLUE = (1.0, 0.2, 0.2), (0.2, 0.2, 1.0)


def sphere(center, radius=0.2, color=RED):
    mesh = icosphere(subdivisions=4, radius=radius)
    return Shape(mesh.vertices + np.array(center), mesh.faces, color)


def open_body(offset=(0.0, -0.35, 3.0), color=(0.6, 0.8, 0.7)):
    with np.load(str(files("flowfit.models") / "data" / "open_body_low.npz")) as data:
        vertices = data["v_template"] * np.array([1, -1, -1]) + np.array(offset)
        return Shape(vertices, data["f"], color)


@pytest.mark.parametrize("engine", ENGINES)
def test_sphere_lies_where_the_camera_projects_it(engine):
    seen = render([sphere((0.25, -0.1, 2.0))], engine=engine, **CAMERA)
    rows, columns = np.nonzero(seen.coverage > 0.5)
    # 100 + 300 * 0.25 / 2 = 137.5; the outline of a sphere is a little larger than r f / z
    assert columns.mean() + 0.5 == pytest.approx(137.5 + 0.4, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(65.0, abs=0.5)
    assert np.sqrt(seen.coverage.sum() / np.pi) == pytest.approx(300 * 0.2 / 2, rel=0.02)
    assert seen.depth[65, 137] == pytest.approx(1.8, abs=0.01)
    assert np.isinf(seen.depth[seen.coverage == 0]).all()
    assert np.isfinite(seen.depth[seen.coverage > 0]).all()
    assert not seen.color[seen.coverage == 0].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_triangle_covers_its_pixels_exactly(engine):
    # in pixels: corners (40, 20), (40, 100), (120, 100), at two metres
    pixels = np.array([[40, 20], [40, 100], [120, 100]]) - np.array([100, 80])
    vertices = np.column_stack((pixels * 2 / 300, np.full(3, 2.0)))
    seen = render([Shape(vertices, [[0, 1, 2]], RED)], engine=engine, **CAMERA)
    assert seen.coverage.sum() == pytest.approx(80 * 80 / 2, rel=0.005)
    full = np.argwhere(seen.coverage == 1)
    assert full.min(0).tolist() == [21, 40]
    assert full.max(0).tolist() == [99, 118]
    assert 0.25 < seen.coverage[50, 70] < 0.75  # on the slanting edge
    np.testing.assert_allclose(seen.depth[seen.coverage > 0], 2, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("turned", [False, True])
def test_nearer_hides_farther_in_any_order(engine, turned):
    shapes = [sphere((0, 0, 2), color=RED), sphere((0.05, 0, 3), 0.5, BLUE)]
    seen = render(shapes[::-1] if turned else shapes, engine=engine, **CAMERA)
    red, _, blue = seen.color[80, 100].astype(int)
    assert red > 2 * blue
    assert seen.depth[80, 100] == pytest.approx(1.8, abs=0.01)
    red, _, blue = seen.color[80, 145].astype(int)
    assert blue > 2 * red
    assert seen.depth[80, 145] > 2.4


@pytest.mark.parametrize("engine", ENGINES)
def test_colors_of_vertices(engine):
    ball = sphere((0, 0, 2))
    color = np.where(ball.vertices[:, :1] < 0, RED, BLUE)
    seen = render([Shape(ball.vertices, ball.faces, color)], engine=engine, **CAMERA)
    left, right = seen.color[80, 85].astype(int), seen.color[80, 115].astype(int)
    assert left[0] > 2 * left[2]
    assert right[2] > 2 * right[0]


@pytest.mark.skipif(WORKING != "pyrender", reason="no OpenGL")
@pytest.mark.parametrize("two", [False, True])
def test_engines_agree_on_the_body(two):
    shapes = [open_body()] + [open_body((0.4, -0.3, 3.5), (0.9, 0.7, 0.5))] * two
    camera = {"width": 420, "height": 400, "focal": (560, 540), "center": (200, 190)}
    one, other = (render(shapes, engine=e, **camera) for e in ("pyrender", "raycast"))
    inside, any_of = one.coverage > 0.5, one.coverage > 0.5
    inside, any_of = inside & (other.coverage > 0.5), any_of | (other.coverage > 0.5)
    assert inside.sum() / any_of.sum() > 0.99
    assert np.abs(one.coverage - other.coverage).mean() < 0.002
    difference = np.abs(one.color.astype(int) - other.color)[inside]
    assert difference.mean() < 1
    assert np.median(np.abs(one.depth[inside] - other.depth[inside])) < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_mesh_partly_behind_the_camera(engine):
    # a floor one metre below the camera, from behind it to ten metres ahead: horizon at row 80
    corners = np.array([[-20, 1, -2], [20, 1, -2], [20, 1, 10], [-20, 1, 10]], float)
    floor = Shape(corners, [[0, 1, 2], [0, 2, 3]], RED)
    seen = render([floor], engine=engine, **CAMERA)
    first = 80 + 300 / 10
    assert (seen.coverage[int(first) + 1 :] == 1).all()
    assert not seen.coverage[: int(first) - 1].any()
    assert seen.depth[150, 100] == pytest.approx(300 / 70.5, rel=0.01)  # within the pixel


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", [(5, 0, 2), (0, -9, 2), (0, 0, -3), None])
def test_nothing_in_the_picture(engine, place):
    seen = render([] if place is None else [sphere(place)], engine=engine, **CAMERA)
    assert seen.color.shape == (160, 200, 3)
    assert not seen.coverage.any()
    assert np.isinf(seen.depth).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles_join_without_a_seam(engine, monkeypatch):
    whole = render([open_body()], engine=engine, **CAMERA)
    monkeypatch.setattr("flowfit.fitting.drawing.render._TILE", 37)
    tiled = render([open_body()], engine=engine, **CAMERA)
    inside = np.minimum(whole.coverage, tiled.coverage) > 0
    assert np.abs(whole.coverage - tiled.coverage).mean() < 1e-3
    assert np.abs(whole.color.astype(int) - tiled.color)[inside].mean() < 0.5


def test_light_models_the_form():
    ball = sphere((0, 0, 2), color=(0.7, 0.7, 0.7))
    np.testing.assert_allclose(
        vertex_normals(ball.vertices, ball.faces), (ball.vertices - [0, 0, 2]) / 0.2, atol=0.01
    )
    bright = lit_colors(ball).mean(-1)
    x, y, z = (ball.vertices - np.array([0, 0, 2])).T / 0.2
    upper_left = bright[(x < -0.4) & (y < -0.4) & (z < 0)].mean()
    lower_right = bright[(x > 0.4) & (y > 0.4) & (z < 0)].mean()
    assert upper_left > 1.3 * lower_right > 0.3


@pytest.mark.parametrize(
    "arrays",
    [
        (np.zeros((3, 2)), [[0, 1, 2]], RED),
        (np.full((3, 3), np.nan), [[0, 1, 2]], RED),
        (np.zeros((3, 3)), [[0, 1, 3]], RED),
        (np.zeros((3, 3)), [0, 1, 2], RED),
        (np.zeros((3, 3)), [[0, 1, 2]], [RED, BLUE]),
    ],
)
def test_shape_refuses_arrays_that_do_not_fit(arrays):
    with pytest.raises(ValueError, match=r"vertices|faces|color"):
        Shape(*arrays)


def test_unknown_engine():
    with pytest.raises(InputError, match="give one of auto, pyrender, raycast"):
        render([], engine="povray", **CAMERA)


SCRIPT = """
import numpy as np
from flowfit.fitting.drawing.render import Shape, available_engine, render
from flowfit.models.errors import InputError
{before}
shape = Shape(np.array([[-1, 1, 2], [1, 1, 2], [0, -1, 2.0]]), [[0, 2, 1]], (1, 0, 0))
camera = dict(width=64, height=64, focal=(60, 60), center=(32, 32))
name, reason = available_engine()
print(name, reason, sep=chr(10))
print(render([shape], **camera).coverage.sum() > 500)
try:
    render([shape], engine="pyrender", **camera)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("platform", "before", "reason"),
    [
        ("nonsense", "", "PYOPENGL_PLATFORM=nonsense"),
        (
            None,
            "import ctypes; ctypes.CDLL = lambda name: (_ for _ in ()).throw(OSError(name))",
            "neither libEGL.so.1 nor libOSMesa.so.8 is installed",
        ),
        (None, "import sys; sys.modules['pyrender'] = None", "pyrender"),
    ],
)
def test_without_opengl_rays_draw(platform, before, reason):
    environment = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    if platform:
        environment["PYOPENGL_PLATFORM"] = platform
    script = SCRIPT.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    name, why, drew, refusal = done.stdout.strip().splitlines()
    assert (name, drew) == ("raycast", "True")
    assert reason in why
    assert refusal.startswith("pyrender cannot draw here")
    assert reason in refusal
    assert "Traceback" not in done.stderr


def test_a_context_that_breaks_later_is_given_up(monkeypatch):
    from flowfit.fitting.drawing import render as module
    from flowfit.fitting.drawing.engines import OpenGL

    engine = OpenGL()
    engine.failure, engine.process = "", os.getpid()
    monkeypatch.setattr(engine, "draw", lambda *_: 1 / 0)
    monkeypatch.setattr(module, "OPENGL", engine)
    assert render([sphere((0, 0, 2))], **CAMERA).coverage.any()
    assert available_engine()[0] == "raycast"
    with pytest.raises(InputError, match="pyrender cannot draw here"):
        render([sphere((0, 0, 2))], engine="pyrender", **CAMERA)
