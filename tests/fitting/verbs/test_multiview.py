"""The verb `multiview` on the scene that the examples make: files, truth, bad input."""

from __future__ import annotations

import json
import math
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowfit.fitting.cli.main import main
from flowfit.fitting.drawing.overlay import FIT
from flowfit.fitting.drawing.render import Shape
from flowfit.fitting.drawing.scene import Stand, bent, in_camera, outside_view
from flowfit.fitting.scenes.camera_files import read_cameras_json
from flowfit.fitting.scenes.match_people import people_of
from flowfit.fitting.scenes.scene import read_scene
from flowfit.fitting.verbs.multiview import multiview
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix

MAKER = Path(__file__).parents[3] / "examples" / "make_scene.py"
VIEWS = ("cam0", "cam1", "cam2", "cam3")
FAST: dict[str, Any] = {"body": "open-low", "draw": False}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, one frame, four views, no ids, no pictures."""
    folder = tmp_path_factory.mktemp("made") / "scene"
    make = runpy.run_path(str(MAKER))["make_scene"]
    make(folder, people=2, frames=1, body="open-low", pictures=False)
    return folder


@pytest.fixture
def scene(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "scene"))


@pytest.fixture(scope="session")
def done(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results for it, with pictures and meshes."""
    out = tmp_path_factory.mktemp("done") / "deep" / "out"
    multiview(made, out, body="open-low", meshes=("obj",))
    return out


def change(path: Path, how: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def keypoints(scene: Path, view: str) -> Path:
    return scene / "keypoints" / "frame_000" / f"{view}_keypoints.json"


def true_joints(scene: Path) -> np.ndarray:
    people = json.loads((scene / "truth.json").read_text())["frame_000"]
    return np.array([person["joints3d_world"] for person in people])


def far_from_truth(scene: Path, joints: np.ndarray) -> float:
    """Mean distance from the nearer of the true people, metres."""
    return float(np.linalg.norm(joints - true_joints(scene), axis=-1).mean(-1).min())


def test_the_scene_is_the_same_every_time(made: Path, tmp_path: Path) -> None:
    make = runpy.run_path(str(MAKER))["make_scene"]
    make(tmp_path, people=2, frames=1, body="open-low", pictures=False)
    for path in made.rglob("*.json"):
        assert path.read_text() == (tmp_path / path.relative_to(made)).read_text()


def test_files(done: Path) -> None:
    names = {"frame_000.json", "frame_000_3d.png", "summary.json"}
    names |= {f"frame_000_{view}_overlay.png" for view in VIEWS}
    names |= {f"frame_000_p{n}.{end}" for n in (0, 1) for end in ("npz", "json", "obj")}
    assert {path.name for path in done.iterdir()} == names
    with Image.open(done / "frame_000_cam2_overlay.png") as picture:
        assert picture.size == (640, 480)
    report = json.loads((done / "frame_000_p0.json").read_text())
    assert report["status"] == "converged"
    assert report["calibrated"] is True
    assert list(report["views"]) == list(VIEWS)
    assert all(0 < view["reprojection_px"] < 8 for view in report["views"].values())
    assert 0 < report["triangulation_px"] < 8
    frame = json.loads((done / "frame_000.json").read_text())
    assert set(frame["files"]) | {"frame_000.json", "summary.json"} == names
    assert frame["settings"]["cameras"] == "given"


def test_the_truth_is_met(made: Path, done: Path) -> None:
    for n in (0, 1):
        with np.load(done / f"frame_000_p{n}.npz", allow_pickle=False) as saved:
            assert far_from_truth(made, saved["joints3d_world"]) < 0.04


def test_npz_holds_the_same_body_in_world_and_cameras(made: Path, done: Path, body: Body) -> None:
    cameras = read_cameras_json(made / "cameras.json")
    with np.load(done / "frame_000_p1.npz", allow_pickle=False) as saved:
        data = {key: torch.from_numpy(saved[key]) for key in saved.files
                if saved[key].dtype.kind in "fi"}  # fmt: skip
        assert tuple(saved["view_names"]) == VIEWS
        assert tuple(saved["keypoint_names"]) == BODY25.names
    assert data["joints3d_world"].shape == (24, 3)
    assert data["keypoints3d_world"].shape == (25, 3)
    assert data["vertices_world"].shape == (body.num_vertices, 3)
    body = body.to(dtype=torch.float32)
    pose = axis_angle_to_matrix(data["body_pose"].reshape(23, 3))

    def joints(root: torch.Tensor, transl: torch.Tensor) -> torch.Tensor:
        rotations = torch.cat((axis_angle_to_matrix(root)[None], pose))
        return body.joints(data["betas"][None], rotations[None], transl[None])[0]

    world = joints(data["global_orient_world"], data["transl_world"])
    torch.testing.assert_close(world, data["joints3d_world"], atol=1e-4, rtol=0)
    inside = cameras.rig.to_cameras(data["joints3d_world"].double()).float()
    for view in range(len(VIEWS)):
        own = joints(data["global_orient"][view], data["transl"][view])
        torch.testing.assert_close(own, inside[view], atol=1e-4, rtol=0)
    torch.testing.assert_close(data["camera_rotation"], cameras.rig.rotations.float())
    points = cameras.rig.to_cameras(data["keypoints3d_world"].double())
    pixels = cameras.camera.project(points)[0].float()
    torch.testing.assert_close(pixels, data["keypoints2d"], atol=0.05, rtol=0)


def test_finished_frames_are_kept(made: Path, tmp_path: Path) -> None:
    how = {**FAST, "views": ["cam0", "cam2"]}
    first = multiview(made, tmp_path, person=0, **how)
    assert first.kept == ()
    assert len(first.people) == 1
    stamp = (tmp_path / "frame_000_p0.npz").stat().st_mtime_ns
    again = multiview(made, tmp_path, person=0, **how)
    assert again.kept == ("frame_000",)
    assert again.results == ()
    assert (tmp_path / "frame_000_p0.npz").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="was made with another person"):
        multiview(made, tmp_path, person=1, **how)
    (tmp_path / "frame_000_p0.npz").unlink()
    assert multiview(made, tmp_path, person=0, **how).kept == ()
    (tmp_path / "frame_000_p0.npz").write_bytes(b"")
    assert multiview(made, tmp_path, person=0, overwrite=True, **how).kept == ()


