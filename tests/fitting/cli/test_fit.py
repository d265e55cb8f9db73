from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowfit.fitting.cli.main import main
from flowfit.fitting.results.quality import LOW_QUALITY
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from tests.fitting.reading.test_pictures import png16, png_header

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
PICTURE = EXAMPLES / "camera.png"
KEYPOINTS = EXAMPLES / "camera_keypoints.json"
FAST = ("--body", "open-low", "--mesh", "none", "--no-overlay")

NPZ = {
    "global_orient": (3,),
    "body_pose": (69,),
    "betas": (10,),
    "transl": (3,),
    "focal": (2,),
    "center": (2,),
    "image_size": (2,),
    "joints3d": (24, 3),
    "keypoints3d": (25, 3),
    "keypoints2d": (25, 2),
    "keypoint_names": (25,),
    "keypoint_sd": (25,),
}


@pytest.fixture
def values():
    """The keypoints of the example as a list of 75 numbers."""
    return list(json.loads(KEYPOINTS.read_text())["people"][0]["pose_keypoints_2d"])


@pytest.fixture
def road(tmp_path, values):
    """Runs `flowfit fit` on people given as lists of numbers; the picture is the example's."""

    def run(people, *options, picture=("--image-size", "512", "512"), text=None):
        path = tmp_path / "in" / "a_keypoints.json"
        path.parent.mkdir(exist_ok=True)
        entries = [{"person_id": [-1], "pose_keypoints_2d": p} for p in people]
        path.write_text(json.dumps({"people": entries}) if text is None else text)
        place = [str(p) for p in (picture if isinstance(picture, tuple) else (picture,))]
        return main(["fit", *place, str(path), "--out", str(tmp_path / "out"), *FAST, *options])

    return run


def summary(folder: Path) -> dict:
    (path,) = folder.glob("*_summary.json")
    return json.loads(path.read_text())


def shifted(values, x, y=0.0):
    moved = np.array(values).reshape(-1, 3)
    moved[moved[:, 2] > 0, :2] += (x, y)
    return moved.ravel().tolist()


def assert_refused(status, capsys, tmp_path, *words):
    """Status 2, one line that says what is wrong, and nothing written."""
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("flowfit: ")
    assert "Traceback" not in captured.err
    assert not captured.out
    for word in words:
        assert word in captured.err
    assert not (tmp_path / "out").exists()
    return captured.err


# --- it works ---


