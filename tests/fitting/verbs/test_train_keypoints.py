"""`flowfit train keypoints`: from motion capture, from other weights, and what is refused."""

import json

import numpy as np
import pytest

from flowfit.fitting.cli.main import main
from flowfit.priors.keypoints.files import file_hash, load_posterior

SIZES = {"context": 8, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}


@pytest.fixture
def command(tmp_path):
    """The command line for a folder, with a configuration of a second's work."""
    mocap = tmp_path / "mocap"
    mocap.mkdir()
    random = np.random.default_rng(0)
    np.savez(mocap / "walk.npz", poses=0.2 * random.normal(size=(20, 72)))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"sizes": SIZES, "steps": 2, "batch": 8, "warmup": 1}))

    def make(out, *more):
        settings = ("--config", str(config), "--body", "open-low")
        return [
            *("train", "keypoints", "--mocap", str(mocap), "--out", str(tmp_path / out)),
            *settings,
            *more,
        ]

    return make


def test_one_run_begins_with_another_and_says_so(command, tmp_path, capsys):
    assert main(command("first", "--credit", "me", "--licence", "mine")) == 0
    assert "use it with flowfit fit --prior" in capsys.readouterr().out
    start = tmp_path / "first" / "posterior.safetensors"
    _, about = load_posterior(start)
    assert (about["steps"], about["trained_on"]["credit"]) == (2, "me")
    assert "began_with" not in about
    assert main(command("next", "--start", str(start))) == 0
    _, about = load_posterior(tmp_path / "next" / "posterior.safetensors")
    assert about["began_with"] == {
        "file": "posterior.safetensors",
        "sha256": file_hash(start),
        "steps": 2,
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--start", "nothing.safetensors"), "nothing.safetensors cannot be read"),
        (("--start", "keypoint-flow"), 'name them in --config under "sizes"'),
        (("--config", "nothing.json"), "no such configuration file"),
        (("--steps", "0"), "at least 1 step"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(command, tmp_path, capsys, more, message):
    assert main(command("run", *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_is_exported_as_far_as_it_has_come(command, tmp_path, capsys):
    assert main(command("run", "--export-now")) == 2
    assert "no run to export" in capsys.readouterr().err
    assert main(command("run")) == 0
    checkpoint = tmp_path / "run" / "posterior.safetensors"
    ended = checkpoint.read_bytes()
    checkpoint.unlink()
    state = (tmp_path / "run" / "state.pt").read_bytes()
    assert main(command("run", "--export-now", "--steps", "2")) == 0
    assert checkpoint.read_bytes() == ended
    assert (tmp_path / "run" / "state.pt").read_bytes() == state


def test_further_shapes_and_blocks_from_smaller_weights(command, tmp_path):
    assert main(command("small")) == 0
    larger = tmp_path / "larger.json"
    sizes = {**SIZES, "depth": 3, "hears": True}
    settings = {"up_told": 0.5, "postures": {"clusters": 3}, "physique": {"children": 0.3}}
    settings |= {"sizes": sizes, "steps": 2, "batch": 8, "warmup": 1}
    larger.write_text(json.dumps({**settings, "offsets": {"shares": [1.0, 1.0, 0.0]}}))
    start = str(tmp_path / "small" / "posterior.safetensors")
    grown = command("grown", "--start", start)
    grown[grown.index("--config") + 1] = str(larger)
    grown[grown.index("--body") + 1] = "open-low+proportions"
    grown[grown.index("--mocap") + 2 : grown.index("--mocap") + 2] = [str(tmp_path / "mocap")]
    assert main(grown) == 0
    posterior, about = load_posterior(tmp_path / "grown" / "posterior.safetensors")
    assert (about["body"], posterior.num_betas) == ("open-low+proportions", 18)
    assert about["trained_on"]["sequences"] == 2
    assert posterior.encoder.hears
