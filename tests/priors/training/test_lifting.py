"""Lifters in training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.data.skeletons.pairs import FilePairs, Mixed
from flowfit.priors.lifting.files import load_lifter
from flowfit.priors.training.lifting import LiftingLearner, lifting_losses, made_up_pairs
from flowfit.priors.training.lifting_config import (
    CONFIGS,
    FAST,
    lifting_config_from,
    read_lifting_config,
)
from flowfit.priors.training.loop import Trainer
from tests.priors.training.test_keypoints import make_mocap

SMALL = {"context": 12, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}
SEED = CONFIGS["paper"].sizes | {"context": 16, "width": 16, "hidden": 16, "steps": 2}


@pytest.fixture(scope="module")
def small_body():
    return find_body("open-low")


@pytest.fixture(scope="module")
def drawn(small_body):
    """By schema: pairs that were made up once, as if from a file."""
    found = {}
    for name, config in (("fast", FAST), ("paper", CONFIGS["paper"])):
        pairs = made_up_pairs(config, small_body, make_mocap()).draw(
            600, torch.Generator().manual_seed(0)
        )
        found[name] = FilePairs(
            pairs.keypoints, pairs.confidence, pairs.camera.focal, pairs.camera.center, pairs.joints
        )
    return found


@pytest.fixture
def make_trainer(tmp_path, drawn):
    def make(folder="run", base=FAST, validation=None, **changes):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        sizes = SMALL if base is not CONFIGS["paper"] else SEED
        config = replace(base, sizes=sizes, steps=6, batch=8, warmup=2, seed=4)
        config = replace(config, **changes)
        source = drawn["paper" if base is CONFIGS["paper"] else "fast"]
        return Trainer(config, LiftingLearner(config, source, validation=validation), path)

    return make


def train(trainer, **options):
    return list(trainer.train(progress=False, **options))


def assert_same(one, other):
    for first, second in (
        (one.learner.model.state_dict(), other.learner.model.state_dict()),
        (one.average, other.average),
    ):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name


def test_the_loss_falls(make_trainer):
    trainer = make_trainer(steps=40, batch=64, rate=5e-3, warmup=3)
    rows = [trainer.step() for _ in range(40)]
    for name in ("total", "nll", "mode_3d"):
        first, last = (np.mean([r[name] for r in part]) for part in (rows[:3], rows[-10:]))
        assert last < first - 0.1 * abs(first), name


def test_the_loss_is_prohmrs(make_trainer):
    trainer = make_trainer()
    trainer.step()
    lifter = trainer.learner.with_weights(trainer.average).double()
    pairs = trainer.learner.source.draw(8, torch.Generator().manual_seed(0))
    pairs = pairs._replace(
        keypoints=pairs.keypoints.double(),
        confidence=pairs.confidence.double(),
        camera=pairs.camera.to(dtype=torch.float64),
        joints=pairs.joints.double(),
    )
    terms = lifting_losses(lifter, pairs, 0.0, torch.Generator().manual_seed(0))
    context = lifter.condition(pairs.keypoints, pairs.confidence, pairs.camera)
    mode = lifter.mode(context).joints[:, 0].numpy()
    truth = pairs.joints.numpy()
    by_hand = np.mean([np.abs(m - t).sum() for m, t in zip(mode, truth, strict=True)])
    assert terms["mode_3d"].item() == pytest.approx(by_hand, rel=1e-12)
    density = [
        lifter.log_prob(pairs.joints[i : i + 1], context[i : i + 1]).item() for i in range(8)
    ]
    assert terms["nll"].item() == pytest.approx(-np.mean(density), rel=1e-12)


@pytest.mark.parametrize("name", ["fast", "paper", "regressor"])
def test_a_killed_run_goes_on_to_the_same_weights(make_trainer, name):
    base = CONFIGS[name]
    whole = make_trainer("whole", base)
    train(whole)
    killed = make_trainer("killed", base)
    assert not killed.resume()
    steps = killed.train(progress=False, save_every=3)
    next(steps)
    killed.step()  # lost: after the last checkpoint
    torch.manual_seed(99)  # what else the process drew does not matter
    again = make_trainer("killed", base)
    assert again.resume()
    assert again.step_number == 3
    train(again, save_every=3)
    assert again.step_number == 6
    assert_same(whole, again)
    finished = make_trainer("killed", base)
    assert finished.resume()
    assert train(finished) == []


def test_the_seed_changes_the_run(make_trainer):
    one, same, other = make_trainer("a"), make_trainer("b"), make_trainer("c", seed=5)
    for trainer in (one, same, other):
        train(trainer)
    assert_same(one, same)
    name = "encoder.enter.weight"
    assert not torch.equal(one.average[name], other.average[name])


def test_another_configuration_is_refused(make_trainer):
    make_trainer().save_state()
    for changes in ({"rate": 2e-3}, {"sizes": SMALL | {"hidden": 24}}, {"seed": 1}):
        with pytest.raises(InputError, match="another configuration") as caught:
            make_trainer(**changes).resume()
        assert "\n" not in str(caught.value)
    assert make_trainer().resume()
    assert make_trainer(steps=20).resume()  # the rate has not begun to fall


def test_a_damaged_state_is_refused(make_trainer, tmp_path):
    make_trainer().save_state()
    path = tmp_path / "run" / "state.pt"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"state\.pt cannot be resumed"):
        make_trainer().resume()


def test_the_regressor_never_sees_the_likelihood(make_trainer):
    trainer = make_trainer(base=CONFIGS["regressor"])
    row = trainer.step()
    assert row["total"] == pytest.approx(row["mode_3d"])
    assert trainer.learner.model.started
    assert trainer.step()["nll"] == 0
    scale = trainer.learner.model.flow.log_scale
    assert (scale.weight == 0).all()  # it moves no mode, so nothing has moved it


def test_export_opens_and_validation_is_repeatable(make_trainer, tmp_path):
    trainer = make_trainer(validation=make_trainer("other").learner.source)
    train(trainer)
    found = trainer.learner.validate(trainer.average, 64)
    assert found == trainer.learner.validate(trainer.average, 64)
    assert set(found) == {"nll", "mode_3d", "mpjpe_mm"}
    path = tmp_path / "lifter.safetensors"
    trainer.export(path, {"licence": "for the test"})
    opened, about = load_lifter(path)
    assert about["steps"] == 6
    assert about["config"]["batch"] == 8
    for name, value in opened.state_dict().items():
        expected = trainer.average[name]
        assert torch.equal(
            value, expected.half().float() if value.is_floating_point() else expected
        )


def test_pairs_from_files_and_mixed_with_others(drawn, small_body, tmp_path):
    made_up = made_up_pairs(FAST, small_body, make_mocap(1))
    files = drawn["fast"]
    some = files.draw(10, torch.Generator().manual_seed(1))
    match = (some.joints[:, None] == files.joints).all((-1, -2))
    assert (match.sum(-1) == 1).all()
    row = match[0].nonzero()[0, 0]
    assert torch.equal(some.camera.focal[0], files.focal[row])
    assert torch.equal(some.keypoints[0], files.keypoints[row])
    both = Mixed([files, made_up]).draw(9, torch.Generator().manual_seed(1))
    known = (both.joints[:, None] == files.joints).all((-1, -2)).any(-1)
    assert known[:5].all()
    assert not known[5:].any()
    config = replace(FAST, sizes=SMALL, steps=2, batch=16, warmup=1)
    trainer = Trainer(config, LiftingLearner(config, Mixed([files, made_up])), tmp_path)
    assert np.isfinite(trainer.step()["total"])


# --- configurations ---


def test_configurations_go_through_json():
    for config in CONFIGS.values():
        assert lifting_config_from(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"stepz": 3}, "unknown name"),
        ({"steps": 0}, "at least 1"),
        ({"steps": "many"}, "give a number"),
        ({"falling": 1.5}, "from 0 to 1"),
        ({"ema": 1.0}, "below 1"),
        ({"losses": {"mode_2d": 1.0}}, "unknown name"),
        ([1], "names and values"),
    ],
)
def test_a_wrong_configuration_is_told(tmp_path, content, word):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=word) as caught:
        read_lifting_config(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_configuration_is_told():
    with pytest.raises(InputError, match="give fast, paper, regressor or a JSON file"):
        read_lifting_config("slow")
