"""Cameras from files: both layouts, and what cannot be a camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flowfit.fitting.scenes.camera_files import find_cameras, read_cameras_json, write_cameras_json
from flowfit.models.errors import InputError
from flowfit.models.rotations import axis_angle_to_matrix


def camera(turn: float = 0.3, **changes: Any) -> dict[str, Any]:
    """A camera as cameras.json has it."""
    rotation = axis_angle_to_matrix(torch.tensor([0.1, turn, -0.2], dtype=torch.float64))
    return {
        "K": [[700.0, 0, 321.0], [0, 690.0, 240.5], [0, 0, 1]],
        "R": rotation.tolist(),
        "t": [0.5, -1.0, 4.0],
        "dist": [-0.1, 0.02, 0.001, -0.002, 0.003],
        "width": 640,
        "height": 480,
    } | changes


def write(path: Path, **cameras: Any) -> Path:
    path.write_text(json.dumps({"cameras": cameras, "world_up": [0, 0, 2]}))
    return path


def refused(folder: Path, **changes: Any) -> str:
    """The error line for a camera with something changed."""
    broken = camera(**changes)
    for key, value in changes.items():
        if value is None:
            del broken[key]
    path = write(folder / "cameras.json", good=camera(), bad=broken)
    with pytest.raises(InputError) as caught:
        read_cameras_json(path)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 300
    assert "cameras.json: camera bad: " in line
    return line


def test_cameras_json(tmp_path: Path) -> None:
    found = read_cameras_json(write(tmp_path / "cameras.json", a=camera(), b=camera(1.0, dist=[])))
    assert found.names == ("a", "b")
    assert found.sizes == ((640, 480), (640, 480))
    assert found.world_up is not None
    assert found.world_up.tolist() == [0, 0, 1]
    assert found.camera.focal.tolist() == [[700, 690]] * 2
    assert found.camera.center.tolist() == [[321, 240.5]] * 2
    assert found.camera.distortion is not None
    assert found.camera.distortion.tolist() == [camera()["dist"], [0] * 5]
    np.testing.assert_allclose(found.rig.rotations[1], camera(1.0)["R"], atol=1e-12)
    assert found.rig.translations.tolist() == [[0.5, -1.0, 4.0]] * 2


def test_a_written_file_is_read_again(tmp_path: Path) -> None:
    one = read_cameras_json(write(tmp_path / "cameras.json", a=camera(), b=camera(2.0)))
    write_cameras_json(tmp_path / "again.json", one, {"note": "more"})
    again = read_cameras_json(tmp_path / "again.json")
    assert (again.names, again.sizes) == (one.names, one.sizes)
    for old, new in ((one.camera.focal, again.camera.focal), (one.rig, again.rig)):
        for a, b in zip(old, new, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.camera.distortion, again.camera.distortion)
    assert json.loads((tmp_path / "again.json").read_text())["note"] == "more"


def test_opencv_projects_the_same(tmp_path: Path) -> None:
    """The whole chain from the file to pixels, against OpenCV's own."""
    found = read_cameras_json(write(tmp_path / "cameras.json", a=camera()))
    points = np.random.default_rng(0).normal(size=(20, 3)) * 0.5
    one = camera()
    wanted, _ = cv2.projectPoints(
        points, cv2.Rodrigues(np.array(one["R"]))[0], np.array(one["t"]),
        np.array(one["K"]), np.array(one["dist"]),
    )  # fmt: skip
    inside = found.rig.to_cameras(torch.from_numpy(points))[0]
    pixels, in_front = found.camera.rows(torch.tensor([0])).project(inside)
    assert in_front.all()
    np.testing.assert_allclose(pixels.reshape(-1, 2), wanted[:, 0], atol=1e-6)


