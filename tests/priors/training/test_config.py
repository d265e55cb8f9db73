from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from flowfit.models.errors import InputError
from flowfit.priors.training.keypoint_config import TrainingConfig, config_from, read_config


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"sizes": {"hidden": 64}, "losses": {"nll": 0.5}}))
    made, default = read_config(path), TrainingConfig()
    assert made.sizes == {**default.sizes, "hidden": 64}
    assert made.losses.nll == 0.5
    assert made.losses.mode_3d == default.losses.mode_3d
    assert made.steps == default.steps


def test_a_configuration_survives_a_file():
    config = TrainingConfig(steps=7, rate=1e-4)
    assert config_from(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"step": 3}, "step"),
        ({"losses": {"nil": 1}}, "nil"),
        ({"steps": "many"}, "steps"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"falling": 1.5}, "falling"),
        ({"falling": -0.1}, "falling"),
        ([1, 2], "names and values"),
    ],
)
def test_nonsense_is_refused_in_one_line(content, said):
    with pytest.raises(InputError, match=said) as error:
        config_from(content, "run.json")
    assert "run.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_no_json(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_config(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"steps": ')
    with pytest.raises(InputError, match="no JSON"):
        read_config(tmp_path / "torn.json")
