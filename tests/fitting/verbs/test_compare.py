"""`flowfit compare`: what it reads, what it writes, what it refuses, what it passes over."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from flowfit import compare
from flowfit.fitting.cli.main import main
from flowfit.fitting.comparison.inputs import crowds, read_inputs
from flowfit.fitting.comparison.picture import PANEL, Fitted, person_picture
from flowfit.fitting.comparison.table import as_csv, markdown, summarise
from flowfit.fitting.comparison.truth import distances, load_truth
from flowfit.fitting.reading.pictures import read_picture
from flowfit.models.errors import InputError
from tests.fitting.cli.test_fit import assert_refused

DATA = Path(__file__).parents[3] / "examples" / "data"
ROWS = ("regression", "flow", "smplify+mode", "spin")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Both example pictures, a picture without keypoints and one with a broken file."""
    folder = tmp_path_factory.mktemp("compare")
    photos, keypoints, out = (folder / name for name in ("photos", "keypoints", "out"))
    photos.mkdir()
    keypoints.mkdir()
    for name in ("astronaut", "camera"):
        shutil.copy(DATA / f"{name}.png", photos / f"{name}.png")
    shutil.copy(DATA / "astronaut_keypoints.json", keypoints / "astronaut_keypoints.json")
    shutil.copy(DATA / "camera_keypoints.json", keypoints / "camera_openpose.json")
    shutil.copy(DATA / "camera.png", photos / "alone.png")
    shutil.copy(DATA / "camera.png", photos / "broken.png")
    (keypoints / "broken_keypoints.json").write_text("{")
    (photos / "notes.txt").write_text("no picture")
    compared = compare(photos, keypoints, out, recipes=ROWS, body="open-low")
    return photos, keypoints, out, compared


def cells_of(text):
    return [[c.strip() for c in line.strip("|").split("|")] for line in text if line[:1] == "|"]


# --- what it writes ---


def test_one_row_a_recipe(done):
    *_, out, compared = done
    assert [row["recipe"] for row in compared.rows] == list(ROWS)
    assert [row["people"] for row in compared.rows] == [2] * 4
    assert [row["solver"] for row in compared.rows] == ["none", "lm", "lm", "adam"]
    # neither a regression nor Adam has a test of convergence
    assert [row["unfinished"] is None for row in compared.rows] == [True, False, False, True]
    by_name = {row["recipe"]: row for row in compared.rows}
    assert by_name["flow"]["reprojection_px"] < by_name["regression"]["reprojection_px"]
    assert all(row["seconds"] > 0 for row in compared.rows)
    assert "pa_mpjpe_mm" not in "".join((out / "table.md").read_text())
    assert set(by_name["spin"]["energy_terms"]) == {"reprojection", "pose", "angle", "shape"}