def test_easymocap_rodrigues_and_matrices(tmp_path: Path) -> None:
    inside = cv2.FileStorage(str(tmp_path / "intri.yml"), cv2.FILE_STORAGE_WRITE)
    outside = cv2.FileStorage(str(tmp_path / "extri.yml"), cv2.FILE_STORAGE_WRITE)
    entries = {"1": camera(), "2": camera(1.2)}
    for storage in (inside, outside):
        storage.startWriteStruct("names", cv2.FileNode_SEQ)
        for name in entries:
            storage.write("", name)
        storage.endWriteStruct()
    for name, entry in entries.items():
        inside.write(f"K_{name}", np.array(entry["K"]))
        inside.write(f"dist_{name}", np.array([entry["dist"]]))
        rotation = np.array(entry["R"])
        if name == "1":
            outside.write(f"Rot_{name}", rotation)
        outside.write(f"R_{name}", cv2.Rodrigues(rotation)[0])
        outside.write(f"T_{name}", np.array(entry["t"])[:, None])
    inside.write("H_2", 480)
    inside.write("W_2", 640)
    inside.release()
    outside.release()
    found = find_cameras(tmp_path)
    assert found is not None
    cameras, path = found
    assert path.name == "extri.yml"
    assert cameras.names == ("1", "2")
    assert cameras.sizes == (None, (640, 480))
    assert cameras.world_up is None
    for row, entry in enumerate(entries.values()):
        np.testing.assert_allclose(cameras.rig.rotations[row], entry["R"], atol=1e-12)
        np.testing.assert_allclose(cameras.rig.translations[row], entry["t"])
        assert cameras.camera.distortion is not None
        np.testing.assert_allclose(cameras.camera.distortion[row], entry["dist"])


def test_easymocap_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "intri.yml").write_text("K_1: [1, 2")
    with pytest.raises(InputError, match=r"extri\.yml: is missing beside"):
        find_cameras(tmp_path)
    (tmp_path / "extri.yml").write_text('%YAML:1.0\n---\nnames:\n   - "1"\n')
    with pytest.raises(InputError, match=r"intri\.yml: is not OpenCV's YAML"):
        find_cameras(tmp_path)
    (tmp_path / "intri.yml").write_text('%YAML:1.0\n---\nnames:\n   - "1"\n')
    with pytest.raises(InputError, match="camera 1 has neither Rot_1 nor R_1"):
        find_cameras(tmp_path)


def test_no_cameras(tmp_path: Path) -> None:
    assert find_cameras(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"K": [[700, 0, 320], [0, 0, 240], [0, 0, 1]]}, "K is singular"),
        ({"K": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]}, "K must be"),
        ({"K": [[700, 0, 0], [0, 700, 0], [320, 240, 1]]}, "transposed"),
        ({"K": [[700, 9, 320], [0, 700, 240], [0, 0, 1]]}, "skew of 9"),
        ({"K": [[700, 0, 320], [0, 700, 240]]}, "it needs 3 x 3"),
        ({"K": None}, "has no K"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "left-handed"),
        ({"R": [[1, 0, 0], [0, 1, 0.2], [0, 0, 1]]}, "not orthogonal"),
        ({"R": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}, "not orthogonal"),
        ({"R": [[1, 0, 0], [0, float("nan"), 0], [0, 0, 1]]}, "NaN"),
        ({"R": "upright"}, "not made of numbers"),
        ({"t": [1, 2]}, "t has 2 numbers; it needs 3"),
        ({"t": [1, 2, float("inf")]}, "infinite"),
        ({"dist": [0.1] * 8}, "dist has 8 numbers"),
        ({"width": 0}, "must be positive"),
    ],
)
def test_what_cannot_be_a_camera(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    assert text in refused(tmp_path, **changes)


def test_rounded_rotations_are_made_exact(tmp_path: Path) -> None:
    rounded = [[round(v, 3) for v in row] for row in camera()["R"]]
    found = read_cameras_json(write(tmp_path / "cameras.json", a=camera(R=rounded)))
    turn = found.rig.rotations[0]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", 'no object "cameras"'),
        ('{"cameras": {}}', "is empty"),
        ('{"cameras": {"a": 3}}', "camera a is a number"),
        ('{"unit": "mm", "cameras": {"a": {}}}', "its unit is 'mm'"),
        ("[", "not valid JSON"),
    ],
)
def test_not_a_camera_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(InputError, match=words):
        find_cameras(tmp_path)


def test_a_missing_view(tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.json", a=camera(), b=camera(1.0))
    cameras = read_cameras_json(path)
    assert cameras.take(["b"], path).rig.rotations.shape == (1, 3, 3)
    with pytest.raises(InputError, match=r"has no camera for view c; it has a, b\. Add it"):
        cameras.take(["a", "c"], path)


def test_the_real_ones(shared: Path) -> None:
    """Every camera of the development data is read, with its lens."""
    for folder in sorted((shared / "inputs" / "multiview").iterdir()):
        found = find_cameras(folder)
        assert found is not None
        content = json.loads((folder / "cameras.json").read_text())["cameras"]
        assert list(found[0].names) == list(content)
        assert (found[0].camera.distortion is not None) == ("panoptic" in folder.name)
