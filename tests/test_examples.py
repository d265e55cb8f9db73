"""What a user copies runs: the numbered examples and the README's Python."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
DATA = ROOT / "examples" / "data"


def python_blocks(page: Path) -> list[str]:
    """The fenced Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_example_is_short(example):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 100


def test_fit_image_with_its_defaults_as_a_user_runs_it(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "01_fit_image.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "person 0: converged" in done.stdout
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"camera_0.npz", "camera_0.obj", "camera_0.json", "camera_overlay.png"} <= written


def test_fit_image_with_another_picture(tmp_path, monkeypatch, capsys):
    out = tmp_path / "there"
    monkeypatch.setattr(
        sys, "argv", ["01_fit_image.py", str(DATA / "astronaut.png"), "--out", str(out)]
    )
    runpy.run_path(str(ROOT / "examples" / "01_fit_image.py"), run_name="__main__")
    assert "warning: person 0: quality" in capsys.readouterr().out
    assert json.loads((out / "astronaut_0.json").read_text())["person"] == 0


def test_compare_smplify(tmp_path, monkeypatch, capsys):
    out = tmp_path / "there"
    paths = [str(DATA / "camera.png"), str(DATA / "camera_keypoints.json")]
    monkeypatch.setattr(sys, "argv", ["03_compare_smplify.py", *paths, "--out", str(out)])
    runpy.run_path(str(ROOT / "examples" / "03_compare_smplify.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "ms a person (adam)" in printed
    assert "row 0: flow and SMPLify" in printed
    assert (out / "compare.html").is_file()


def test_sample_people(tmp_path, monkeypatch, capsys):
    out = tmp_path / "there"
    monkeypatch.setattr(sys, "argv", ["04_sample_people.py", "--out", str(out)])
    runpy.run_path(str(ROOT / "examples" / "04_sample_people.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "person 0: modes of" in printed
    ankle = re.search(r"left_ankle +(\d+) cm", printed)
    shoulder = re.search(r"left_shoulder +(\d+) cm", printed)
    assert ankle
    assert shoulder
    # the picture cuts the legs off
    assert int(ankle.group(1)) > int(shoulder.group(1))
    assert (out / "camera_0_samples.npz").is_file()


def test_lift_skeletons(tmp_path, monkeypatch, capsys):
    out = tmp_path / "there"
    monkeypatch.setattr(sys, "argv", ["05_lift_skeletons.py", "--out", str(out)])
    runpy.run_path(str(ROOT / "examples" / "05_lift_skeletons.py"), run_name="__main__")
    printed = capsys.readouterr().out
    head = re.search(r"HeadTop +\S+ (\S+) ", printed)
    assert head
    assert float(head.group(1)) < -0.4  # above the pelvis
    assert "nats likelier" in printed
    assert (out / "astronaut_0.npz").is_file()


def test_multiview_makes_its_scene_and_meets_the_truth(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "02_multiview.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    off = re.findall(r"the true joints are (\d+) \(pelvis to pelvis (\d+)\) mm off", done.stdout)
    assert len(off) == 4  # two people in two frames
    assert all(int(mm) < 40 for pair in off for mm in pair)
    assert (tmp_path / "scene" / "images" / "cam3" / "frame_001.png").exists()
    assert {"frame_000_3d.png", "frame_001_cam2_overlay.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_conventions_name_the_keys_of_several_views(tmp_path):
    from flowfit import multiview

    make = runpy.run_path(str(ROOT / "examples" / "make_scene.py"))["make_scene"]
    make(tmp_path / "scene", people=1, frames=1, body="open-low", pictures=False)
    multiview(tmp_path / "scene", tmp_path / "out", body="open-low", draw=False)
    conventions = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    with np.load(tmp_path / "out" / "frame_000_p0.npz") as saved:
        assert not [key for key in saved.files if f"`{key}`" not in conventions]


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        assert len(block.splitlines()) <= 16
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "CONVERGED" in capsys.readouterr().out


def test_the_page_of_fit_names_the_keys_that_are_written(tmp_path):
    from flowfit import fit

    page = (ROOT / "docs" / "fit.md").read_text(encoding="utf-8")
    fit(DATA / "camera.png", DATA / "camera_keypoints.json", tmp_path, meshes=(), draw=False)
    with np.load(tmp_path / "camera_0.npz") as saved:
        keys = set(saved.files)
    keys |= set(json.loads((tmp_path / "camera_0.json").read_text()))
    assert not [key for key in sorted(keys) if f"`{key}`" not in page]
    conventions = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    with np.load(tmp_path / "camera_0.npz") as saved:
        assert not [key for key in saved.files if f"`{key}`" not in conventions]
