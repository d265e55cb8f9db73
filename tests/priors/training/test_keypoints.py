"""The training loop, with keypoint posteriors on a handful of made-up recordings."""

from __future__ import annotations

import csv
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, COCO17
from flowfit.priors.data.people.disguise import disguise
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.keypoints.draw_calibration import DrawCalibration
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.training.config import rate_factor
from flowfit.priors.training.keypoint_config import TrainingConfig
from flowfit.priors.training.keypoint_losses import LossWeights
from flowfit.priors.training.keypoints import KeypointLearner
from flowfit.priors.training.loop import Trainer

SIZES = {"context": 8, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}
LOSSES = (
    *("nll", "expected_2d", "mode_2d", "mode_3d", "mode_theta", "mode_betas", "orthonormal"),
    "camera",
)


def make_mocap(seed=0):
    rng = np.random.default_rng(seed)
    return Mocap(
        0.2 * rng.normal(size=(40, 24, 3)),
        np.repeat([0, 1], 20),
        ("one", "two"),
        ("walk", "wave"),
    )


def make_config(**changes):
    settings = {"steps": 6, "batch": 16, "warmup": 2, "rate": 1e-3, "seed": 4}
    return TrainingConfig(**{"sizes": SIZES, **settings, **changes})


@pytest.fixture(scope="module")
def small_body():
    return find_body("open-low")


@pytest.fixture
def make_trainer(tmp_path, small_body):
    def make(folder="run", start=None, validation=None, **changes):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        config = make_config(**changes)
        learner = KeypointLearner(
            config, small_body, make_mocap(), validation=validation, start=start
        )
        return Trainer(config, learner, path)

    return make


@pytest.fixture
def make_mixed(tmp_path, small_body):
    def make(validation=None):
        config = make_config()
        learner = KeypointLearner(
            config, small_body, make_mocap(), validation=validation, mixed=True
        )
        return Trainer(config, learner, tmp_path)

    return make


def train(trainer, **options):
    return list(trainer.train(progress=False, **options))


def assert_same_weights(a, b):
    for first, second in (
        (a.learner.model.state_dict(), b.learner.model.state_dict()),
        (a.average, b.average),
    ):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name


def test_the_loss_falls(make_trainer):
    trainer = make_trainer(steps=30, rate=5e-3, warmup=3)
    rows = [trainer.step() for _ in range(30)]
    assert set(rows[0]) == {"total", "gradient", *LOSSES}
    assert all(np.isfinite(list(row.values())).all() for row in rows)

    def mean(name, some):
        return np.mean([row[name] for row in some])

    for name in ("total", "nll", "mode_3d"):
        assert mean(name, rows[-5:]) < 0.9 * mean(name, rows[:3]), name


# --- the learning rate ---


def test_the_rate_rises_stays_and_falls():
    config = TrainingConfig(steps=1000, warmup=100, falling=0.3)
    assert config.plateau_ends == 700
    rise = [rate_factor(step, config) for step in range(100)]
    assert rise == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert all(rate_factor(step, config) == 1 for step in range(99, 701))
    fall = [rate_factor(step, config) for step in range(700, 1000)]
    assert all(later < earlier for earlier, later in pairwise(fall))
    assert fall[75] == pytest.approx(1 - 0.99 / 2)  # a quarter of the way, with the root
    assert fall[-1] == pytest.approx(0.01, abs=0.002)
    assert rate_factor(5000, config) == pytest.approx(0.01)