def test_uncalibrated(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no person 7 in these frames; there are 0, 1"):
        multiview(made, tmp_path / "none", person=7, **FAST)
    multiview(made, tmp_path, uncalibrated=True, match=True, person=0, **FAST)
    report = json.loads((tmp_path / "frame_000_p0.json").read_text())
    assert report["calibrated"] is False
    assert report["world"] == "the frame of camera cam0, up is about -y"
    with np.load(tmp_path / "frame_000_p0.npz") as saved:
        np.testing.assert_allclose(saved["camera_rotation"][0], np.eye(3), atol=1e-5)
        np.testing.assert_allclose(saved["camera_translation"][0], 0, atol=1e-5)
        np.testing.assert_allclose(saved["transl"][0], saved["transl_world"], atol=1e-5)
        bones = np.linalg.norm(saved["joints3d_world"][1:] - saved["joints3d_world"][:1], axis=-1)
    true = true_joints(made)
    wanted = np.linalg.norm(true[:, 1:] - true[:, :1], axis=-1)
    assert np.abs(bones - wanted).mean(-1).min() < 0.05  # up to where it stands, the same body


def test_estimated_cameras(made: Path, tmp_path: Path) -> None:
    """Relative to the first camera they lie where they were put, but for the body's size."""
    multiview(made, tmp_path, estimate_cameras=True, match=True, **FAST)
    true = read_cameras_json(made / "cameras.json").rig
    content = json.loads((tmp_path / "cameras.json").read_text())
    found = read_cameras_json(tmp_path / "cameras.json").rig
    first = list(VIEWS).index(content["reference"])
    for view, name in enumerate(VIEWS):
        turn = true.rotations[view] @ true.rotations[first].T
        cosine = ((turn * found.rotations[view]).sum() - 1) / 2
        assert torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))) < 6
        assert content["sd_degrees"][name] < 10
        assert content["sd_metres"][name] < 0.5
        there = true.rotations[first] @ (true.centres[view] - true.centres[first])
        assert (there - found.centres[view]).norm() < 0.5


def turn_camera(scene: Path, name: str, degrees: float, shift: float = 0.0) -> None:
    """Turn a camera of the file about its own y axis, and move it aside."""
    angle = torch.tensor([0.0, math.radians(degrees), 0.0], dtype=torch.float64)
    turn = axis_angle_to_matrix(angle).numpy()

    def spoil(content: Any) -> None:
        camera = content["cameras"][name]
        camera["R"] = (turn @ np.array(camera["R"])).tolist()
        camera["t"] = (turn @ np.array(camera["t"]) + (shift, 0, 0)).tolist()

    change(scene / "cameras.json", spoil)