def test_the_three_tables_say_the_same(done):
    *_, out, compared = done
    content = json.loads((out / "table.json").read_text())
    with (out / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    table = cells_of((out / "table.md").read_text().splitlines()[: 2 + len(ROWS)])[2:]
    for row, saved, line, texts in zip(
        compared.rows, content["recipes"], lines, table, strict=True
    ):
        assert saved == row
        assert line["recipe"] == texts[0] == row["recipe"]
        assert float(line["reprojection_px"]) == pytest.approx(row["reprojection_px"])
        assert texts[5] == f"{row['reprojection_px']:.1f}"
        assert float(line["energy"]) == pytest.approx(row["energy"])
        for term, value in row["energy_terms"].items():
            assert float(line[f"energy_{term}"]) == pytest.approx(value)
        assert sum(row["energy_terms"].values()) == pytest.approx(row["energy"])
    people = {(p["person"], p["recipe"]) for p in content["people"]}
    assert people == {(f"{n}_0", r) for n in ("astronaut", "camera") for r in ROWS}
    warned = [p for p in content["people"] if p["warnings"]]
    assert warned  # both are cut by the frame


def test_what_cannot_be_used_is_listed_and_passed_over(done):
    *_, out, compared = done
    names = dict(compared.passed_over)
    assert names.keys() == {"alone.png", "broken.png"}
    assert "alone_keypoints.json" in names["alone.png"]
    assert "not valid JSON" in names["broken.png"]
    assert "broken.png" in (out / "table.md").read_text()
    assert "broken.png" in (out / "compare.html").read_text()


def test_files_of_each_person(done):
    *_, out, compared = done
    assert {p.name for p in out.iterdir()} == {p.name for p in compared.files}
    for name in ("astronaut", "camera"):
        assert (out / f"{name}_0_compare.png").is_file()
        for row in ROWS:
            with np.load(out / f"{name}_0_{row}.npz") as saved:
                assert saved["joints3d"].shape == (24, 3)
                assert np.isfinite(saved["body_pose"]).all()
                assert "vertices" not in saved
                assert saved["image_size"].tolist() == [512, 512]


def test_the_picture_shows_each_recipe_in_its_colour(done):
    *_, out, _ = done
    pixels = read_picture(out / "camera_0_compare.png").pixels.astype(int)
    width = (pixels.shape[1] - 4 * len(ROWS)) / (1 + len(ROWS))
    tint = {}
    for place, row in enumerate(ROWS, 1):
        left = round(place * (width + 4))
        side = pixels[PANEL + 40 :, left : left + int(width)]
        body = side[side.max(-1) < 225].mean(0)  # what is darker than the paper
        tint[row] = body - body.mean()
    assert tint["regression"].argmax() == 0
    assert tint["flow"].argmax() == 1
    assert abs(tint["flow"]).max() > 8 < abs(tint["regression"]).max()
    for grey in ("smplify+mode", "spin"):
        assert abs(tint[grey]).max() < 6


class Page(HTMLParser):
    """Tags, sources of pictures, and whether all tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        found = dict(attrs)
        if tag == "img":
            self.images.append(found["src"])
        self.links += [found[k] for k in ("href", "src") if k in found]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(done):
    *_, out, _ = done
    text = (out / "compare.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.images) == 2
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    for source in page.images:
        data = base64.b64decode(source.partition(",")[2])
        (out.parent / "page.jpg").write_bytes(data)
        assert read_picture(out.parent / "page.jpg").height > 2 * PANEL
    assert not re.search(r"https?://", text)
    for row in ROWS:
        assert f"<td>{row}</td>" in text


def test_names_are_escaped(tmp_path, capsys):
    photo = tmp_path / "<b>&.png"
    shutil.copy(DATA / "camera.png", photo)
    keypoints = DATA / "camera_keypoints.json"
    out = tmp_path / "out"
    arguments = ["compare", str(photo), str(keypoints), "--out", str(out), "--body", "open-low"]
    assert main([*arguments, "--recipes", "regression"]) == 0
    text = (out / "compare.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;_0" in text
    assert "look at compare.html" in capsys.readouterr().out


# --- truth ---


def test_distances_from_the_truth(done, tmp_path, capsys):
    photos, keypoints, out, _ = done
    with np.load(out / "camera_0_flow.npz") as saved:
        truth = {k: saved[k] for k in ("joints3d", "global_orient")}
    moved = {**truth, "joints3d": truth["joints3d"] + np.array([1.0, 2.0, 3.0], np.float32)}
    np.savez(tmp_path / "camera_0.npz", **moved)
    again = tmp_path / "again"
    place = [str(photos), str(keypoints), "--out", str(again), "--body", "open-low"]
    options = ["--recipes", "flow", "regression", "--truth", str(tmp_path), "--no-pictures"]
    assert main(["compare", *place, *options]) == 0
    flow, regression = json.loads((again / "table.json").read_text())["recipes"]
    assert flow["mpjpe_mm"] < 0.1
    assert flow["orientation_deg"] < 0.01
    assert 5 < regression["pa_mpjpe_mm"] < regression["mpjpe_mm"]
    assert "PA-MPJPE mm" in (again / "table.md").read_text()
    printed = capsys.readouterr()
    assert "PA-MPJPE mm" in printed.out
    assert "broken.png passed over" in printed.err
    assert not list(again.glob("*.png"))
    people = json.loads((again / "table.json").read_text())["people"]
    assert {p["person"] for p in people if "mpjpe_mm" in p} == {"camera_0"}


def test_truth_of_many_in_one_file(tmp_path):
    rng = np.random.default_rng(0)
    joints, turns = rng.normal(size=(3, 24, 3)), rng.normal(size=(3, 3))
    np.savez(
        tmp_path / "t.npz",
        joints3d=joints,
        global_orient=turns,
        names=np.array(["b_0", "a_1", "else_0"]),
    )
    found = load_truth(tmp_path / "t.npz", ["a_0", "a_1", "b_0"])
    assert found.keys() == {"a_1", "b_0"}
    np.testing.assert_array_equal(found["a_1"].joints3d.numpy(), joints[1])
    # a body of twice the size, turned about the upright axis
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    far = distances(
        found["a_1"],
        torch.from_numpy(2 * joints[1] @ turn.T),
        torch.from_numpy(turn) @ found["a_1"].orientation,
    )
    assert far["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert far["mpjpe_mm"] > 100
    assert far["orientation_deg"] == pytest.approx(90)


def write_bad_truth(path, kind):
    joints = np.zeros((24, 3))
    if kind == "text":
        path.write_text("x")
    elif kind == "pickle":
        np.savez(path, joints3d=np.array([{"a": 1}], dtype=object))
    elif kind == "none":
        np.savez(path, other=joints)
    elif kind == "shape":
        np.savez(path, joints3d=joints[:14])
    elif kind == "names":
        np.savez(path, joints3d=joints[None], names=np.array(["a_0", "b_0"]))
    elif kind == "else":
        np.savez(path, joints3d=joints[None], names=np.array(["else_0"]))


@pytest.mark.parametrize("kind", ["missing", "text", "pickle", "none", "shape", "names", "else"])
def test_truth_that_cannot_be_used(tmp_path, kind):
    write_bad_truth(tmp_path / "t.npz", kind)
    with pytest.raises(InputError, match=r"t\.npz") as caught:
        load_truth(tmp_path / "t.npz", ["a_0", "b_0"])
    assert "\n" not in str(caught.value)


# --- input ---


def test_people_of_different_schemas_and_cameras(tmp_path):
    for name, width in (("a", 40), ("b", 80)):
        picture = read_picture(DATA / "camera.png").pixels[:width, :100]
        from flowfit.fitting.drawing.overlay import write_png

        write_png(tmp_path / f"{name}.png", picture)
    for name, count, people in (("a", 25, 2), ("b", 17, 1)):
        values = [20.0, 20.0, 1.0, 30.0, 35.0, 1.0] + [25.0, 28.0, 0.5] * (count - 2)
        content = {"people": [{"pose_keypoints_2d": values}] * people}
        (tmp_path / f"{name}_keypoints.json").write_text(json.dumps(content))
    inputs = read_inputs(tmp_path, tmp_path, focal=100.0)
    first, second = crowds(inputs, dtype=torch.float64, device="cpu")
    assert first.names == ("a_0", "a_1")
    assert second.names == ("b_0",)
    assert first.problem.camera.center.tolist() == [[50, 20]] * 2
    assert second.problem.camera.center.tolist() == [[50, 40]]
    assert second.problem.camera.focal.tolist() == [[100, 100]]
    assert len(second.problem.schema) == 17


def test_the_usual_endings_go_before_a_bare_name(tmp_path):
    shutil.copy(DATA / "camera.png", tmp_path / "x.png")
    (tmp_path / "x.json").write_text("{}")
    shutil.copy(DATA / "camera_keypoints.json", tmp_path / "x_openpose.json")
    inputs = read_inputs(tmp_path, tmp_path)
    assert inputs.pictures[0].detections.path.name == "x_openpose.json"
    inputs = read_inputs(tmp_path, tmp_path / "x_openpose.json")
    assert [s.stem for s in inputs.pictures] == ["x"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipes", "smplyfy"], ["smplyfy", "choose from"]),
        (["--recipes", "flow+mode"], ["mode anyway"]),
        (["--solver", "newton"], ["newton", "lm, lbfgs, adam"]),
        (["--truth", "nowhere.npz"], ["nowhere.npz"]),
        (["--mixture", "keypoint-flow", "--recipes", "smplify"], ["mixture"]),
        (["--mixture", "keypoint-flow", "--recipes", "gmm"], ["gmm_08.pkl"]),
        (["--prior", "gmm"], ["posterior"]),
        (["--focal", "-3"], ["focal"]),
        (["--threads", "0"], ["--threads"]),
        (["--body", "nobody.pkl"], ["nobody.pkl"]),
    ],
)
def test_bad_options(tmp_path, capsys, options, words):
    place = [str(DATA / "camera.png"), str(DATA / "camera_keypoints.json")]
    status = main(["compare", *place, "--out", str(tmp_path / "out"), *options])
    assert_refused(status, capsys, tmp_path, *words)


@pytest.mark.parametrize("case", ["no folder", "empty", "no keypoints", "no match", "all bad"])
def test_bad_places(tmp_path, capsys, case):
    folder, keypoints = tmp_path / "in", DATA
    folder.mkdir()
    if case == "no folder":
        folder = tmp_path / "nowhere"
    elif case == "no keypoints":
        shutil.copy(DATA / "camera.png", folder / "x.png")
    elif case == "no match":
        shutil.copy(DATA / "camera.png", folder / "x.png")
        keypoints = DATA / "camera_keypoints.json"
    elif case == "all bad":
        for name in "ab":
            (folder / f"{name}.png").write_bytes(b"no picture")
            shutil.copy(DATA / "camera_keypoints.json", folder / f"{name}_keypoints.json")
        keypoints = folder
    word = {
        "no folder": "nowhere",
        "empty": "no picture",
        "no keypoints": "x_keypoints.json",
        "no match": "camera",
        "all bad": "none of 2",
    }[case]
    status = main(["compare", str(folder), str(keypoints), "--out", str(tmp_path / "out")])
    assert_refused(status, capsys, tmp_path, word)


# --- parts ---


def person(status="converged", **measures):
    return {"status": status, "energy": {"total": 3.0, "pose": 1.0, "reprojection": 2.0}} | measures


def test_a_row_leaves_out_who_failed():
    people = [
        person(reprojection_px=4.0, quality=0.5),
        person("max_iterations", reprojection_px=6.0, quality=0.7),
        person("invalid", reprojection_px=float("nan"), quality=0.0),
    ]
    row = summarise("gmm", "lm", 6.0, people)
    assert (row["people"], row["failed"], row["unfinished"]) == (3, 1, 1)
    assert row["reprojection_px"] == pytest.approx(5)
    assert row["quality"] == pytest.approx(0.6)
    assert row["seconds"] == pytest.approx(2)
    assert row["energy"] == pytest.approx(3)
    assert row["energy_terms"] == {"pose": 1.0, "reprojection": 2.0}
    assert row["mpjpe_mm"] is None
    nobody = summarise("gmm", "lm", 1.0, [person("invalid")])
    assert nobody["energy"] is None
    assert "| gmm | lm | 1 | 1 | 0 |" in markdown([nobody], [])
    assert as_csv([nobody, row]).count("\n") == 3


@pytest.mark.parametrize(
    "box", [(10, 10, 500, 30), (10, 10, 20, 500), (0, 0, 3, 3), (505, 0, 511, 9)]
)
def test_pictures_of_odd_boxes(box):
    left, top, right, bottom = box
    keypoints = np.array([[left, top], [right, bottom], [0, 0]], float)
    seen = np.array([1.0, 1.0, 0.0])
    photo = np.full((512, 512, 3), 99, np.uint8)
    drawn = person_picture(
        photo, 700.0, keypoints, seen, [(0, 1)], [Fitted("a", "failed", None)], engine="raycast"
    )
    assert drawn.shape[0] == 2 * PANEL + 4
    assert 2 * 0.4 * PANEL < drawn.shape[1] < 2 * 1.3 * PANEL
