"""The verb `sample`, and `fit --samples`: files, seeds, independence, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flowfit import sample
from flowfit.fitting.cli.main import main
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.models.body_files import find_body
from flowfit.models.kinematics import forward_kinematics
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.keypoints.draw_calibration import DrawCalibration
from flowfit.priors.keypoints.draws import draw, random_latents
from flowfit.priors.load import load

DATA = Path(__file__).parents[3] / "examples" / "data"
PICTURE, KEYPOINTS = DATA / "camera.png", DATA / "camera_keypoints.json"
FAST = ("--body", "open-low", "-n", "60", "--modes", "3")


@pytest.fixture(scope="module")
def two_people(tmp_path_factory):
    """The example's person and the astronaut's keypoints in one file."""
    content = json.loads(KEYPOINTS.read_text())
    other = json.loads((DATA / "astronaut_keypoints.json").read_text())
    content["people"] += other["people"]
    path = tmp_path_factory.mktemp("two") / "two_keypoints.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    road = ["sample", str(PICTURE), str(KEYPOINTS), "--out", str(out), "--interpolate"]
    assert main([*road, *FAST, "--renderer", "raycast"]) == 0
    return out


def test_files(written):
    assert {p.name for p in written.iterdir()} == {
        "camera_0_samples.npz",
        "camera_0_samples.png",
        "camera_0_interpolation.png",
        "camera_samples.json",
    }
    for name in ("samples", "interpolation"):
        picture = cv2.imread(str(written / f"camera_0_{name}.png"))
        assert picture.std() > 20


def test_what_the_npz_holds(written):
    with np.load(written / "camera_0_samples.npz", allow_pickle=False) as data:
        found = {k: data[k] for k in data.files}
    assert found["poses"].shape == (60, 72)
    assert found["joints3d"].shape == (60, 24, 3)
    assert found["log_prob"].shape == (60,)
    assert found["mode_index"].shape == found["mode_weight"].shape == (3,)
    assert found["mode_weight"].sum() == pytest.approx(1)
    assert set(found["mode_index"]) <= set(range(60))
    assert (found["joints3d"][..., 2] > 0).all()
    # the first sample is the mode, the likeliest
    assert found["log_prob"].argmax() == 0
    # poses, betas and transl are the joints' own
    body = find_body("open-low")
    rotations = axis_angle_to_matrix(torch.from_numpy(found["poses"]).unflatten(-1, (24, 3)))
    rest = body.rest_joints(torch.from_numpy(found["betas"]))
    joints = forward_kinematics(rotations, rest)[1] + torch.from_numpy(found["transl"])[:, None]
    assert np.abs(joints.numpy() - found["joints3d"]).max() < 1e-4


def test_report(written):
    report = json.loads((written / "camera_samples.json").read_text())
    assert report["samples"] == 60
    assert report["focal_source"] == "image diagonal (assumed)"
    assert [p["person"] for p in report["people"]] == [0]
    assert sum(report["people"][0]["mode_weight"]) == pytest.approx(1)


def test_a_person_alone_has_the_same_samples(two_people):
    def of(person):
        return sample(
            None, two_people, count=40, modes=3, image_size=(512, 512), body="open-low",
            person=person, dtype=torch.float64,
        )  # fmt: skip

    together, alone = of(None), of(1)
    assert [p.person for p in together.people] == [0, 1]
    mine, again = together.people[1], alone.people[0]
    assert torch.allclose(mine.draws.joints3d, again.draws.joints3d, atol=1e-9)
    assert torch.allclose(mine.draws.log_prob, again.draws.log_prob)
    assert torch.equal(mine.modes.index, again.modes.index)
    assert not torch.allclose(together.people[0].draws.joints3d, mine.draws.joints3d, atol=1e-3)


def test_seeds():
    def of(seed, count=30):
        return sample(
            None, KEYPOINTS, count=count, modes=2, image_size=(512, 512), body="open-low", seed=seed
        ).people[0]

    one, again, other, more = of(4), of(4), of(5), of(4, 50)
    assert torch.equal(one.draws.joints3d, again.draws.joints3d)
    assert torch.equal(one.draws.joints3d[0], other.draws.joints3d[0])  # the mode
    assert not torch.allclose(one.draws.joints3d[1:], other.draws.joints3d[1:], atol=1e-3)
    # the first of many are the same as few
    assert torch.allclose(more.draws.joints3d[:30], one.draws.joints3d, atol=1e-5)


@pytest.fixture(scope="module")
def given(make_crowd, body):
    crowd = make_crowd(2, seed=3)
    flow = load("keypoint-flow", dtype=torch.float64)
    return tell(flow, crowd.problem, body)


def test_chunks_change_nothing(given, body):
    latents = random_latents(23, given, 0, 0)
    whole, parts = (draw(given, 1, latents, body, at_once=n) for n in (1000, 7))
    assert torch.allclose(whole.joints3d, parts.joints3d, atol=1e-9)


def test_density_is_the_flows(given, body):
    latents = random_latents(6, given, 0, 0)
    found = draw(given, 1, latents, body)
    with torch.no_grad():
        expected = given.posterior.bodies(latents[None], given.context[1:])
    ratio = given.rows(torch.tensor([1])).drawing().log_ratio(latents)
    assert torch.allclose(found.log_prob, expected.log_prob[0] + ratio)
    assert torch.allclose(found.rotations[0], expected.rotations[0, 0], atol=1e-9)  # the mode
    raw = given.calibrated(DrawCalibration(noise=0.0))
    as_trained = draw(raw, 1, latents, body)
    assert torch.allclose(as_trained.rotations, expected.rotations[0], atol=1e-9)
    assert torch.allclose(as_trained.log_prob, expected.log_prob[0])


def test_draws_of_the_built_in_posterior_are_calibrated(given, body):
    assert given.calibration.noise == 0.03
    assert given.calibration.length_spread > 0.05
    assert given.calibration.spread_by_width > 1
    latents = random_latents(6, given, 0, 0)
    assert not torch.allclose(latents, random_latents(6, given, 1, 0))  # another width
    raw = given.calibrated(DrawCalibration())
    assert torch.equal(random_latents(6, raw, 1, 0), random_latents(6, raw, 0, 0))
    assert not torch.allclose(latents, random_latents(6, raw, 0, 0))
    # what the noise put between two draws is gone
    cleaned, noisy = (draw(one, 0, latents, body).joints3d for one in (given, raw))
    assert 0.005 < (cleaned - noisy)[1:].norm(dim=-1).mean() < 0.05


def test_the_pelvis_of_all_samples_is_in_one_place(given, body):
    latents = random_latents(6, given, 0, 0)
    pelvis = draw(given, 0, latents, body).joints3d[:, 0]
    assert (pelvis - pelvis[0]).abs().max() < 1e-9


def test_nobody_is_no_error(tmp_path, capsys):
    path = tmp_path / "none.json"
    path.write_text(json.dumps({"people": []}))
    out = tmp_path / "out"
    assert main(["sample", str(path), "--image-size", "9", "9", "--out", str(out), *FAST]) == 0
    assert "nobody" in capsys.readouterr().out
    assert [p.name for p in out.iterdir()] == ["none_samples.json"]


def test_one_bad_person_is_passed_over(tmp_path, capsys):
    content = json.loads(KEYPOINTS.read_text())
    content["people"].insert(0, {"pose_keypoints_2d": [1.0, 2.0]})
    path = tmp_path / "a_keypoints.json"
    path.write_text(json.dumps(content))
    out = tmp_path / "out"
    road = ["sample", "--image-size", "512", "512", str(path), "--out", str(out), *FAST]
    assert main([*road, "--no-overlay"]) == 0
    assert "warning" in capsys.readouterr().err
    assert (out / "a_1_samples.npz").exists()
    assert not (out / "a_0_samples.npz").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["-n", "0"], "0 samples"),
        (["-n", "999999999"], "samples"),
        (["-n", "5", "--modes", "9"], "9 modes"),
        (["--modes", "0"], "0 modes"),
        (["--seed", "-1"], "seed -1"),
        (["--prior", "gmm"], "looks at the keypoints"),
        (["--prior", "pose-flow"], "looks at the keypoints"),
        (["--prior", "lifting"], "for fit --recipe gmm; it cannot be sampled, only a posterior"),
        (["--prior", "lifting"], ": keypoint-flow, image-small, or a file"),
        (["--prior", "nowhere.safetensors"], "nowhere"),
        (["--person", "7"], "no person 7"),
        (["--focal", "3"], "focal length"),
        (["--schema", "body3"], "body3"),
        (["--device", "abacus"], "abacus"),
        (["--body", "nobody.pkl"], "nobody.pkl"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, more, text):
    out = tmp_path / "out"
    road = ["sample", "--image-size", "512", "512", str(KEYPOINTS), "--out", str(out)]
    assert main([*road, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("flowfit: ")
    assert error.count("\n") == 1
    assert text in error
    assert not out.exists()


def test_a_picture_or_its_size(tmp_path, capsys):
    assert main(["sample", str(KEYPOINTS), "--out", str(tmp_path / "out")]) == 2
    assert "--image-size" in capsys.readouterr().err


# --- fit --samples ---


def test_fit_with_samples(tmp_path):
    out = tmp_path / "out"
    road = ["fit", "--image-size", "512", "512", str(KEYPOINTS), "--out", str(out)]
    more = ["--samples", "60", "--body", "open-low", "--mesh", "none", "--renderer", "raycast"]
    assert main([*road, *more]) == 0
    with np.load(out / "camera_0_samples.npz", allow_pickle=False) as data:
        found = {k: data[k] for k in data.files}
    with np.load(out / "camera_0.npz", allow_pickle=False) as data:
        vertices = len(data["vertices"])
    assert found["poses"].shape == (60, 72)
    assert found["joints3d"].shape == (60, 24, 3)
    assert found["weight"].sum() == pytest.approx(1, abs=1e-5)
    assert found["mode_weight"].sum() == pytest.approx(1, abs=1e-5)
    assert found["joint_sd"].shape == (24,)
    assert found["vertex_sd"].shape == (vertices,)
    report = json.loads((out / "camera_0_samples.json").read_text())
    assert report["effective_samples"] > 5
    assert np.isfinite(report["k_hat"])
    assert (out / "camera_0_sd.glb").stat().st_size > 1000
    assert cv2.imread(str(out / "camera_0_samples.png")).std() > 20


@pytest.mark.parametrize("count", ["0", "49", "1000000", "-3"])
def test_fit_with_a_number_of_samples_that_cannot_be(tmp_path, capsys, count):
    out = tmp_path / "out"
    road = ["fit", str(PICTURE), str(KEYPOINTS), "--out", str(out), "--samples", count]
    assert main(road) == 2
    assert "--samples" in capsys.readouterr().err
    assert not out.exists()


def test_two_keypoints_are_enough_to_draw_from(make_crowd, body):
    """The posterior then is wide, and finite."""
    crowd = make_crowd(1, seed=8)
    confidence = torch.zeros_like(crowd.problem.confidence)
    confidence[:, [2, 5]] = 1
    problem = FitProblem.build(
        crowd.problem.schema, crowd.problem.keypoints, confidence, crowd.problem.camera
    )
    told = tell(load("keypoint-flow", dtype=torch.float64), problem, body)
    found = draw(told, 0, random_latents(50, told, 0, 0), body)
    assert found.joints3d.isfinite().all()
    assert found.joints3d.std(0).mean() > 0.03
