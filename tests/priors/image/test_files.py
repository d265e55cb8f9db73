"""Image posteriors as files; the built-in one."""

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowfit.models.errors import InputError
from flowfit.priors.image.files import (
    FORMAT,
    begin_with,
    is_image_posterior,
    load_image_posterior,
    save_image_posterior,
)
from flowfit.priors.keypoints.files import save_posterior
from tests.priors.image.image_people import (
    ENCODER,
    IMAGE_SIZE,
    POINTS,
    SIZES,
    make_posterior,
    make_seen,
)

WEIGHTS = Path(str(resources.files("flowfit.priors") / "weights"))
MEBIBYTE = 2**20


@pytest.fixture
def saved(tmp_path):
    """A posterior on the disk, its keypoint posterior beside it."""
    posterior = make_posterior()
    base = tmp_path / "base.safetensors"
    save_posterior(
        base, posterior.keypoint_posterior, {"keypoints": 25, **SIZES},
        {"schema": "body25", "body": "open"},
    )  # fmt: skip
    path = tmp_path / "image.safetensors"
    sizes = {
        "image_size": IMAGE_SIZE, "fusion": 16, "blocks": 2, "encoder": ENCODER, "points": POINTS,
    }  # fmt: skip
    save_image_posterior(
        path, posterior.state_dict(), sizes, base, {"schema": "body25", "body": "open"}
    )
    return path, posterior


@torch.no_grad()
def test_what_was_saved_is_what_is_loaded(saved):
    path, posterior = saved
    loaded, about = load_image_posterior(path)
    assert about["schema"] == "body25"
    assert not loaded.training
    seen, _ = make_seen()
    torch.testing.assert_close(
        loaded.condition(seen), posterior.condition(seen), atol=5e-3, rtol=5e-3
    )  # stored in 16 bits
    assert not any(k.startswith("keypoint_posterior.") for k in load_file(path))
    assert is_image_posterior(path)
    assert not is_image_posterior(path.with_name("base.safetensors"))
    assert not is_image_posterior(path.with_name("nothing.safetensors"))
    double = load_image_posterior(path, dtype=torch.float64)[0]
    assert double.fusion.leave.weight.dtype == torch.float64


def change_json(path, **changes):
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **changes}))