def test_the_example(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    arguments = ["fit", PICTURE, KEYPOINTS, "--out", out, "--body", "open-low", "--mesh", "glb"]
    assert main([str(a) for a in arguments]) == 0
    captured = capsys.readouterr()
    assert "person 0: " in captured.out
    assert "4 files" not in captured.err
    names = {"camera_0.npz", "camera_0.glb", "camera_0.json"}
    assert {p.name for p in out.iterdir()} == {*names, "camera_overlay.png", "camera_summary.json"}

    body = find_body("open-low")
    shapes = NPZ | {"vertices": (body.num_vertices, 3), "faces": tuple(body.faces.shape)}
    with np.load(out / "camera_0.npz", allow_pickle=False) as data:
        assert {k: data[k].shape for k in data.files} == shapes
        for key, value in data.items():
            if value.dtype.kind == "f":
                assert value.dtype == np.float32, key
                assert np.isfinite(value).all(), key
        assert data["image_size"].tolist() == [512, 512]
        assert data["keypoint_names"][0] == "Nose"
        assert data["transl"][2] > 0.5
        # the parameters make the mesh
        angles = np.concatenate((data["global_orient"], data["body_pose"])).reshape(1, 24, 3)
        from flowfit.models.rotations import axis_angle_to_matrix

        vertices = body.vertices(
            torch.from_numpy(data["betas"])[None],
            axis_angle_to_matrix(torch.from_numpy(angles)),
            torch.from_numpy(data["transl"])[None],
        )
        np.testing.assert_allclose(vertices[0], data["vertices"], atol=1e-4)
        pixels = data["keypoints3d"][:, :2] / data["keypoints3d"][:, 2:] * data["focal"]
        np.testing.assert_allclose(pixels + data["center"], data["keypoints2d"], atol=0.05)

    report = json.loads((out / "camera_0.json").read_text())
    wanted = {"status", "recipe", "prior", "body", "reprojection_px", "energy", "iterations"}
    assert wanted | {"quality", "facing", "seconds"} <= report.keys()
    assert report["recipe"] == "flow"
    assert report["prior"] == "keypoint-flow"
    assert report["body"] == "open-low"
    assert 0 <= report["reprojection_px"] < 25
    assert 0 <= report["quality"] <= 1
    assert 0 <= report["facing"] <= 1
    assert report["iterations"] > 0
    assert report["seconds"] > 0
    parts = [v for k, v in report["energy"].items() if k != "total"]
    assert report["energy"]["total"] == pytest.approx(sum(parts))
    assert sorted(report["files"]) == ["camera_0.glb", "camera_0.npz"]
    assert summary(out)["people"][0]["person"] == 0
    with Image.open(out / "camera_overlay.png") as overlay:
        assert overlay.height >= 512


def test_without_a_picture(road, values, tmp_path, capsys):
    assert road([values]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("a_0.npz", "a_0.json", "a_summary.json"),
    }
    assert summary(tmp_path / "out")["image"] is None
    assert "assumed" in capsys.readouterr().out


def test_without_a_picture_the_overlay_is_on_a_blank_canvas(tmp_path):
    arguments = ["fit", KEYPOINTS, "--image-size", 512, 512, "--out", tmp_path, *FAST[:4]]
    assert main([str(a) for a in arguments]) == 0
    assert (tmp_path / "camera_overlay.png").exists()


def test_many_people(road, values, tmp_path, capsys):
    crowd = [shifted(values, 3 * k, -2 * k) for k in range(8)]
    assert road(crowd) == 0
    report = summary(tmp_path / "out")
    assert [p["person"] for p in report["people"]] == list(range(8))
    assert capsys.readouterr().out.count("person ") == 8
    for k in range(8):
        assert (tmp_path / "out" / f"a_{k}.npz").exists()


def test_one_of_many(road, values, tmp_path):
    crowd = [shifted(values, 3 * k) for k in range(3)]
    assert road(crowd, "--person", "1") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("a_1.npz", "a_1.json", "a_summary.json"),
    }
    with np.load(tmp_path / "out" / "a_1.npz") as data:
        alone = data["joints3d"]
    assert road(crowd) == 0  # into the same folder, over the older files
    with np.load(tmp_path / "out" / "a_1.npz") as data:
        np.testing.assert_allclose(data["joints3d"], alone, atol=2e-3)


def test_nobody(road, tmp_path, capsys):
    assert road([]) == 0
    assert "nobody in " in capsys.readouterr().out
    assert summary(tmp_path / "out")["people"] == []
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_summary.json"]


def test_one_bad_person_among_good_ones(road, values, tmp_path, capsys):
    bad = [float("nan"), *values[1:]]
    assert road([values, bad, shifted(values, 9)]) == 0
    captured = capsys.readouterr()
    assert "person 1" in captured.err
    report = summary(tmp_path / "out")
    assert [p["person"] for p in report["people"]] == [0, 2]
    assert [s["index"] for s in report["skipped"]] == [1]
    assert "NaN" in report["skipped"][0]["reason"]
    assert not (tmp_path / "out" / "a_1.npz").exists()


@pytest.mark.parametrize("bad", [[], [1.0, 2.0, 3.0], None, "text", [0.0] * 75])
def test_other_bad_people_are_skipped(road, values, tmp_path, bad):
    assert road([bad, values]) == 0
    assert [s["index"] for s in summary(tmp_path / "out")["skipped"]] == [0]


