"""Posteriors as files: what was written comes back, and what is wrong is said in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, COCO17
from flowfit.priors.keypoints.files import load_posterior, read_about, save_posterior
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.keypoints.prior import FlowPrior
from flowfit.priors.load import load

SIZES = {
    **{"keypoints": 25, "num_betas": 10, "context": 8, "hidden": 16, "steps": 2},
    **{"blocks": 1, "width": 16, "depth": 1},
}


@pytest.fixture(scope="module")
def posterior():
    torch.manual_seed(0)
    return KeypointPosterior(**SIZES).eval()


@pytest.fixture
def path(tmp_path, posterior):
    path = tmp_path / "tiny.safetensors"
    save_posterior(path, posterior, SIZES, {"schema": "body25", "steps": 3})
    return path


def refused(path, *words):
    """The one line of the error; it names the file at fault."""
    with pytest.raises(InputError) as caught:
        load_posterior(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.stem in text
    for word in words:
        assert word in text
    return text


def test_a_folder_that_is_missing_is_said_in_one_line(tmp_path, posterior):
    with pytest.raises(InputError, match="cannot write") as caught:
        save_posterior(tmp_path / "none" / "a.safetensors", posterior, SIZES, {})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def change_about(path, **changes):
    beside = path.with_suffix(".json")
    about = json.loads(beside.read_text()) | changes
    beside.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def change_weights(path, change):
    state = load_file(path)
    change(state)
    save_file(state, path)


# --- round trip ---


def test_round_trip(path, posterior):
    again, about = load_posterior(path)
    assert about["schema"] == "body25"
    assert about["steps"] == 3
    assert about["sizes"] == SIZES
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    for name, value in posterior.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_half_precision(tmp_path, path, posterior):
    half = tmp_path / "half.safetensors"
    save_posterior(half, posterior, SIZES, {"schema": "body25"}, half=True)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    again, _ = load_posterior(half)
    for name, value in posterior.state_dict().items():
        got = again.state_dict()[name]
        assert got.dtype == value.dtype
        expected = value.half().float() if value.dtype == torch.float32 else value
        assert torch.equal(got, expected), name


def test_in_double(path, posterior):
    again, _ = load_posterior(path, dtype=torch.float64)
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    context = torch.zeros(1, 8, dtype=torch.float64)
    torch.testing.assert_close(
        again.mode(context).vectors.float(), posterior.mode(context.float()).vectors
    )


def test_load_opens_it(path, posterior):
    prior = load(str(path))
    assert isinstance(prior, FlowPrior)
    assert (prior.name, prior.schema, prior.blind) == ("tiny", BODY25, False)
    assert next(prior.posterior.parameters()).dtype == torch.float32
    assert next(load(str(path), dtype=torch.float64).posterior.parameters()).dtype == torch.float64
    assert not prior.posterior.training


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.json: no such file") as caught:
        load(str(tmp_path / "nothing.safetensors"))
    assert "\n" not in str(caught.value)


def test_the_schema_of_the_file_is_used(tmp_path):
    sizes = SIZES | {"keypoints": 17}
    path = tmp_path / "coco.safetensors"
    save_posterior(path, KeypointPosterior(**sizes), sizes, {"schema": "coco17"})
    assert load(str(path)).schema is COCO17


def test_writing_over_an_older_one(path, posterior):
    other = KeypointPosterior(**SIZES)
    save_posterior(path, other, SIZES, {"schema": "body25"})
    again, about = load_posterior(path)
    assert "steps" not in about
    weight = "encoder.enter.weight"
    assert torch.equal(again.state_dict()[weight], other.state_dict()[weight])


# --- what is wrong with the JSON ---


def test_no_json(path):
    path.with_suffix(".json").unlink()
    assert "tiny.json: no such file" in refused(path, "tiny.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b"null", b'"text"', b"{}"]
)
def test_json_of_something_else(path, content):
    path.with_suffix(".json").write_bytes(content)
    refused(path, "tiny.json")
    with pytest.raises(InputError):
        read_about(path)


def test_a_folder_instead_of_the_json(path):
    beside = path.with_suffix(".json")
    beside.unlink()
    beside.mkdir()
    refused(path, "tiny.json")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": "another"}, "does not describe"),
        ({"version": 2}, "version 2"),
        ({"version": "1"}, "version 1"),
        ({"version": None}, "version None"),
        ({"sizes": None}, "sizes"),
        ({"sizes": [1]}, "sizes"),
        ({"schema": None}, "schema"),
        ({"schema": "body99"}, "schema"),
        ({"schema": ["body25"]}, "schema"),
    ],
)
def test_another_format(path, changes, word):
    change_about(path, **changes)
    refused(path, "tiny.json", word)


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": 3},
        {"hidden": "16"},
        {"hidden": -1},
        {"context": None},
        {"steps": 1.5},
        {"steps": "two"},
        {"width": [16]},
        {"hidden": 10**13},
    ],
)
def test_sizes_that_do_not_build(path, changes):
    change_about(path, sizes=SIZES | changes)
    refused(path, "tiny.json", "sizes")


def test_a_schema_of_another_length_than_the_weights(path):
    change_about(path, schema="coco17")
    refused(path, "coco17")


# --- what is wrong with the weights ---


def test_no_weights(path):
    path.unlink()
    refused(path, "tiny.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_a_file_cut_short(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "tiny.safetensors", "safetensors")


def test_a_damaged_header(path):
    data = bytearray(path.read_bytes())
    data[8:40] = b"\xff" * 32
    path.write_bytes(bytes(data))
    refused(path, "tiny.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 12}, ("has shape",)),
        ({"num_betas": 9}, ("has shape",)),
        ({"context": 9}, ("has shape",)),
        ({"steps": 1}, ("left over",)),
        ({"steps": 3}, ("missing",)),
        ({"depth": 2}, ("missing",)),
        ({"conditional_scale": False}, ("left over", "log_scale")),
    ],
)
def test_weights_of_other_sizes(path, changes, words):
    change_about(path, sizes=SIZES | changes)
    refused(path, "tiny.safetensors", *words)


def test_missing_and_left_over_weights(path):
    def change(state):
        del state["camera_head.0.bias"]
        state["surplus"] = torch.zeros(1)

    change_weights(path, change)
    refused(path, "1 missing (camera_head.0.bias", "1 left over (surplus")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers(path, value):
    def change(state):
        state["camera_head.0.bias"][3] = value

    change_weights(path, change)
    refused(path, "camera_head.0.bias", "NaN")


class _Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def test_nothing_is_unpickled(path, tmp_path):
    marker = tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Bomb(marker)))
    refused(path, "tiny.safetensors")
    torch.save({"state_dict": _Bomb(marker)}, path)
    refused(path, "tiny.safetensors")
    path.with_suffix(".json").write_bytes(pickle.dumps(_Bomb(marker)))
    refused(path, "tiny.json")
    assert not marker.exists()