def off(scene: Path, made: Path, name: str) -> tuple[float, float]:
    """Degrees and metres between a camera in two files."""
    row = VIEWS.index(name)
    one, two = (read_cameras_json(folder / "cameras.json").rig for folder in (scene, made))
    cosine = ((one.rotations[row] * two.rotations[row]).sum() - 1) / 2
    turned = math.degrees(math.acos(min(1.0, float(cosine))))
    return turned, float((one.centres[row] - two.centres[row]).norm())


def test_refined_cameras(made: Path, scene: Path, tmp_path: Path) -> None:
    """A camera that is a little off comes nearer to where it stands."""
    turn_camera(scene, "cam2", 1.5)
    done = multiview(scene, tmp_path / "out", refine_cameras=True, **FAST)
    before, after = off(scene, made, "cam2"), off(tmp_path / "out", made, "cam2")
    assert before[0] == pytest.approx(1.5, abs=1e-6)
    assert after[0] < 0.6 * before[0]
    assert done.report["cameras"] == "refined"
    assert done.report["sd_degrees"]["cam0"] == pytest.approx(0, abs=1e-3)  # the first is held
    with np.load(tmp_path / "out" / "frame_000_p0.npz") as saved:
        found = read_cameras_json(tmp_path / "out" / "cameras.json").rig.rotations
        np.testing.assert_allclose(saved["camera_rotation"], found, atol=1e-5)


def test_a_wrong_camera_is_told(made: Path, scene: Path, tmp_path: Path) -> None:
    people = people_of(read_scene(made), "frame_000")
    turn_camera(scene, "cam1", 25.0)
    done = multiview(scene, None, **FAST)  # nothing of cam1 can be matched
    assert any("view cam1 sees nobody whom another view sees" in text for text in done.warnings)
    for view in VIEWS:
        entries = read_people(keypoints(scene, view))
        for person in people:
            entries[person.rows[view]]["person_id"] = [person.number]
        keypoints(scene, view).write_text(json.dumps({"people": entries}))
    done = multiview(scene, tmp_path / "out", **FAST)
    assert any("view cam1 contradicts the others" in text for text in done.warnings)
    assert any("camera cam1 disagrees" in text and "2 of 2" in text for text in done.warnings)
    for n in (0, 1):
        with np.load(tmp_path / "out" / f"frame_000_p{n}.npz") as saved:
            assert far_from_truth(scene, saved["joints3d_world"]) < 0.05


# --- bad input ---


