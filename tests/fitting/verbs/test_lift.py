"""`flowfit lift`: from a keypoint file to skeletons on disk, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowfit import lift
from flowfit.fitting.cli.main import main
from flowfit.fitting.drawing.skeletons import PANEL, person_picture, view
from flowfit.fitting.one_view.lifted_people import person_noise
from flowfit.fitting.reading.arrays import read_arrays
from flowfit.fitting.reading.inputs import size_of
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, COCO17, HALPE26, MEDIAPIPE33
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.lifting.input import JOINTS

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
PICTURE, KEYPOINTS = EXAMPLES / "camera.png", EXAMPLES / "camera_keypoints.json"
SIZE = (640, 480)


def seen_people(schema, count=3, yaw=0.0):
    """(count, K, 3) x, y, confidence of standing people with raised forearms, side by side."""
    body = find_body("open-low")
    turn = axis_angle_to_matrix(torch.tensor([0.0, yaw, 0.0]))
    rotations = torch.eye(3).expand(count, 24, 3, 3).clone()
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turn
    places = torch.tensor([[0.9 * k - 0.9, 0.2, 4.0 + 0.3 * k] for k in range(count)])
    points = body.keypoints(torch.zeros(count, 10), rotations, schema, places)
    pixels, _ = Camera.from_size(*SIZE, 700.0).project(points.nan_to_num())
    there = points.isfinite().all(-1)
    whole = torch.cat((pixels, torch.full_like(pixels[..., :1], 0.9)), -1)
    return torch.where(there[..., None], whole, 0).double().numpy()


def write(path, people):
    entries = [{"person_id": [-1], "pose_keypoints_2d": np.ravel(p).tolist()} for p in people]
    path.write_text(json.dumps({"people": entries}))
    return path


def run(path, out, *options):
    return main(["lift", str(path), "--out", str(out), *map(str, options)])


def arrays(path):
    with np.load(path, allow_pickle=False) as data:
        return {k: data[k] for k in data.files}


def test_the_plain_command_works(tmp_path, capsys):
    assert run(KEYPOINTS, tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "camera_0.npz",
        "camera_0_lift.png",
        "camera_summary.json",
    }
    found = arrays(tmp_path / "out" / "camera_0.npz")
    assert found["joint_names"].tolist() == list(JOINTS.names)
    assert found["joints3d"].shape == (17, 3)
    assert found["samples3d"].shape == (100, 17, 3)
    assert found["log_prob"].shape == (100,)
    assert found["joint_sd"].shape == (17,)
    assert all(np.isfinite(v).all() for v in found.values() if v.dtype.kind == "f")
    assert (found["joints3d"][JOINTS.index("MidHip")] == 0).all()
    said = capsys.readouterr()
    assert "no picture size given" in said.err
    assert said.err.count("\n") == 1
    assert "average adult" in said.out
    summary = json.loads((tmp_path / "out" / "camera_summary.json").read_text())
    assert summary["image_size_source"] == "keypoints (assumed)"
    assert "average adult" in summary["scale"]


def test_everyone_gets_the_same_alone(tmp_path):
    people = seen_people(BODY25)
    together, alone = tmp_path / "together", tmp_path / "alone"
    path = write(tmp_path / "a_keypoints.json", people)
    assert run(path, together, "--image-size", *SIZE, "--samples", 7) == 0
    for person in range(3):
        assert run(path, alone, "--image-size", *SIZE, "--samples", 7, "--person", person) == 0
    turned = write(tmp_path / "b_keypoints.json", people[::-1])
    assert run(turned, together, "--image-size", *SIZE, "--samples", 7) == 0
    for person in range(3):
        one, other = (arrays(d / f"a_{person}.npz") for d in (together, alone))
        for name in ("joints3d", "samples3d", "log_prob"):
            np.testing.assert_array_equal(one[name], other[name])
        mirror = arrays(together / f"b_{2 - person}.npz")
        np.testing.assert_allclose(one["joints3d"], mirror["joints3d"], rtol=0, atol=1e-6)


def test_everyone_gets_the_same_alone_when_the_size_is_assumed(tmp_path):
    path = write(tmp_path / "a.json", seen_people(BODY25))
    whole = lift(path, samples=2).skeletons
    for person in range(3):
        alone = lift(path, samples=2, person=person).skeletons
        for one, other in ((alone.joints, whole.joints), (alone.samples, whole.samples)):
            torch.testing.assert_close(one[0], other[person], rtol=0, atol=1e-12)


def test_the_bad_person_is_passed_over(tmp_path, capsys):
    people = seen_people(BODY25)
    whole = lift(write(tmp_path / "a.json", people), image_size=SIZE, samples=3)
    broken = people.copy()
    broken[1, 5] = [np.nan, 3, 0.5]
    text = write(tmp_path / "b_keypoints.json", broken).read_text().replace("NaN", "null")
    (tmp_path / "b_keypoints.json").write_text(text)
    assert run(tmp_path / "b_keypoints.json", tmp_path / "out", "--image-size", *SIZE) == 0
    assert "person 1" in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "b_summary.json").read_text())
    assert [p["person"] for p in summary["people"]] == [0, 2]
    assert summary["skipped"][0]["index"] == 1
    for person in (0, 2):
        got = arrays(tmp_path / "out" / f"b_{person}.npz")["joints3d"]
        np.testing.assert_allclose(got, whole.skeletons.joints[person], rtol=0, atol=1e-6)


def test_an_empty_file_is_no_error(tmp_path, capsys):
    assert run(write(tmp_path / "a.json", []), tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "nobody in" in said.out
    assert said.err == ""
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_summary.json"]


@pytest.mark.parametrize("schema", [BODY25, COCO17, HALPE26, MEDIAPIPE33], ids=lambda s: s.name)
def test_any_schema_lifts_a_standing_person(schema, tmp_path):
    """Who faces the camera has the right side on the picture's left, feet below, head above."""
    path = write(tmp_path / "a.json", seen_people(schema))
    done = lift(path, image_size=SIZE, focal=700.0, samples=0)
    joints = done.skeletons.joints
    where = {name: joints[:, JOINTS.index(name)] for name in JOINTS.names}
    for side in ("Shoulder", "Hip"):
        assert (where["L" + side][:, 0] > where["R" + side][:, 0] + 0.1).all()
    assert (where["LAnkle"][:, 1] > 0.5).all()
    assert (where["HeadTop"][:, 1] < -0.4).all()
    height = (where["LAnkle"] - where["HeadTop"]).norm(dim=-1)
    assert ((height > 1.2) & (height < 1.8)).all()