def test_two_keypoints_are_a_guess(road, values, tmp_path, capsys):
    few = np.array(values).reshape(-1, 3)
    few[[k for k in range(25) if k not in (2, 5)]] = 0
    assert road([few.ravel().tolist()]) == 0
    captured = capsys.readouterr()
    assert "warning" in captured.err
    assert "only 2 keypoints" in captured.err
    person = summary(tmp_path / "out")["people"][0]
    assert person["quality"] < LOW_QUALITY
    with np.load(tmp_path / "out" / "a_0.npz") as data:
        assert all(np.isfinite(v).all() for v in data.values() if v.dtype.kind == "f")


def test_double_precision_and_schema_and_focal(road, values, tmp_path):
    options = ("--dtype", "float64", "--schema", "body25", "--focal", "800")
    assert road([values], *options) == 0
    report = summary(tmp_path / "out")
    assert report["focal_px"] == 800
    assert report["focal_source"] == "given"
    with np.load(tmp_path / "out" / "a_0.npz") as data:
        assert data["focal"].tolist() == [800, 800]
        assert data["joints3d"].dtype == np.float32


def test_prior_by_name_and_by_file(road, values, tmp_path):
    assert road([values], "--prior", "gaussian") == 0
    assert json.loads((tmp_path / "out" / "a_0.json").read_text())["prior"] == "gaussian"
    mixture = tmp_path / "gmm_08.pkl"
    table = {"means": np.zeros((2, 69)), "covars": np.stack([np.eye(69)] * 2), "weights": [0.5] * 2}
    table["weights"] = np.array(table["weights"])
    mixture.write_bytes(pickle.dumps(table, protocol=2))
    assert road([values], "--prior", str(mixture)) == 0
    assert json.loads((tmp_path / "out" / "a_0.json").read_text())["prior"] == "gmm_08"


def test_every_mesh(tmp_path):
    arguments = ["fit", KEYPOINTS, "--image-size", 512, 512, "--out", tmp_path, "--no-overlay"]
    arguments += ["--body", "open-low", "--mesh", "obj", "glb", "ply"]
    assert main([str(a) for a in arguments]) == 0
    for ending in ("obj", "glb", "ply"):
        assert (tmp_path / f"camera_0.{ending}").stat().st_size > 10_000


# --- pictures ---


def picture_of_512(kind: str, path: Path) -> Path:
    """A picture of the example's size, stored in an unusual way."""
    grey = np.asarray(Image.open(PICTURE).convert("L"))
    if kind == "16-bit grey":
        path = path / "a.png"
        path.write_bytes(png16((grey.astype(np.uint16) * 257)[..., None]))
    elif kind == "CMYK":
        path = path / "a.jpg"
        Image.fromarray(grey).convert("CMYK").save(path)
    else:  # stored lying, to be turned upright
        path = path / "a.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        wide = Image.fromarray(grey[:, 40:400]).rotate(90, expand=True)
        wide.save(path, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["16-bit grey", "CMYK", "EXIF"])
def test_unusual_pictures(tmp_path, kind):
    path = picture_of_512(kind, tmp_path)
    arguments = ["fit", path, KEYPOINTS, "--out", tmp_path / "out", *FAST[:4]]
    assert main([str(a) for a in arguments]) == 0
    size = [360, 512] if kind == "EXIF" else [512, 512]
    assert summary(tmp_path / "out")["image_size"] == size
    with Image.open(tmp_path / "out" / "a_overlay.png") as overlay:
        assert overlay.height >= 512


@pytest.mark.parametrize("kind", ["missing", "folder", "cut", "text", "empty", "1x1", "giant"])
def test_pictures_that_cannot_be_used(road, values, tmp_path, capsys, kind):
    path = tmp_path / "b.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(PICTURE.read_bytes()[:5000])
    elif kind in ("text", "empty"):
        path.write_text("no picture" * (kind == "text"))
    elif kind == "1x1":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "giant":
        path.write_bytes(png_header(10_000, 6_000))
    error = assert_refused(road([values], picture=path), capsys, tmp_path, "b.png")
    assert ("megapixels" in error) == (kind == "giant")


def test_a_picture_of_another_size(road, values, tmp_path, capsys):
    path = tmp_path / "b.png"
    Image.new("RGB", (100, 100)).save(path)
    assert_refused(road([values], picture=path), capsys, tmp_path, "outside the 100x100 picture")


