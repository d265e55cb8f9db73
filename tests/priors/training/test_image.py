"""Training on pictures: it learns, it resumes to the same numbers, and ProHMR's form does too."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.data.datasets.files import read_dataset
from flowfit.priors.data.datasets.registry import mix
from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings, make_picture_set
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.pictures.augment import PictureAugmentation
from flowfit.priors.image.files import load_image_posterior
from flowfit.priors.image.prohmr import build_prohmr, read_backbone, read_prohmr, save_prohmr
from flowfit.priors.keypoints.files import save_posterior
from flowfit.priors.training.image import FusedForm, ImageLearner
from flowfit.priors.training.image_config import CONFIGS, ImageTrainingConfig, image_config_from
from flowfit.priors.training.keypoint_losses import LossWeights
from flowfit.priors.training.loop import Trainer
from flowfit.priors.training.prohmr import ProHMRForm
from tests.priors.image.image_people import ENCODER, POINTS, SIZES, make_posterior

SMALL = {"image_size": 64, "fusion": 16, "blocks": 2, "encoder": ENCODER, "points": POINTS}
STILL = PictureAugmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def body():
    return find_body("open-low")


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    random = np.random.default_rng(0)
    mocap = Mocap(0.2 * random.normal(size=(30, 24, 3)), np.zeros(30, int), ("one",), ("walk",))
    maker = PictureMaker(body, body, mocap, PictureSettings(count=24, size=64, truncated=0.0))
    folder = tmp_path_factory.mktemp("set")
    return mix({"a": read_dataset(make_picture_set(folder, maker, progress=False))}, {"a": 1.0})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    posterior = make_posterior().keypoint_posterior
    facts = {"schema": "body25", "body": "open"}
    save_posterior(path, posterior, {"keypoints": 25, **SIZES}, facts)
    return path


def small_config(**changes):
    start = ImageTrainingConfig(
        sizes=SMALL, steps=6, batch=6, warmup=2, keypoints_first=2, first_size=32, seed=3
    )
    return replace(start, **changes)


def prohmr_config(**changes):
    start = replace(
        CONFIGS["prohmr"],
        sizes={"depth": 18, "width": 4, "hidden": 16, "image_size": 32},
        steps=4,
        batch=6,
    )
    return replace(start, **changes)


@pytest.fixture
def make_trainer(body, people, base, tmp_path):
    def make(config, folder="run", **options):
        if config.kind == "prohmr":
            form = ProHMRForm(config, body, **options)
        else:
            form = FusedForm(config, body, base, **options)
        return Trainer(config, ImageLearner(config, form, people), tmp_path / folder)

    return make


def train(trainer, **options):
    return list(trainer.train(progress=False, **options))


def assert_same(a, b):
    for name, value in a.learner.state().items():
        assert torch.equal(value, b.learner.state()[name]), name
        assert torch.equal(a.average[name], b.average[name]), name


@pytest.mark.parametrize("config", [small_config(), prohmr_config()], ids=["small", "prohmr"])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_stopped_run_ends_with_the_same_weights(make_trainer, config, stop_at):
    whole = make_trainer(config, "whole")
    train(whole, save_every=1)
    stopped = make_trainer(config, "cut")
    rows = stopped.train(progress=False, save_every=1)
    for _ in range(stop_at):
        next(rows)
    again = make_trainer(config, "cut")
    assert again.resume()
    assert again.step_number == stop_at
    train(again)
    assert_same(whole, again)


def test_a_run_can_be_made_longer_before_its_rate_falls(make_trainer):
    short = make_trainer(small_config(steps=8))
    rows = short.train(progress=False, save_every=1)
    for _ in range(2):
        next(rows)
    longer = make_trainer(small_config(steps=10))
    assert longer.resume()
    with pytest.raises(InputError, match="another configuration"):
        make_trainer(small_config(rate=1e-2)).resume()


def test_a_damaged_state_is_one_line(make_trainer, tmp_path):
    trainer = make_trainer(small_config(steps=1))
    assert not trainer.resume()
    train(trainer)
    path = tmp_path / "run" / "state.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be resumed") as error:
        make_trainer(small_config(steps=1)).resume()
    assert "\n" not in str(error.value)


def test_it_learns_and_its_export_opens(make_trainer, tmp_path):
    config = small_config(
        steps=40, batch=12, keypoints_first=40, rate=1e-2, falling=0.0, augmentation=STILL
    )
    trainer = make_trainer(config)
    rows = train(trainer, save_every=10)
    assert rows[-1]["own_heat"] < 0.9 * rows[0]["own_heat"]
    path = tmp_path / "made.safetensors"
    trainer.export(path, {"trained_on": {"pictures": 24}})
    loaded, about = load_image_posterior_beside(path, trainer.learner.form.base)
    assert about["steps"] == 40
    assert about["config"]["rate"] == 1e-2
    name = "encoder.heat.weight"
    torch.testing.assert_close(
        loaded.state_dict()[name], trainer.average[name], atol=1e-3, rtol=1e-2
    )


def load_image_posterior_beside(path, base):
    for suffix in (".safetensors", ".json"):
        path.with_name("base" + suffix).write_bytes(base.with_suffix(suffix).read_bytes())
    return load_image_posterior(path)


def test_the_first_steps_see_smaller_pictures(make_trainer):
    trainer = make_trainer(small_config())
    assert trainer.learner.form.picture_size(1) == 32
    assert trainer.learner.form.picture_size(2) == 64
    batch = trainer.learner.read(5)
    again = trainer.learner.read(5)
    assert torch.equal(batch.images, again.images)
    assert not torch.equal(batch.labels.keypoints, trainer.learner.read(6).labels.keypoints)


def test_prohmrs_form_has_every_term_and_a_critic(make_trainer):
    trainer = make_trainer(prohmr_config(steps=2))
    (row,) = train(trainer)
    wanted = {
        *("nll", "expected_2d", "mode_2d", "mode_3d", "mode_theta", "mode_betas", "orthonormal"),
        *("adversarial", "critic"),
    }
    assert wanted <= row.keys()
    assert all(np.isfinite(list(row.values())))


def test_prohmrs_form_is_written_as_released_and_begins_from_it(make_trainer, tmp_path):
    trainer = make_trainer(prohmr_config(steps=2))
    train(trainer)
    path = tmp_path / "posterior.pt"
    trainer.export(path, {})
    opened = read_prohmr(path)
    assert not opened.left_over
    assert opened.sizes["hidden"] == 16
    begun = make_trainer(prohmr_config(), "next", start=path)
    for name, value in begun.learner.model.state_dict().items():
        if name in trainer.average:
            assert torch.equal(value, trainer.average[name]), name
    with pytest.raises(InputError, match="other sizes") as error:
        make_trainer(
            prohmr_config(sizes={"depth": 18, "width": 4, "hidden": 24, "image_size": 32}),
            "other", start=path,
        )  # fmt: skip
    assert "\n" not in str(error.value)


def test_prohmrs_form_begins_from_an_image_network(make_trainer, tmp_path):
    torch.manual_seed(9)
    weights = build_prohmr(depth=18, width=4, hidden=8).backbone.state_dict()
    path = tmp_path / "resnet18.pth"
    torch.save({**weights, "fc.weight": torch.zeros(3, 32), "fc.bias": torch.zeros(3)}, path)
    assert "fc.weight" not in read_backbone(path)
    learner = make_trainer(prohmr_config(), start=path).learner
    assert torch.equal(learner.model.backbone.conv1.weight, weights["conv1.weight"])
    with pytest.raises(InputError, match="no such checkpoint"):
        make_trainer(prohmr_config(), start=tmp_path / "nothing.pt")


def test_the_full_size_is_the_papers():
    config = CONFIGS["prohmr"]
    posterior = build_prohmr(**{k: v for k, v in config.sizes.items() if k != "image_size"})
    assert posterior.flow.context == 2048
    assert config.steps == 500_000
    assert config.batch == 64
    assert config.losses == LossWeights(
        target_noise=0.005, adversarial=5e-4, sampled_share=1.0, camera=0.0
    )
    first = posterior.flow.steps[0][2].transform_net
    assert first.initial_layer.weight.shape == (1024, 72 + 2048)


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        save_prohmr(tmp_path / "nowhere" / "a.pt", {}, {})


def test_configurations_are_read_with_their_kinds_defaults():
    assert image_config_from({"kind": "prohmr", "steps": 3}, "x").sizes["depth"] == 50
    assert image_config_from({"steps": 3}, "x").kind == "small"
    nested = image_config_from({"kind": "prohmr", "losses": {"nll": 1.0}}, "x").losses
    assert nested.nll == 1.0
    assert nested.target_noise == 0.005
    for wrong in ({"kind": "huge"}, {"stepz": 3}, {"steps": "many"}, {"losses": {"nl": 1}}):
        with pytest.raises(InputError):
            image_config_from(wrong, "x")


def test_small_begins_with_another_image_posterior(make_trainer, tmp_path):
    trainer = make_trainer(small_config(steps=1))
    train(trainer)
    path = tmp_path / "made.safetensors"
    trainer.export(path, {})
    for suffix in (".safetensors", ".json"):
        beside = trainer.learner.form.base.with_suffix(suffix)
        path.with_name(beside.name).write_bytes(beside.read_bytes())
    begun = make_trainer(small_config(), "next", start=path)
    for name, value in begun.learner.state().items():
        if value.is_floating_point():
            wanted = trainer.average[name].half().to(value.dtype)
            torch.testing.assert_close(value, wanted, msg=name)
    assert begun.learner.form.begun.new == ()
    # of another size: what fits
    wider = make_trainer(
        small_config(sizes={**SMALL, "fusion": 24}), "other", start=path
    ).learner.form
    assert {name.split(".")[0] for name in wider.begun.new} == {"fusion"}
    name = "encoder.heat.weight"
    torch.testing.assert_close(
        wider.model.state_dict()[name], trainer.average[name].half().to(torch.float32)
    )