def change_weights(path, **changes):
    save_file({**load_file(path), **changes}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:1000]), "cannot be read as safetensors"),
        (lambda p: p.unlink(), "no such checkpoint file"),
        (lambda p: p.with_suffix(".json").unlink(), "no such file; a posterior needs it"),
        (lambda p: p.with_suffix(".json").write_text("{"), "cannot be read"),
        (lambda p: change_json(p, format="another"), "does not describe"),
        (lambda p: change_json(p, version=7), "format version 7"),
        (lambda p: change_json(p, version=1), "format version 1; this flowfit reads 2"),
        (lambda p: change_json(p, sizes={"wide": 3}), "sizes do not build"),
        (lambda p: change_json(p, sizes={"image_size": 32, "fusion": 24, "blocks": 2,
                                         "encoder": ENCODER, "points": POINTS}), "has shape"),
        (lambda p: change_json(p, sizes={"image_size": 32, "fusion": 16, "encoder": ENCODER,
                                         "points": POINTS}), "missing"),
        (lambda p: change_json(p, sizes={"image_size": 32, "points": {"features": "many"}}),
         "sizes do not build"),
        (lambda p: change_json(p, schema="coco17"), "for coco17, base.safetensors for body25"),
        (lambda p: change_json(p, schema="nobody"), "no known keypoint schema"),
        (lambda p: change_json(p, keypoint_posterior=3), "names no keypoint posterior"),
        (lambda p: change_json(p, keypoint_posterior={"file": "../base.safetensors",
                                                      "sha256": "0"}), "names no keypoint post"),
        (lambda p: p.with_name("base.safetensors").unlink(), "needs the keypoint posterior"),
        (lambda p: change_weights(p, more=torch.zeros(2)), "1 left over"),
        (lambda p: change_weights(p, **{"fusion.leave.bias": torch.full((8,), torch.nan).half()}),
         "NaN or infinite"),
        (lambda p: change_weights(p.with_name("base.safetensors"),
                                  **{"camera_head.0.bias": torch.zeros(256)}), "another base"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line(saved, damage, message):
    path, _ = saved
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        load_image_posterior(path)
    assert "\n" not in str(error.value)


def test_a_training_begins_with_what_fits_also_of_an_older_file(saved):
    path, _ = saved
    change_json(path, version=1)
    weights = load_file(path)
    older = {k: v for k, v in weights.items() if not k.startswith(("reader.", "mender."))}
    save_file({**older, "fusion.gone.weight": torch.zeros(3)}, path)
    fresh = make_posterior(seed=5)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    begun = begin_with(fresh, path)
    assert begun.taken == len(older)
    assert {name.split(".")[0] for name in begun.new} == {"reader", "mender"}
    for name, value in fresh.state_dict().items():
        if name in older:
            torch.testing.assert_close(value, older[name].to(value.dtype))
        else:
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: save_file({"another": torch.zeros(2)}, p), "none of it fits"),
        (lambda p: p.unlink(), "no such checkpoint file"),
        (lambda p: change_json(p, version=7), "format version 7; this flowfit reads 1 and 2"),
        (lambda p: change_json(p, format="flowfit-posterior"), "does not describe"),
        (lambda p: change_weights(p, **{"fusion.leave.bias": torch.full((8,), torch.nan).half()}),
         "NaN or infinite"),
    ],
)  # fmt: skip
def test_what_a_training_cannot_begin_with_is_one_line(saved, damage, message):
    path, posterior = saved
    damage(path)
    before = {k: v.clone() for k, v in posterior.state_dict().items()}
    with pytest.raises(InputError, match=message) as error:
        begin_with(posterior, path)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in posterior.state_dict().items())


def test_the_built_in_one_is_small_and_tells_what_it_is():
    path = WEIGHTS / "image_small.safetensors"
    posterior, about = load_image_posterior(path)
    assert about["format"] == FORMAT
    assert about["body"] == "open"
    assert "synthetic" in about["domain"]
    assert "CMU" in about["trained_on"]["credit"] or "mocap" in about["trained_on"]["credit"]
    assert posterior.image_size == 128
    assert path.stat().st_size < 6 * MEBIBYTE
    assert sum(p.stat().st_size for p in WEIGHTS.iterdir()) < 16 * MEBIBYTE


@torch.no_grad()
def test_the_built_in_one_sees(shared):
    """On people, poses and pictures that it was not trained on."""
    from flowfit.models.body_files import find_body
    from flowfit.models.metrics import pa_mpjpe
    from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings
    from flowfit.priors.data.people.mocap import read_mocap
    from flowfit.priors.image.posterior import Seen

    body = find_body("open-low")
    files = sorted((shared / "mocap" / "test").glob("*.npz"))[::5]
    maker = PictureMaker(body, body, read_mocap(files), PictureSettings(margin=1.0, seed=77))
    posterior, _ = load_image_posterior(WEIGHTS / "image_small.safetensors")
    errors = {}
    for number in (0, 1, 3, 4):
        shown = maker.part(number)
        people = shown.people
        truth = body.joints(people.betas, people.rotations)
        for name, pictures, keypoints in (("nothing", 0, 0), ("picture", 1, 0), ("both", 1, 1)):
            seen = Seen(
                shown.images.float() / 255, torch.full((16,), bool(pictures)), people.keypoints,
                keypoints * people.confidence, people.camera, shown.box,
            )  # fmt: skip
            mode = posterior.mode(posterior.condition(seen))
            joints = body.joints(mode.betas[:, 0], mode.rotations[:, 0])
            errors.setdefault(name, []).append(pa_mpjpe(joints, truth))
    found = {name: float(torch.cat(values).mean()) for name, values in errors.items()}
    assert found["picture"] < 0.9 * found["nothing"]
    assert found["both"] < 0.75 * found["picture"]
