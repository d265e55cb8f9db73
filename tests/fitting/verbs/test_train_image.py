"""`flowfit train image`: from motion capture, from a dataset file, and what is refused."""

import json

import numpy as np
import pytest

from flowfit import train_image
from flowfit.fitting.cli.main import main
from flowfit.models.errors import InputError
from flowfit.priors.image.files import is_image_posterior, load_image_posterior
from flowfit.priors.image.prohmr import read_prohmr
from tests.priors.image.image_people import ENCODER

SMALL = {
    "sizes": {"image_size": 64, "fusion": 16, "encoder": ENCODER},
    **{"batch": 4, "warmup": 1, "keypoints_first": 0, "first_size": 32, "steps": 1},
}
SEEDS = {
    "kind": "prohmr",
    "sizes": {"depth": 18, "width": 4, "hidden": 16, "image_size": 32},
    **{"batch": 4, "steps": 1},
}


@pytest.fixture(scope="module")
def mocap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mocap")
    random = np.random.default_rng(0)
    np.savez(folder / "walk.npz", poses=0.2 * random.normal(size=(20, 72)))
    return folder


@pytest.fixture
def config(tmp_path):
    def write(content):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


def command(mocap, out, *more):
    return ["train", "image", "--mocap", str(mocap), "--out", str(out), "--body", "open-low", *more]


def test_from_motion_capture_and_then_from_the_pictures_made(mocap, config, tmp_path, capsys):
    small, out = config(SMALL), tmp_path / "run"
    arguments = ("--config", small, "--pictures", "16", "--credit", "me", "--licence", "mine")
    assert main(command(mocap, out, *arguments)) == 0
    assert "use it with flowfit fit --prior" in capsys.readouterr().out
    path = out / "posterior.safetensors"
    assert is_image_posterior(path)
    posterior, about = load_image_posterior(path)
    assert posterior.image_size == 64
    told = about["trained_on"]
    assert (told["pictures"], told["frames"], told["credit"]) == (16, 20, "me")
    assert len(list((out / "pictures" / "pictures").iterdir())) == 16
    # the same pictures, read as a dataset file that somebody gave
    again = tmp_path / "again"
    done = train_image(
        again, datasets=[(str(out / "pictures" / "people.npz"), None, 1.0)], config=small,
        body="open-low", progress=False,
    )  # fmt: skip
    other, about = load_image_posterior(done)
    assert about["trained_on"]["datasets"] == {"people": 16}
    for name, value in posterior.state_dict().items():
        assert (value == other.state_dict()[name]).all(), name


def test_what_it_begins_with_is_told(mocap, config, tmp_path, capsys):
    small, first = config(SMALL), tmp_path / "first"
    assert main(command(mocap, first, "--config", small, "--pictures", "16")) == 0
    wider = config({**SMALL, "sizes": {**SMALL["sizes"], "fusion": 24}})
    start = str(first / "posterior.safetensors")
    arguments = ("--config", wider, "--pictures", "16", "--start", start)
    capsys.readouterr()
    assert main(command(mocap, tmp_path / "second", *arguments)) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "begun with" in line]
    assert len(told) == 1
    assert f"{start}: begun with " in told[0]
    assert "new are those of fusion.enter, " in told[0]
    # the second time it goes on with its own
    assert main(command(mocap, tmp_path / "second", *arguments)) == 0
    assert "begun with" not in capsys.readouterr().err


def test_prohmrs_form(mocap, config, tmp_path):
    out = tmp_path / "run"
    assert main(command(mocap, out, "--config", config(SEEDS), "--pictures", "8")) == 0
    assert read_prohmr(out / "posterior.pt").sizes["hidden"] == 16
    assert json.loads((out / "posterior.json").read_text())["config"]["kind"] == "prohmr"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--config", "huge"), "no configuration 'huge': choose small, prohmr"),
        (("--config", "nothing.json"), "no such configuration file"),
        (("--start", "a.safetensors"), "a posterior needs it beside a.safetensors"),
        (("--start", "a.pt", "--config", "prohmr"), "no such checkpoint file"),
        (("--dataset", "a.npz"), "not both"),
        (("--images", "here"), "--images and --weight belong to --dataset"),
        (("--steps", "0"), "steps must be at least 1"),
        (("--pictures", "0"), "0 pictures"),
        (("--validation", "there"), "takes no --validation"),
        (("--base", "nothing.safetensors"), "no such file"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(mocap, tmp_path, capsys, more, message):
    out = tmp_path / "run"
    assert main(command(mocap, out, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_other_mistakes(mocap, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", "image", "--out", out]) == 2
    assert "give --mocap DIR" in capsys.readouterr().err
    assert main(["train", "keypoints", "--out", out]) == 2
    assert "train keypoints: give --mocap DIR" in capsys.readouterr().err
    assert main(["train", "keypoints", "--mocap", str(mocap), "--out", out, "--pictures", "3"]) == 2
    assert "takes no --pictures; train image does" in capsys.readouterr().err
    assert main(["train", "lifting", "--out", out, "--start", "a.safetensors"]) == 2
    assert "train lifting takes no --start" in capsys.readouterr().err
    given = ["--dataset", "a.npz", "--dataset", "b.npz", "--images", "x"]
    assert main(["train", "image", "--out", out, *given]) == 2
    assert "2 of --dataset, 1 of --images" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such dataset file"):
        train_image(out, datasets=[("a.npz", None, 1.0)])