def test_the_built_in_configuration_ends_at_one_per_cent():
    config = TrainingConfig()
    assert rate_factor(0, config) < 0.01
    assert rate_factor(config.steps // 2, config) == 1
    assert rate_factor(config.steps - 1, config) == pytest.approx(0.01, abs=5e-4)


def test_until_the_fall_the_rate_does_not_depend_on_the_steps():
    short, long = TrainingConfig(steps=1000), TrainingConfig(steps=4000)
    ends = short.plateau_ends
    assert ends < long.plateau_ends

    def rates(config):
        return [rate_factor(step, config) for step in range(ends + 50)]

    assert rates(short)[: ends + 1] == rates(long)[: ends + 1]
    assert max(rates(short)[ends + 1 :]) < 1 == min(rates(long)[short.warmup :])


@pytest.mark.parametrize("changes", [{"steps": 1}, {"steps": 3, "warmup": 8}, {"falling": 0.0}])
def test_the_rate_of_odd_configurations(changes):
    config = make_config(**changes)
    rates = [rate_factor(step, config) for step in range(config.steps + 2)]
    assert all(0 < rate <= 1 for rate in rates)


def test_the_optimizer_gets_the_rate(make_trainer):
    trainer = make_trainer(steps=6, warmup=2)
    used = []
    for _ in range(6):
        trainer.step()
        used.append(trainer.optimizer.param_groups[0]["lr"])
    expected = [0.5, 1, 1, 1, 1, 1 - 0.99 * 0.5**0.5]
    assert used == pytest.approx([1e-3 * factor for factor in expected])


# --- the same weights again ---


def test_steps_are_the_same_in_every_run(make_trainer):
    first, second, other = make_trainer("a"), make_trainer("b"), make_trainer("c", seed=5)
    train(first)
    train(second)
    train(other)
    assert_same_weights(first, second)
    weight = "encoder.enter.weight"
    assert not torch.equal(first.average[weight], other.average[weight])
    assert not torch.equal(first.average[weight], first.learner.model.state_dict()[weight])


@pytest.mark.parametrize("adversarial", [0.0, 0.01])
def test_a_killed_run_goes_on_to_the_same_weights(make_trainer, adversarial):
    make = partial(make_trainer, losses=LossWeights(adversarial=adversarial))
    whole = make("whole")
    train(whole)
    killed = make("killed")
    assert not killed.resume()
    steps = killed.train(progress=False, save_every=3)
    next(steps)
    killed.step()  # lost: after the last checkpoint
    del killed, steps
    torch.manual_seed(99)  # what else the process drew does not matter
    again = make("killed")
    assert again.resume()
    assert again.step_number == 3
    train(again, save_every=3)
    assert again.step_number == 6
    assert_same_weights(whole, again)
    for part in ("exp_avg", "exp_avg_sq"):
        for first, second in zip(
            whole.optimizer.state.values(), again.optimizer.state.values(), strict=True
        ):
            assert torch.equal(first[part], second[part])


def test_a_finished_run_has_nothing_to_do(make_trainer):
    train(make_trainer())
    again = make_trainer()
    assert again.resume()
    assert train(again) == []


@pytest.mark.parametrize("steps", [10, 14])
def test_a_run_made_longer_on_the_plateau_is_as_if_it_always_had_been(make_trainer, steps):
    whole = make_trainer("whole", steps=steps)
    train(whole)
    short = make_trainer("short")
    for _ in range(short.config.plateau_ends):  # the last moment
        short.step()
    short.save_state()
    longer = make_trainer("short", steps=steps)
    assert longer.resume()
    assert longer.step_number == 4
    train(longer)
    assert longer.step_number == steps
    assert_same_weights(whole, longer)
    again = make_trainer("short", steps=steps)
    assert again.resume()  # and is from then on a run of so many steps
    assert again.step_number == steps


def test_a_run_may_be_made_shorter_too(make_trainer):
    trainer = make_trainer(steps=10)
    for _ in range(6):
        trainer.step()
    trainer.save_state()
    shorter = make_trainer(steps=8)
    assert shorter.config.plateau_ends == 6
    assert shorter.resume()


# --- beginning with other weights ---


@pytest.fixture
def trained(make_trainer, tmp_path):
    """A checkpoint of other weights than a run begins with by itself."""
    trainer = make_trainer("before", seed=8)
    train(trainer)
    path = tmp_path / "before" / "posterior.safetensors"
    trainer.export(path, {})
    return path


def test_it_begins_with_the_weights_of_a_checkpoint(make_trainer, trained):
    wanted, _ = load_posterior(trained)
    begun = make_trainer(start=trained)
    assert begun.step_number == 0
    for name, value in begun.learner.model.state_dict().items():
        assert torch.equal(value, wanted.state_dict()[name]), name
        assert torch.equal(begun.average[name], value), name
    assert all(p.requires_grad for p in begun.learner.model.parameters())
    others = make_trainer("other").learner.model.state_dict()
    assert any(not torch.equal(v, others[k]) for k, v in wanted.state_dict().items())


def test_a_killed_run_with_a_start_goes_on_to_the_same_weights(make_trainer, trained):
    whole = make_trainer("whole", start=trained)
    train(whole)
    killed = make_trainer("killed", start=trained)
    for _ in range(3):
        killed.step()
    killed.save_state()
    again = make_trainer("killed", start=trained)
    assert again.resume()
    train(again)
    assert_same_weights(whole, again)


def test_a_run_does_not_go_on_with_another_start(make_trainer, trained):
    make_trainer("run", start=trained).save_state()
    with pytest.raises(InputError, match="another configuration or start"):
        make_trainer("run").resume()
    make_trainer("plain").save_state()
    with pytest.raises(InputError, match="another configuration or start"):
        make_trainer("plain", start=trained).resume()


def test_a_start_of_another_kind_is_refused(make_trainer, trained, tmp_path, small_body):
    with pytest.raises(InputError, match=r"has the sizes .* the configuration has others"):
        make_trainer("other", start=trained, sizes=SIZES | {"hidden": 24})
    with pytest.raises(InputError, match=r"is for body25 keypoints, not for coco17"):
        KeypointLearner(make_config(), small_body, make_mocap(), schema=COCO17, start=trained)
    with pytest.raises(InputError, match="cannot be read"):
        make_trainer("other", start=tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("begun", "steps_done", "wanted"),
    [(6, 5, 10), (6, 6, 10), (10, 6, 7), (10, 6, 5)],
    ids=["falls", "is over", "would fall", "would be over"],
)
def test_another_number_of_steps_is_refused_after_the_plateau(
    make_trainer, begun, steps_done, wanted
):
    trainer = make_trainer(steps=begun)
    for _ in range(steps_done):
        trainer.step()
    trainer.save_state()
    with pytest.raises(InputError, match="another configuration") as caught:
        make_trainer(steps=wanted).resume()
    assert "\n" not in str(caught.value)
    assert make_trainer(steps=begun).resume()


def test_another_configuration_is_refused(make_trainer):
    make_trainer().save_state()
    for changes in (
        {"rate": 2e-3},
        {"sizes": SIZES | {"hidden": 24}},
        {"falling": 0.2},
        {"steps": 9, "rate": 2e-3},
    ):
        with pytest.raises(InputError, match="another configuration") as caught:
            make_trainer(**changes).resume()
        assert "\n" not in str(caught.value)
        assert "state.pt" in str(caught.value)
    assert make_trainer().resume()


class _Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "code", "list", "parts", "weights"])
def test_a_damaged_state_is_refused(make_trainer, tmp_path, kind):
    trainer = make_trainer()
    trainer.save_state()
    path = tmp_path / "run" / "state.pt"
    whole = torch.load(path, weights_only=True)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no state")
    elif kind == "code":
        torch.save({"config": _Bomb(tmp_path / "ran")}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "parts":
        torch.save({k: v for k, v in whole.items() if k != "optimizer"}, path)
    else:
        whole["weights"].pop("encoder.enter.weight")
        torch.save(whole, path)
    with pytest.raises(InputError, match=r"state\.pt") as caught:
        make_trainer().resume()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_state_is_written_whole(make_trainer, tmp_path):
    make_trainer().save_state()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["state.pt"]


def test_export_opens_and_gives_the_same_mode(make_trainer, tmp_path):
    trainer = make_trainer()
    train(trainer)
    path = tmp_path / "out.safetensors"
    trainer.export(path, {"licence": "for the test"})
    opened, about = load_posterior(path)
    assert about["schema"] == "body25"
    assert about["steps"] == 6
    assert about["licence"] == "for the test"
    assert about["config"]["batch"] == 16
    people, _, _ = trainer.learner.draw(0)
    averaged = trainer.learner.with_weights(trainer.average)
    seen = people.keypoints, people.confidence, people.camera
    got, expected = (p.mode(p.condition(*seen)) for p in (opened, averaged))
    torch.testing.assert_close(got.vectors, expected.vectors, rtol=0, atol=0.02)
    rounded = {k: v.half() if v.is_floating_point() else v for k, v in trainer.average.items()}
    averaged.load_state_dict(rounded)
    exact = averaged.mode(averaged.condition(*seen))
    torch.testing.assert_close(got.vectors, exact.vectors, rtol=0, atol=0)


def test_the_log_has_rows(make_trainer, tmp_path):
    trainer = make_trainer(validation=make_mocap(1))
    rows = train(trainer, save_every=2, validate_every=4)
    assert len(rows) == 3
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {r["step"] for r in table} == {"2", "4", "6"}
    names = {r["name"] for r in table if r["step"] == "2"}
    assert names == {"total", "gradient", "people_per_second", *LOSSES}
    assert all(np.isfinite(float(r["value"])) for r in table)
    with_validation = {r["step"] for r in table if r["name"].startswith("val_")}
    assert with_validation == {"4", "6"}
    first = next(r for r in table if r["name"] == "nll")
    assert float(first["value"]) == pytest.approx(rows[0]["nll"], rel=1e-4)


def test_validation_is_finite_and_repeats(make_trainer):
    trainer = make_trainer(validation=make_mocap(1))
    train(trainer)
    found = trainer.learner.validate(trainer.average, people=24)
    assert set(found) == {f"{kind}_{name}" for kind in ("plain", "cut") for name in LOSSES}
    assert np.isfinite(list(found.values())).all()
    assert trainer.learner.validate(trainer.average, people=24) == found
    assert trainer.learner.model.flow.steps[0][0].initialized


def test_draws_are_calibrated_by_other_recordings(make_trainer):
    trainer = make_trainer(validation=make_mocap(1))
    train(trainer)
    found = trainer.learner.calibrated(trainer.average, people=64)
    assert found.noise == trainer.config.losses.target_noise
    assert found == trainer.learner.calibrated(trainer.average, people=64)
    assert found.length > 0
    # nothing is known of lengths without other recordings
    alone = make_trainer().learner.calibrated(trainer.average)
    assert alone == DrawCalibration(trainer.config.losses.target_noise)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_any_share_of_the_people_may_be_cut(make_trainer, share):
    trainer = make_trainer(truncated=share)
    people, told, _ = trainer.learner.draw(0)
    assert people.keypoints.shape == (16, 25, 2)
    assert told.shape == (16, 25)
    again, told_again, _ = trainer.learner.draw(0)
    assert torch.equal(people.keypoints, again.keypoints)
    assert torch.equal(told, told_again)
    other, _, _ = trainer.learner.draw(1)
    assert not torch.equal(people.keypoints, other.keypoints)


# --- bfloat16 ---


def test_mixed_precision_trains_nearly_the_same(make_trainer, make_mixed):
    exact, mixed = make_trainer(), make_mixed()
    for _ in range(4):
        first, second = exact.step(), mixed.step()
        assert first["total"] != second["total"]
        assert second["total"] == pytest.approx(first["total"], rel=0.02)
    assert all(p.dtype == torch.float32 for p in mixed.learner.model.parameters())


def test_what_is_saved_is_not_mixed(make_trainer, make_mixed):
    mixed = make_mixed(validation=make_mocap(1))
    mixed.step()
    exact = make_trainer(validation=make_mocap(1))
    first, second = (t.learner.validate(mixed.average, people=24) for t in (exact, mixed))
    assert first == second


# --- what the posterior is told of the confidences ---


def some_confidence(count=400):
    generator = torch.Generator().manual_seed(0)
    confidence = 0.05 + 0.95 * torch.rand(count, 25, generator=generator)
    seen = torch.rand(count, 25, generator=generator) > 0.3
    return torch.where(seen, confidence, 0)


def test_disguise_never_turns_unseen_into_seen():
    confidence = some_confidence()
    before = confidence.clone()
    told = disguise(confidence, BODY25, 0.03, torch.Generator().manual_seed(1))
    assert torch.equal(confidence, before)
    assert told.shape == confidence.shape
    assert told.isfinite().all()
    assert (told >= 0).all()
    assert (told <= 1).all()
    assert not told[confidence == 0].any()
    assert torch.equal(told, disguise(confidence, BODY25, 0.03, torch.Generator().manual_seed(1)))


def test_disguise_leaves_groups_out_and_flattens():
    confidence = some_confidence()
    told = disguise(confidence, BODY25, 0.0, torch.Generator().manual_seed(1))
    gone = (confidence > 0) & (told == 0)
    feet = BODY25.indices(["LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"])
    limbs = BODY25.indices(["LWrist", "RElbow", "LKnee", "RAnkle", "LHip", "RShoulder"])
    assert not gone[:, limbs].any()
    without = ~(told[:, feet] > 0).any(1) & (confidence[:, feet] > 0).any(1)
    assert float(without.double().mean()) == pytest.approx(0.25, abs=0.06)
    assert torch.equal(gone[without][:, feet], confidence[without][:, feet] > 0)
    seen = told > 0
    flat = torch.where(seen, told, 1).eq(1).all(1)
    assert float(flat.double().mean()) == pytest.approx(0.2, abs=0.06)
    # otherwise the order of a person's confidences stays
    row = int((~flat & (seen.sum(1) > 8)).nonzero()[0, 0])
    assert torch.equal(told[row][seen[row]].argsort(), confidence[row][seen[row]].argsort())


def test_disguise_hides_some_people_altogether():
    confidence = some_confidence()
    for share in (0.0, 0.3, 1.0):
        told = disguise(confidence, BODY25, share, torch.Generator().manual_seed(1))
        nobody = float((told == 0).all(1).double().mean())
        assert nobody == pytest.approx(share, abs=0.06)


def test_disguise_in_a_schema_without_feet():
    confidence = some_confidence()[:, :17]
    told = disguise(confidence, COCO17, 0.1, torch.Generator().manual_seed(1))
    assert not told[confidence == 0].any()
