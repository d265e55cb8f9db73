"""Larger posteriors begin by saying what the smaller ones say."""

from __future__ import annotations

import json
import math

import pytest
import torch

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.priors.keypoints.files import begin_with, save_posterior
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.networks.encoders import Known

SMALL = {"context": 12, "hidden": 10, "steps": 2, "width": 16, "activation": "silu"}


def random_posterior(num_betas: int, seed: int, **sizes) -> KeypointPosterior:
    """With weights that no initialisation would give."""
    torch.manual_seed(seed)
    posterior = KeypointPosterior(len(BODY25), num_betas, **{**SMALL, **sizes})
    with torch.no_grad():
        for name, parameter in posterior.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), name
    return posterior.eval()


@pytest.fixture
def seen():
    """Four people: keypoints, confidences and cameras."""
    generator = torch.Generator().manual_seed(3)
    keypoints = 400 * torch.rand(4, len(BODY25), 2, generator=generator, dtype=torch.float64)
    confidence = torch.rand(4, len(BODY25), generator=generator, dtype=torch.float64)
    camera = Camera(torch.full((4, 2), 700.0).double(), torch.full((4, 2), 250.0).double())
    return keypoints, confidence, camera


@pytest.mark.parametrize("more_betas", [0, 1, 8])
@pytest.mark.parametrize("sizes", [{}, {"depth": 5}, {"hears": True}, {"depth": 4, "hears": True}])
def test_it_says_what_the_smaller_one_says(tmp_path, seen, more_betas, sizes):
    small = random_posterior(10, 0)
    path = tmp_path / "small.safetensors"
    told = {"keypoints": len(BODY25), "num_betas": 10, **SMALL}
    save_posterior(path, small, told, {"schema": "body25", "body": "open"})
    large = random_posterior(10 + more_betas, 1, **sizes)
    begin_with(large, path, BODY25)
    small, large = small.double(), large.double()
    before, after = small.condition(*seen), large.condition(*seen)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)

    numbers = small.flow.features
    latent = torch.randn(4, 3, numbers + more_betas, dtype=torch.float64)
    was = small.bodies(latent[..., :numbers], before)
    now = large.bodies(latent, after)
    torch.testing.assert_close(now.vectors[..., :numbers], was.vectors, atol=1e-12, rtol=0)
    further = latent[..., numbers:]
    # 1 through a softplus in float32
    torch.testing.assert_close(now.vectors[..., numbers:], further, atol=3e-6, rtol=0)
    normal = -0.5 * (further**2).sum(-1) - 0.5 * more_betas * math.log(2 * math.pi)
    torch.testing.assert_close(now.log_prob, was.log_prob + normal, atol=1e-5, rtol=0)
    encoded = large.flow.encode(now.vectors, after)
    torch.testing.assert_close(encoded.latent, latent, atol=1e-9, rtol=0)
    torch.testing.assert_close(encoded.log_prob, now.log_prob, atol=1e-9, rtol=0)


def test_what_is_smaller_or_wider_is_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    sizes = {"keypoints": len(BODY25), "num_betas": 10, **SMALL}
    save_posterior(path, random_posterior(10, 0), sizes, {"schema": "body25", "body": "open"})
    assert json.loads(path.with_suffix(".json").read_text())["sizes"]["num_betas"] == 10
    for other in ({"width": 24}, {"hidden": 12}, {"depth": 2}, {"steps": 3}):
        with pytest.raises(InputError, match="has the sizes"):
            begin_with(random_posterior(10, 1, **other), path, BODY25)
    with pytest.raises(InputError, match="has the sizes"):
        begin_with(random_posterior(8, 1), path, BODY25)


def test_what_is_known_is_heard_person_by_person(seen):
    posterior = random_posterior(10, 0, hears=True).double()
    nobody = posterior.condition(*seen)
    nothing = Known.nothing(seen[0])
    assert torch.equal(posterior.condition(*seen, nothing), nobody)
    up = nothing.up.clone()
    up[1] = torch.tensor([0.0, -1.0, 0.0])
    stature = nothing.stature.clone()
    stature[2] = 1.2
    told = posterior.condition(*seen, Known(up, stature))
    changed = (told != nobody).any(-1)
    assert changed.tolist() == [False, True, True, False]
    assert told.isfinite().all()


def test_one_that_does_not_hear_takes_no_notice(seen):
    posterior = random_posterior(10, 0).double()
    known = Known(torch.zeros(4, 3).double(), torch.ones(4).double())
    assert torch.equal(posterior.condition(*seen, known), posterior.condition(*seen))
