"""Flowfit as others install it: a wheel, beside somebody's own `models`, `priors` and `fitting`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "data"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this checkout, built without network."""
    pytest.importorskip("setuptools", reason="setuptools builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files behind
    unpacked = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "out", "runs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unpacked)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def research(wheel, tmp_path_factory) -> Path:
    """A folder with modules of the names that Flowfit's floors have."""
    folder = tmp_path_factory.mktemp("research")
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("OWN = 1\n")
    for name in ("priors", "fitting"):
        (folder / f"{name}.py").write_text("OWN = 1\n")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """A fresh interpreter in the folder, with the wheel's content before all else."""
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_has_all_data_and_no_old_names(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    there = {
        str(Path("flowfit") / path.relative_to(ROOT))
        for floor in ("models", "priors", "fitting")
        for path in (ROOT / floor).rglob("*")
        if path.suffix in (".npz", ".json", ".safetensors", ".py")
    }
    assert len(there) > 200
    assert there - names == set()
    assert "flowfit/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"flowfit"}


def test_a_fit_beside_a_research_checkout(research):
    code = (
        "import flowfit, models, priors, fitting\n"
        "assert models.OWN and priors.OWN and fitting.OWN\n"
        "import sys; assert 'torch' not in sys.modules\n"
        "from flowfit import fit\n"
        "done = fit(sys.argv[1], sys.argv[2], None)\n"
        "print(flowfit.__file__, len(done.result.status))\n"
    )
    given = [str(DATA / "camera.png"), str(DATA / "camera_keypoints.json")]
    done = run(research, "-c", code, *given)
    assert not done.returncode, done.stderr
    file, people = done.stdout.split()
    assert Path(file).is_relative_to(research)
    assert people == "1"


def test_the_command_beside_a_research_checkout(research):
    done = run(research, "-m", "flowfit", "--version")
    assert not done.returncode, done.stderr
    assert done.stdout.startswith("flowfit ")
    given = [str(DATA / "camera.png"), str(DATA / "camera_keypoints.json")]
    done = run(research, "-m", "flowfit", "fit", *given, "--out", "out", "--no-overlay")
    assert not done.returncode, done.stderr
    assert (research / "out" / "camera_0.npz").is_file()