def test_most_keypoints_outside_the_picture(road, values, tmp_path, capsys):
    assert_refused(road([shifted(values, 400, 400)]), capsys, tmp_path, "most keypoints")


# --- keypoint files ---


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ('{"people": [{"pose_keyp', "cut off"),
        ("hello", "not valid JSON"),
        ("[1, 2]", "not a keypoint file: it holds a list; known are OpenPose JSON"),
        ('{"version": 1.3}', "it has version; known are OpenPose JSON"),
        ('{"people": 3}', "people"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "2 values"),
        ('{"people": [7]}', "person 0"),
        ("[" * 5000, "JSON"),
        ("\0\1\2", "binary"),
    ],
)
def test_files_that_are_not_openpose(road, tmp_path, capsys, text, word):
    assert_refused(road([], text=text), capsys, tmp_path, "a_keypoints.json", word)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({3: float("nan")}, "NaN"),
        ({4: float("inf")}, "infinite"),
        ({4: float("-inf")}, "infinite"),
        ({5: float("nan")}, "NaN"),
        ({5: float("inf")}, "infinite"),
        ({5: -0.5}, "negative"),
        ({3: 1e300}, "px"),
        ({3: "text"}, "not a number"),
        ({3: True}, "not a number"),
        ({k: 0 for k in range(2, 75, 3)}, "no keypoint was seen"),
    ],
)
def test_keypoints_that_cannot_be_used(road, values, tmp_path, capsys, change, word):
    for place, value in change.items():
        values[place] = value
    assert_refused(road([values]), capsys, tmp_path, word)


def test_a_wrong_number_of_values(road, values, tmp_path, capsys):
    for wrong in (values[:-1], [*values, 1.0], values[:60]):
        assert_refused(road([wrong]), capsys, tmp_path, "values")


def test_everybody_bad(road, values, tmp_path, capsys):
    bad = [float("nan"), *values[1:]]
    assert_refused(road([bad, bad, []]), capsys, tmp_path, "none of the 3 people")


def test_no_such_keypoint_file(tmp_path, capsys):
    for path in (tmp_path / "no.json", tmp_path):
        status = main(["fit", str(PICTURE), str(path), "--out", str(tmp_path / "out"), *FAST])
        assert_refused(status, capsys, tmp_path, path.name)


# --- body and prior files ---


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("option", ["--body", "--prior"])
@pytest.mark.parametrize("kind", ["code", "text", "other", "npz", "cut", "missing"])
def test_model_files_that_are_something_else(road, values, tmp_path, capsys, option, kind):
    mark = tmp_path / "was_here"
    path = tmp_path / ("model.npz" if kind == "npz" else "model.pkl")
    if kind == "code":
        keys = ("v_template", "means", "covars", "weights")
        path.write_bytes(pickle.dumps({k: Evil(mark) for k in keys}, protocol=2))
    elif kind == "text":
        path.write_text("no model")
    elif kind == "other":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "npz":
        np.savez(path, poses=np.zeros((3, 72)))
    elif kind == "cut":
        path.write_bytes(pickle.dumps({"v_template": np.zeros((99, 3))})[:-30])
    status = road([values], option, str(path))
    error = assert_refused(status, capsys, tmp_path, path.name)
    assert ("not run" in error) == (kind == "code")
    assert not mark.exists()


# --- places to write to ---


