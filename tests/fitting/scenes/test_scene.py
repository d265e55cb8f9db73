"""Scenes from folders: three layouts, what is missing in them, and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowfit.fitting.scenes.layouts import find_files, natural
from flowfit.fitting.scenes.match_people import people_of
from flowfit.fitting.scenes.scene import read_scene
from flowfit.models.errors import InputError
from tests.fitting.scenes.test_camera_files import camera

SIZE = (640, 480)


def triples(seed: int = 0, count: int = 25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    place = rng.uniform(100, 400, (count, 2))
    return np.concatenate((place, rng.uniform(0.3, 1, (count, 1))), -1).round(3)


def openpose(*people: np.ndarray, ids: Sequence[int] | None = None) -> str:
    entries = [
        {"person_id": [-1 if ids is None else ids[n]], "pose_keypoints_2d": p.ravel().tolist()}
        for n, p in enumerate(people)
    ]
    return json.dumps({"version": 1.3, "people": entries})


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cameras(folder: Path, *names: str, **changes: Any) -> None:
    entries = {name: camera(0.5 * n, **changes) for n, name in enumerate(names)}
    put(folder / "cameras.json", json.dumps({"cameras": entries}))


def refused(folder: Path, **how: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_scene(folder, **how)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 300
    return line


def layouts(folder: Path) -> dict[str, Path]:
    """The same two views, frames 9 and 10, one person, in every layout."""
    for frame in ("9", "10"):
        for n, view in enumerate(("a", "b")):
            text = openpose(triples(n), ids=[3])
            put(folder / "keypoints" / "keypoints" / frame / f"{view}_keypoints.json", text)
            put(folder / "openpose" / "openpose" / view / f"{frame}_keypoints.json", text)
            put(folder / "plain" / view / f"{frame}_keypoints.json", text)
            annots = {
                "width": SIZE[0],
                "height": SIZE[1],
                "annots": [{"personID": 3, "keypoints": triples(n).tolist(), "bbox": [0] * 5}],
            }
            put(folder / "annots" / "annots" / view / f"{frame}.json", json.dumps(annots))
    return {name: folder / name for name in ("keypoints", "openpose", "plain", "annots")}


@pytest.mark.parametrize("layout", ["keypoints", "openpose", "plain", "annots"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_layouts(tmp_path: Path, layout: str, calibrated: bool) -> None:
    folder = layouts(tmp_path)[layout]
    if calibrated:
        cameras(folder, "b", "a", "unused")
    size = None if calibrated or layout == "annots" else SIZE
    scene = read_scene(folder, image_size=size)
    assert find_files(folder).layout == layout
    assert scene.frames == ("9", "10")
    assert scene.views == ("a", "b")
    assert scene.sizes == (SIZE, SIZE)
    assert (scene.cameras is not None) == calibrated
    for frame in scene.frames:
        for n, view in enumerate(scene.views):
            found = scene.people[frame, view]
            assert found.person_ids == (3,)
            np.testing.assert_allclose(found.keypoints[0], triples(n)[:, :2])
            np.testing.assert_allclose(found.confidence[0], triples(n)[:, 2])
    if calibrated:  # in the views' order, not the file's
        assert scene.cameras is not None
        np.testing.assert_allclose(scene.cameras.rig.rotations[1], camera(0.0)["R"], atol=1e-9)
        assert scene.lens.focal.tolist() == [[700, 690]] * 2
        assert not scene.notes
    else:
        assert scene.lens.focal.tolist() == [[800, 800]] * 2
        assert "the picture's diagonal (assumed)" in scene.notes[-1]
    (seen,) = people_of(scene, "10")
    assert (seen.number, dict(seen.rows)) == (3, {"a": 0, "b": 0})


def test_frames_of_films_are_told_by_number(tmp_path: Path) -> None:
    for view, film in (("a", "left"), ("b", "right")):
        for frame in (0, 1):
            name = f"{film}_{frame:012d}_keypoints.json"
            put(tmp_path / view / name, openpose(triples()))
    scene = read_scene(tmp_path, image_size=SIZE)
    assert scene.frames == ("000000000000", "000000000001")


def test_pictures_say_the_size(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["openpose"]
    for view, size in (("a", (640, 480)), ("b", (500, 400))):
        (folder / "images" / view).mkdir(parents=True)
        Image.new("RGB", size).save(folder / "images" / view / "9.jpg")
    scene = read_scene(folder, focal=900)
    assert scene.sizes == ((640, 480), (500, 400))
    assert scene.pictures["9", "b"].name == "9.jpg"
    assert scene.lens.center.tolist() == [[320, 240], [250, 200]]
    assert scene.lens.focal.tolist() == [[900, 900]] * 2


def test_natural_order() -> None:
    names = ["frame_10", "frame_9", "cam2", "cam11", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "cam2", "cam11", "frame_9", "frame_10"]


def test_frames_and_views_are_chosen(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    put(folder / "c" / "9_keypoints.json", openpose(triples()))
    assert read_scene(folder, image_size=SIZE, frames=["10"]).frames == ("10",)
    assert read_scene(folder, image_size=SIZE, frames=["0:1"]).frames == ("9",)
    assert read_scene(folder, image_size=SIZE, views=["c", "a"]).views == ("c", "a")
    assert "no frame 7; there are 9, 10" in refused(folder, frames=["7"])
    assert "no frame in 5:9; there are 2" in refused(folder, frames=["5:9"])
    assert "START:END" in refused(folder, frames=["a:b"])
    assert "no view d; there are a, b, c" in refused(folder, views=["a", "d"])
    assert "has one view" in refused(folder, views=["a"])


# --- what is missing ---


def test_frames_that_do_not_match(tmp_path: Path) -> None:
    put(tmp_path / "a" / "0001_keypoints.json", openpose(triples()))
    put(tmp_path / "b" / "1_keypoints.json", openpose(triples()))
    line = refused(tmp_path, image_size=SIZE)
    assert "no frame is in two views: a has 0001; b has 1" in line
    put(tmp_path / "b" / "0001_keypoints.json", openpose(triples()))
    scene = read_scene(tmp_path, image_size=SIZE)
    assert scene.frames == ("0001",)
    assert "frames in fewer than 2 views, left out: 1" in scene.notes


def test_a_view_without_a_frame_is_noted(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    put(folder / "c" / "9_keypoints.json", openpose(triples()))
    scene = read_scene(folder, image_size=SIZE)
    assert ("10", "c") not in scene.people
    assert "view c lacks frames 10; fitted without it there" in scene.notes


def test_a_camera_file_without_a_view(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    cameras(folder, "a", "other")
    line = refused(folder)
    assert "cameras.json: has no camera for view b; it has a, other" in line
    put(folder / "c" / "9_keypoints.json", openpose(triples()))
    put(folder / "other" / "9_keypoints.json", openpose(triples()))
    assert read_scene(folder, views=["a", "other"]).cameras is not None


def test_one_bad_file_among_good_ones_is_noted(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    put(folder / "b" / "9_keypoints.json", openpose(np.zeros((25, 3))))
    scene = read_scene(folder, image_size=SIZE)
    assert ("9", "b") not in scene.people
    assert any("no keypoint was seen" in note for note in scene.notes)
    put(folder / "b" / "9_keypoints.json", "{")
    assert "not valid JSON" in refused(folder, image_size=SIZE)


def test_nobody_at_all(tmp_path: Path) -> None:
    for view in ("a", "b"):
        put(tmp_path / view / "1_keypoints.json", openpose())
    assert "nobody was seen" in refused(tmp_path, image_size=SIZE)
    for view in ("a", "b"):
        put(tmp_path / view / "1_keypoints.json", openpose(np.zeros((25, 3))))
    assert "no keypoint was seen" in refused(tmp_path, image_size=SIZE)


def test_no_scene(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none")
    assert "no keypoints in it" in refused(tmp_path)


def test_size_and_focal(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    assert "give --image-size W H" in refused(folder)
    assert "both must be positive" in refused(folder, image_size=(0, 480))
    assert "give pixels" in refused(folder, image_size=SIZE, focal=0.035)


def test_different_detectors(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1_keypoints.json", openpose(triples()))
    put(tmp_path / "b" / "1_keypoints.json", openpose(triples(count=17)))
    assert "different keypoints: body25, coco17" in refused(tmp_path, image_size=SIZE)


def test_cameras_without_a_size(tmp_path: Path) -> None:
    folder = layouts(tmp_path)["plain"]
    cameras(folder, "a", "b", width=None)
    scene = read_scene(folder)
    assert scene.sizes == ((642, 481), (642, 481))
    assert "twice the centre" in scene.notes[0]
    assert read_scene(folder, image_size=SIZE).sizes == (SIZE, SIZE)