def test_who_looks_away_is_turned(tmp_path):
    away = write(tmp_path / "a.json", seen_people(BODY25, yaw=np.pi))
    joints = lift(away, image_size=SIZE, focal=700.0, samples=0).skeletons.joints
    left, right = (joints[:, JOINTS.index(s + "Shoulder"), 0] for s in "LR")
    assert (left < right - 0.1).all()


def test_samples_are_repeatable_and_many(tmp_path):
    path = write(tmp_path / "a.json", seen_people(BODY25, 1))
    one, same = (lift(path, image_size=SIZE, samples=5).skeletons for _ in range(2))
    other = lift(path, image_size=SIZE, samples=5, seed=1).skeletons
    assert torch.equal(one.samples, same.samples)
    assert not torch.equal(one.samples, other.samples)
    assert torch.equal(one.joints, other.joints)
    none = lift(path, image_size=SIZE, samples=0)
    assert none.skeletons.samples.shape == (1, 0, 17, 3)
    assert none.skeletons.log_prob.shape == (1, 0)
    assert torch.equal(none.skeletons.joints, one.joints)
    assert (one.mode_log_prob >= one.log_prob.amax(-1)).all()
    many = lift(path, image_size=SIZE, samples=20_000, dtype=torch.float32).skeletons
    spread = many.samples.var(1).sum(-1).sqrt()
    assert torch.isfinite(many.samples).all()
    assert (spread[0, 1:] > 0.005).all()