def test_out_is_a_file(values, tmp_path, capsys):
    place = tmp_path / "taken"
    place.write_text("mine")
    for out in (place, place / "below" / "it"):
        arguments = [str(KEYPOINTS), "--image-size", "512", "512", "--out", str(out)]
        assert_refused(main(["fit", *arguments, *FAST]), capsys, tmp_path, "taken")
    assert place.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_may_not_be_written(tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    arguments = [str(KEYPOINTS), "--image-size", "512", "512", "--out", str(locked / "out")]
    assert_refused(main(["fit", *arguments, *FAST]), capsys, tmp_path, "locked")


def test_nothing_new_in_a_folder_that_is_there(road, values, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("mine")
    assert road([values], "--prior", "nonsense") == 2
    assert [p.name for p in out.iterdir()] == ["old.txt"]


# --- options ---


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--recipe", "nonsense"), "nonsense"),
        (("--prior", "nonsense"), "nonsense"),
        (("--body", "nonsense"), "nonsense"),
        (("--schema", "nonsense"), "nonsense"),
        (("--schema", "coco17"), "coco17"),
        (("--device", "nonsense"), "nonsense"),
        (("--person", "-1"), "--person"),
        (("--person", "two"), "two"),
        (("--person", "1.5"), "1.5"),
        (("--person", "9" * 5000), "--person"),
        (("--person", "1"), "no person 1"),
        (("--focal", "0"), "focal"),
        (("--focal", "-500"), "focal"),
        (("--focal", "35"), "between"),
        (("--focal", "nan"), "focal"),
        (("--focal", "inf"), "focal"),
        (("--gender", "female", "--body", "."), "female"),
    ],
)
def test_bad_options(road, values, tmp_path, capsys, options, word):
    assert_refused(road([values], *options), capsys, tmp_path, word)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(road, values, tmp_path, capsys):
    assert_refused(road([values], "--device", "cuda"), capsys, tmp_path, "cuda", "use cpu")


@pytest.mark.parametrize("size", [("0", "512"), ("-5", "512"), ("512", "0")])
def test_bad_image_sizes(road, values, tmp_path, capsys, size):
    status = road([values], picture=("--image-size", *size))
    assert_refused(status, capsys, tmp_path, "image size")


def test_a_size_too_large_to_draw(road, values, tmp_path, capsys):
    arguments = [KEYPOINTS, "--image-size", 1000000, 1000000, "--out", tmp_path / "out"]
    status = main(["fit", *map(str, arguments), "--body", "open-low"])
    assert_refused(status, capsys, tmp_path, "image size", "--no-overlay")
    assert road([values], picture=("--image-size", "9000", "6000")) == 0  # nothing to draw


def test_picture_and_size_do_not_go_together(tmp_path, capsys):
    arguments = [PICTURE, KEYPOINTS, "--image-size", 512, 512, "--out", tmp_path / "out"]
    status = main(["fit", *map(str, arguments)])
    assert_refused(status, capsys, tmp_path, "not both")


def test_neither_picture_nor_size(road, values, tmp_path, capsys):
    assert_refused(road([values], picture=()), capsys, tmp_path, "--image-size")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "a.png", "a.json"],
        ["fit", "a.png", "a.json", "--out", "out", "--focal", "long"],
        ["fit", "a.png", "a.json", "--out", "out", "--image-size", "640"],
        ["fit", "a.png", "a.json", "--out", "out", "--mesh", "stl"],
        ["fit", "a.png", "a.json", "--out", "out", "--dtype", "float16"],
        ["fit", "a.png", "a.json", "--out", "out", "--nonsense"],
        ["fit", "a.png", "a.json", "b.json", "--out", "out"],
        ["nonsense"],
        [],
    ],
)
def test_arguments_that_cannot_be_read(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert_refused(caught.value.code, capsys, tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["doctor", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "usage: flowfit" in capsys.readouterr().out


def test_debug_shows_the_error(road, values):
    with pytest.raises(InputError, match="nonsense"):
        road([values], "--recipe", "nonsense", "--debug")


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


def test_interrupted(road, values, monkeypatch, capsys):
    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("flowfit.fitting.verbs.fit.fit", stop)
    assert road([values]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_inputs_stay_as_they_are(tmp_path):
    for source in (PICTURE, KEYPOINTS):
        shutil.copy(source, tmp_path)
    arguments = [tmp_path / PICTURE.name, tmp_path / KEYPOINTS.name, "--out", tmp_path]
    assert main(["fit", *map(str, arguments), *FAST]) == 0
    for source in (PICTURE, KEYPOINTS):
        assert (tmp_path / source.name).read_bytes() == source.read_bytes()