def refused(scene: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Status 2, one line, and nothing written."""
    arguments = ["multiview", str(scene), "--out", str(out), "--body", "open-low", *options]
    assert main([*arguments, "--no-overlay"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("flowfit: ")
    assert captured.err.count("\n") == 1, captured.err
    assert not captured.out
    assert not out.exists()
    return captured.err


def test_millimetres_for_metres(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def millimetres(content: Any) -> None:
        for camera in content["cameras"].values():
            camera["t"] = [1000 * v for v in camera["t"]]

    change(scene / "cameras.json", millimetres)
    line = refused(scene, tmp_path / "out", capsys)
    assert "m tall" in line
    assert "millimetres" in line


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("K", [[0, 0, 0], [0, 600, 0], [0, 0, 1]], "camera cam1: K is singular"),
        ("R", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], "camera cam1: R is left-handed"),
        ("R", [[1, 0.3, 0], [0, 1, 0], [0, 0, 1]], "camera cam1: R is not orthogonal"),
        (None, None, "has no camera for view cam1"),
    ],
)
def test_bad_cameras(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Any, value: Any, text: str
) -> None:
    def spoil(content: Any) -> None:
        if key is None:
            del content["cameras"]["cam1"]
        else:
            content["cameras"]["cam1"][key] = value

    change(scene / "cameras.json", spoil)
    assert text in refused(scene, tmp_path / "out", capsys)


def test_bad_options(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert "leave the other" in refused(
        scene, out, capsys, "--refine-cameras", "--estimate-cameras"
    )
    assert "one of the two" in refused(scene, out, capsys, "--uncalibrated", "--estimate-cameras")
    assert "does not look at keypoints" in refused(scene, out, capsys, "--prior", "gmm")
    assert "no view cam9" in refused(scene, out, capsys, "--views", "cam0", "cam9")
    (scene / "cameras.json").unlink()
    assert "--image-size" in refused(scene, out, capsys)
    size = ("--image-size", "640", "480")
    assert "no cameras to refine" in refused(scene, out, capsys, "--refine-cameras", *size)
    assert "several people in view cam0" in refused(scene, out, capsys, *size)


def test_a_person_in_one_view_only(scene: Path, tmp_path: Path) -> None:
    """They are fitted from that view, with a note; the others as ever."""
    with_ids = {view: read_people(keypoints(scene, view)) for view in VIEWS}
    for view in VIEWS:
        entries = with_ids[view]
        # of a person nobody else sees: the same keypoints moved aside
        if view == "cam0":
            moved = np.array(entries[0]["pose_keypoints_2d"]).reshape(-1, 3)
            moved[moved[:, 2] > 0, 0] += 170
            entries.append({"person_id": [-1], "pose_keypoints_2d": moved.ravel().tolist()})
        keypoints(scene, view).write_text(json.dumps({"people": entries}))
    done = multiview(scene, tmp_path / "out", **FAST)
    alone = [one for one in done.people.people if len(one.rows) == 1]
    assert [dict(one.rows) for one in alone] == [{"cam0": 2}]
    name = f"frame_000_p{alone[0].number}"
    report = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert any("seen by cam0 alone" in text for text in report["warnings"])
    assert any("seen by cam0 alone" in text for text in done.warnings)
    with np.load(tmp_path / "out" / f"{name}.npz") as saved:
        assert np.isfinite(saved["joints3d_world"]).all()
        assert 1.0 < saved["transl"][0, 2] < 12.0
    for n in (0, 1):
        with np.load(tmp_path / "out" / f"frame_000_p{n}.npz") as saved:
            assert far_from_truth(scene, saved["joints3d_world"]) < 0.05


def read_people(path: Path) -> list[Any]:
    return list(json.loads(path.read_text())["people"])


# --- pictures ---


def test_a_bent_shape_projects_as_the_lens_does() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.uniform((-1, -1, 3), (1, 1, 5), (60, 3))
    faces = np.arange(60).reshape(20, 3)
    lens = np.array([-0.25, 0.1, 0.001, -0.002, 0.01])
    moved = bent(Shape(vertices, faces, FIT), lens)
    camera = Camera(torch.ones(2) * 600, torch.ones(2) * 300).to(dtype=torch.float64)
    wanted, _ = Camera(camera.focal, camera.center, torch.from_numpy(lens)).project(
        torch.from_numpy(vertices)
    )
    found, _ = camera.project(torch.from_numpy(moved.vertices.astype(float)))
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert len(moved.faces) == 20
    # far aside the polynomial folds back into the picture: nothing is drawn there
    far = Shape(np.array([[9.0, 0, 3], [9.5, 0, 3], [9, 1, 3]]), np.array([[0, 1, 2]]), FIT)
    assert not len(bent(far, np.array([-0.3, 0.0, 0.0, 0.0, 0.0])).faces)
    assert len(bent(far, None).faces) == 1


def test_in_camera_leaves_out_what_is_behind() -> None:
    vertices = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 0, -1], [1, 0, -1], [0, 1, -1]])
    shape = Shape(vertices, np.array([[0, 1, 2], [3, 4, 5]]), FIT)
    (seen,) = in_camera([shape], np.eye(3), np.zeros(3))
    assert seen.faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)])
def test_outside_view_has_up_up(up: tuple[float, float, float]) -> None:
    """A red ball above a blue one is drawn above it, and the cameras are drawn, too."""
    from trimesh.creation import icosphere

    ball = icosphere(subdivisions=2, radius=0.3)
    axis = np.array(up)
    shapes = [
        Shape(ball.vertices + 1.2 * axis, ball.faces, (0.9, 0.1, 0.1)),
        Shape(ball.vertices, ball.faces, (0.1, 0.1, 0.9)),
    ]
    stands = [
        Stand(np.eye(3), np.array([x, 0.0, 4.0]), name, np.array([0.4, 0.3]))
        for x, name in ((-1.0, "one"), (1.0, "two"))
    ]
    picture = outside_view(shapes, stands, axis, height=300, engine="raycast").astype(int)
    oblique = picture[:, :300]
    red = np.argwhere(oblique[..., 0] > oblique[..., 2] + 60)
    blue = np.argwhere(oblique[..., 2] > oblique[..., 0] + 60)
    assert red[:, 0].mean() + 20 < blue[:, 0].mean()
    without = outside_view(shapes, [], axis, height=300, engine="raycast")
    assert picture.shape == (300, 602, 3)
    assert without.shape == picture.shape
