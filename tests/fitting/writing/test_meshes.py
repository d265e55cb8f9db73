"""Mesh files hold the mesh, and are there whole or not at all."""

import time

import numpy as np
import pytest
import trimesh

from flowfit.fitting.writing.meshes import FORMATS, write_mesh
from flowfit.models.errors import InputError
from tests.fitting.drawing.test_render import open_body, sphere

COLOR = (0.5, 0.8, 0.25)
ENDINGS = [f".{name}" for name in FORMATS]


def load(path):
    loaded = trimesh.load(path, process=False)
    return loaded if isinstance(loaded, trimesh.Trimesh) else next(iter(loaded.geometry.values()))


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_turns_to_y_up(tmp_path, ending):
    body = open_body()
    path = tmp_path / f"body{ending}"
    write_mesh(path, body.vertices, body.faces, COLOR)
    mesh = load(path)
    np.testing.assert_allclose(mesh.vertices, body.vertices * [1, -1, -1], atol=1e-6)
    assert (mesh.faces == body.faces).all()
    assert mesh.volume > 0  # faces still look outwards
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_normals_are_smooth_and_outward(tmp_path, ending):
    ball = sphere((0, 0, 2))
    write_mesh(tmp_path / f"ball{ending}", ball.vertices, ball.faces)
    mesh = load(tmp_path / f"ball{ending}")
    assert "vertex_normals" in mesh._cache  # read from the file, not made by trimesh
    outward = mesh.vertices - [0, 0, -2]
    np.testing.assert_allclose(mesh.vertex_normals, outward / 0.2, atol=0.02)


def test_glb_has_a_dull_material_in_linear_light(tmp_path):
    ball = sphere((0, 0, 2))
    write_mesh(tmp_path / "ball.glb", ball.vertices, ball.faces, COLOR)
    material = load(tmp_path / "ball.glb").visual.material
    linear = [0.2140, 0.6038, 0.0509]
    np.testing.assert_allclose(np.array(material.baseColorFactor)[:3] / 255, linear, atol=0.003)
    assert material.metallicFactor == 0
    assert material.roughnessFactor > 0.4


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("per_vertex", [False, True])
def test_colors(tmp_path, ending, per_vertex):
    ball = sphere((0, 0, 2))
    color = np.where(ball.vertices[:, :1] < 0, [1.0, 0, 0], [0, 0, 1.0]) if per_vertex else COLOR
    write_mesh(tmp_path / f"ball{ending}", ball.vertices, ball.faces, color)
    visual = load(tmp_path / f"ball{ending}").visual
    if ending == ".glb" and not per_vertex:
        return  # a material, see above
    expected = np.broadcast_to(np.asarray(color) * 255, (len(ball.vertices), 3))
    np.testing.assert_allclose(visual.vertex_colors[:, :3], expected, atol=1)


def test_fast_enough_for_the_fine_body(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=5)  # 10,242 vertices
    write_mesh(tmp_path / "warm.obj", ball.vertices, ball.faces)
    for ending in ENDINGS:
        start = time.perf_counter()
        write_mesh(tmp_path / f"ball{ending}", ball.vertices, ball.faces)
        assert time.perf_counter() - start < 1.5  # 0.1 s where nothing else runs


def one_line(caught):
    text = str(caught.value)
    return "\n" not in text and text.startswith("cannot write")


@pytest.mark.parametrize("name", ["body.stl", "body", "body.obj.gz"])
def test_unknown_format(tmp_path, name):
    ball = sphere((0, 0, 2))
    with pytest.raises(InputError, match=r"\.obj, \.glb, \.ply") as caught:
        write_mesh(tmp_path / name, ball.vertices, ball.faces)
    assert one_line(caught)


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_folder_that_is_none(tmp_path, folder):
    (tmp_path / "file").write_text("I am no folder")
    ball = sphere((0, 0, 2))
    with pytest.raises(InputError) as caught:
        write_mesh(tmp_path / folder / "body.glb", ball.vertices, ball.faces)
    assert one_line(caught)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
