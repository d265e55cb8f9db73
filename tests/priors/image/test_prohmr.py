"""Checkpoints in the released layout agree with the reference implementation's outputs."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from flowfit.models.errors import InputError
from flowfit.priors.image.prohmr import ProHMRHead, read_prohmr
from flowfit.priors.networks.flow import ConditionalFlow

COMPAT = Path(__file__).resolve().parents[4] / "shared" / "compat"
needs_compat = pytest.mark.skipif(
    not COMPAT.is_dir(), reason="the reference checkpoints are not beside the checkout"
)


@needs_compat
@pytest.mark.parametrize("name", ["smpl_flow_small", "skeleton_flow_small"])
def test_outputs_agree_with_the_reference(name):
    opened = read_prohmr(COMPAT / f"{name}.pt")
    posterior = opened.posterior
    with np.load(COMPAT / f"{name}_io.npz") as data:
        reference = {k: torch.from_numpy(data[k]) for k in data.files}
    drawn = posterior.flow.decode(reference["z"], reference["feats"])
    torch.testing.assert_close(drawn.latent, reference["pose6d"], atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn.log_prob, reference["log_prob"], atol=1e-4, rtol=1e-5)
    density = posterior.flow.encode(reference["theta"], reference["feats"])
    torch.testing.assert_close(density.latent, reference["theta_z"], atol=1e-4, rtol=0)
    torch.testing.assert_close(density.log_prob, reference["theta_log_prob"], atol=1e-4, rtol=1e-5)
    assert opened.left_over == ()
    if posterior.head is not None:
        betas, camera = posterior.head(reference["feats"])
        torch.testing.assert_close(betas, reference["betas"], atol=1e-4, rtol=0)
        torch.testing.assert_close(camera, reference["cam"], atol=1e-4, rtol=0)


def _release_like(path, **changes):
    """A small file in the released layout; `changes` replace or (None) remove entries."""
    torch.manual_seed(0)
    flow, head = ConditionalFlow(24, 6, hidden=8, steps=2), ProHMRHead(6, 8)
    state = {f"flow.flow.{k}": v for k, v in flow.state_dict().items()}
    state |= {f"flow.fc_head.{k}": v for k, v in head.state_dict().items()}
    state |= {"smpl.betas": torch.zeros(1), "initialized": torch.tensor(True)}
    for name, value in changes.items():
        name = name.replace("__", ".")
        state.pop(name, None) if value is None else state.__setitem__(name, value)
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_sizes_are_inferred_and_leftovers_told(tmp_path):
    opened = read_prohmr(_release_like(tmp_path / "a.pt", extra__thing=torch.zeros(2)))
    assert opened.sizes["hidden"] == 8
    assert opened.sizes["context"] == 6
    assert opened.sizes["steps"] == 2
    assert opened.left_over == ("extra.thing",)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"flow__fc_head__layers__2__bias": None}, "missing"),
        ({"flow__fc_head__layers__2__bias": torch.zeros(5)}, "shape"),
        ({"flow__flow__unknown": torch.zeros(5)}, "unknown"),
        ({"flow__fc_head__layers__2__bias": torch.full((13,), torch.nan)}, "NaN"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, word):
    with pytest.raises(InputError, match=word) as caught:
        read_prohmr(_release_like(tmp_path / "a.pt", **changes))
    assert "\n" not in str(caught.value)


class _Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "bad.pt"
    torch.save({"state_dict": {}, "callbacks": _Bomb(marker)}, path)
    with pytest.raises(InputError, match="it was not run"):
        read_prohmr(path)
    assert not marker.exists()


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(_release_like(tmp_path / "a.pt").read_bytes()[:2000])
    plain = tmp_path / "plain.pt"
    torch.save([1, 2, 3], plain)
    raw = tmp_path / "raw.pt"
    raw.write_bytes(pickle.dumps({"state_dict": {}}))
    archive = tmp_path / "zip.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    for path in (text, cut, plain, raw, archive, tmp_path / "missing.pt"):
        with pytest.raises(InputError, match=path.name) as caught:
            read_prohmr(path)
        assert "\n" not in str(caught.value)