def test_people_have_noise_of_their_own():
    assert not torch.equal(person_noise(4, 0, 0), person_noise(4, 0, 1))
    assert torch.equal(person_noise(4, 2, 1), person_noise(4, 2, 1))


def test_without_a_picture_size_the_keypoints_lie_in_the_middle():
    xy = np.array([[100.0, 50.0], [300.0, 90.0], [200.0, 450.5]])
    keypoints = np.zeros((1, 17, 2))
    keypoints[0, :3] = xy
    confidence = np.zeros((1, 17))
    confidence[0, :3] = 1
    assert size_of(read_arrays(keypoints, confidence, "coco17")) == (400, 501)


def test_the_picture_gives_size_and_place(tmp_path):
    done = lift(KEYPOINTS, tmp_path, image=PICTURE, samples=3)
    assert done.report["image_size"] == [512, 512]
    assert done.report["image_size_source"] == "image"
    assert done.warnings == ()
    drawn = np.array(Image.open(tmp_path / "camera_0_lift.png"))
    assert drawn.shape == (PANEL, 4 * PANEL + 12, 3)
    assert drawn[:, :PANEL].std() > 30  # the photograph shines through


BAD = {
    "no file": ("missing.json", [], "no such file"),
    "no json": ("text.json", [], "not valid JSON"),
    "no people": ("other.json", [], "not a keypoint file"),
    "nobody seen": ("unseen.json", [], "no keypoint was seen"),
    "schema": ("good.json", ["--schema", "coco99"], "no keypoint schema"),
    "count": ("good.json", ["--schema", "coco17"], "coco17"),
    "odd count": ("odd.json", [], "needs 75"),
    "normalised": ("unit.json", [], "--image-size"),
    "samples": ("good.json", ["--samples", "-1"], "--samples"),
    "person": ("good.json", ["--person", "9"], "no person 9"),
    "focal": ("good.json", ["--focal", "1"], "focal length"),
    "size": ("good.json", ["--image-size", "0", "9"], "positive"),
    "lifter": ("good.json", ["--lifter", "none.safetensors"], "no lifter"),
    "device": ("good.json", ["--device", "cuda:99"], "device"),
    "picture": ("good.json", ["--image", "none.png"], "no such file"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, kind):
    name, options, words = BAD[kind]
    people = seen_people(BODY25, 1)
    write(tmp_path / "good.json", people)
    write(tmp_path / "unseen.json", [0 * people[0]])
    write(tmp_path / "odd.json", [np.ones((7, 3))])
    write(tmp_path / "unit.json", people / [640, 480, 1])
    (tmp_path / "text.json").write_text("{people")
    (tmp_path / "other.json").write_text("[]")
    assert run(tmp_path / name, tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("flowfit: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- the picture ---


def test_left_is_blue_right_is_orange_and_views_agree():
    joints = np.zeros((17, 3))
    joints[JOINTS.index("LWrist")] = [0.5, -0.3, 0.4]
    joints[JOINTS.index("LElbow")] = [0.3, -0.3, 0.2]
    joints[JOINTS.index("RWrist")] = [-0.5, 0.2, -0.4]
    joints[JOINTS.index("RElbow")] = [-0.3, 0.2, -0.2]
    middle = (joints.min(0) + joints.max(0)) / 2
    axes = {
        "front": ((0, 1.0), (1, 1.0)),
        "side": ((2, 1.0), (1, 1.0)),
        "top": ((0, 1.0), (2, -1.0)),
    }
    for across, down in axes.values():
        drawn = view(joints, np.zeros((0, 17, 3)), (across, down), 1.0).astype(int)
        for name, blue in (("LWrist", True), ("RWrist", False)):
            point = joints[JOINTS.index(name)] - middle
            column = round((across[1] * point[across[0]] + 1) * PANEL / 2)
            row = round((down[1] * point[down[0]] + 1) * PANEL / 2)
            red, _, blueness = drawn[row, column]
            assert (blueness > red + 50) if blue else (red > blueness + 50)


def test_the_picture_is_made_without_samples_and_of_one_keypoint():
    joints = np.zeros((17, 3))
    confidence = np.zeros(25)
    confidence[3] = 1
    drawn = person_picture(
        joints, np.zeros((0, 17, 3)), np.full((25, 2), 50.0), confidence, BODY25, None
    )
    assert drawn.shape == (PANEL, 4 * PANEL + 12, 3)
    assert drawn.dtype == np.uint8


def test_more_samples_than_memory_are_refused(tmp_path):
    path = write(tmp_path / "a.json", seen_people(BODY25, 1) * np.ones((30, 1, 1)))
    with pytest.raises(InputError, match="give fewer"):
        lift(path, image_size=SIZE, samples=100_000)


def test_wrong_arguments_from_python():
    with pytest.raises(InputError, match="not both"):
        lift(KEYPOINTS, image=PICTURE, image_size=(512, 512))


# --- training ---


def train(tmp_path, *options):
    return main(["train", "lifting", "--out", str(tmp_path / "run"), *map(str, options)])


@pytest.fixture
def mocap(tmp_path):
    folder = tmp_path / "mocap"
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.savez(folder / "a.npz", poses=0.2 * rng.normal(size=(20, 72)))
    return folder


def test_a_lifter_is_trained_and_used(tmp_path, mocap, capsys):
    small = {"sizes": {"context": 8, "hidden": 8, "width": 8, "depth": 1, "steps": 1}}
    config = tmp_path / "c.json"
    config.write_text(json.dumps(small | {"steps": 3, "batch": 8, "warmup": 1}))
    options = ("--mocap", mocap, "--config", config, "--body", "open-low", "--credit", "me")
    assert train(tmp_path, *options) == 0
    path = tmp_path / "run" / "lifter.safetensors"
    assert str(path) in capsys.readouterr().out
    assert train(tmp_path, *options) == 0  # nothing left to do
    assert json.loads(path.with_suffix(".json").read_text())["trained_on"]["credit"] == "me"
    assert run(KEYPOINTS, tmp_path / "out", "--lifter", path, "--samples", 2) == 0
    assert arrays(tmp_path / "out" / "camera_0.npz")["samples3d"].shape == (2, 17, 3)
    assert train(tmp_path, *options, "--steps", 9, "--batch", 4) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_lifter_is_trained_on_human36m(tmp_path):
    from tests.priors.data.skeletons.test_pairs import make_h36m

    folder = tmp_path / "h36m"
    folder.mkdir()
    make_h36m(folder)
    config = tmp_path / "c.json"
    small = {"context": 8, "hidden": 8, "width": 8, "depth": 1, "steps": 1}
    config.write_text(json.dumps({"sizes": small, "steps": 3, "batch": 8, "warmup": 1}))
    assert train(tmp_path, "--h36m", folder, "--config", config) == 0
    about = json.loads((tmp_path / "run" / "lifter.json").read_text())
    assert about["trained_on"]["pairs"] == 4 * 30 * 2
    assert np.isfinite(about["validation"]["mpjpe_mm"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to train on"),
        (["--mocap", "none"], "no such"),
        (["--h36m", "none.npz"], "no such file"),
        (["--mocap", "none", "--config", "slow"], "no configuration"),
        (["--h36m", ".", "--validation", "x"], "no data_3d_h36m"),
    ],
)
def test_bad_training_is_one_line(tmp_path, capsys, options, words):
    assert train(tmp_path, *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_training_keypoints_still_needs_mocap(tmp_path, capsys):
    assert main(["train", "keypoints", "--out", str(tmp_path / "run")]) == 2
    assert "--mocap" in capsys.readouterr().err
