"""Bfloat16 in the networks: off unless asked for, close when on, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from flowfit.models.cameras import Camera
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.networks.precision import MixedPrecision, set_mixed_precision

PEOPLE = 32
# bfloat16 keeps 8 binary digits: a number is off by up to 1 part in 256
ROUNDING = 1 / 256


def make_posterior(dtype=torch.float32):
    """A posterior of which no parameter is at its initial value."""
    torch.manual_seed(0)
    sizes = {"context": 32, "hidden": 64, "steps": 3, "width": 64, "depth": 2}
    posterior = KeypointPosterior(25, 10, **sizes)
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
        for norm, _, _ in posterior.flow.steps:
            norm.initialized.fill_(True)
    return posterior.to(dtype)


@pytest.fixture(scope="module")
def posterior():
    return make_posterior()


@pytest.fixture(scope="module")
def mixed():
    made = make_posterior()
    set_mixed_precision(made, True)
    return made


def seen(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    keypoints = 100 + 300 * torch.rand(PEOPLE, 25, 2, generator=generator)
    confidence = torch.rand(PEOPLE, 25, generator=generator)
    camera = Camera(torch.full((PEOPLE, 2), 600.0), torch.full((PEOPLE, 2), 250.0))
    return keypoints.to(dtype), confidence.to(dtype), camera.to(dtype=dtype)


def vectors(posterior, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(PEOPLE, posterior.flow.features, generator=generator).to(dtype)


def negative_log_likelihood(posterior, dtype=torch.float32):
    context = posterior.condition(*seen(dtype))
    return -posterior.flow.encode(vectors(posterior, dtype), context).log_prob


def mixed_parts(model):
    return [m for m in model.modules() if isinstance(m, MixedPrecision)]


def test_it_is_off_until_asked_for_and_off_again():
    model = make_posterior()
    parts = mixed_parts(model)
    assert len(parts) == 1 + 3  # the encoder and the net of each coupling
    assert not any(part.mixed for part in parts)
    before = negative_log_likelihood(model)
    set_mixed_precision(model, True)
    assert all(part.mixed for part in parts)
    assert not torch.equal(negative_log_likelihood(model), before)
    set_mixed_precision(model, False)
    assert torch.equal(negative_log_likelihood(model), before)


def test_one_model_does_not_turn_on_another():
    first, second = make_posterior(), make_posterior()
    set_mixed_precision(first, True)
    assert not any(part.mixed for part in mixed_parts(second))


def test_networks_are_close_but_not_equal(posterior, mixed):
    exact, rough = posterior.condition(*seen()), mixed.condition(*seen())
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough - exact).abs().max() < 3 * ROUNDING * exact.abs().max()
    net, same = (p.flow.steps[0][2].transform_net for p in (posterior, mixed))
    kept = vectors(posterior)[:, : net.kept]
    exact_shift, rough_shift = net(kept, exact), same(kept, exact)
    assert rough_shift.dtype == torch.float32
    assert not torch.equal(rough_shift, exact_shift)
    assert (rough_shift - exact_shift).abs().max() < 3 * ROUNDING * exact_shift.abs().max()


def test_the_log_density_stays_close(posterior, mixed):
    exact, rough = negative_log_likelihood(posterior), negative_log_likelihood(mixed)
    assert rough.dtype == torch.float32
    # 154 numbers, each off by a rounding that is as often too high as too low
    assert (rough - exact).abs().max() < 3 * 154**0.5 * ROUNDING
    assert (rough - exact).abs().max() > 0


def test_nothing_is_lost_on_the_way_back(mixed):
    """A coupling is undone by the same shift, and all else is computed in float32."""
    context = mixed.condition(*seen())
    given = vectors(mixed)
    back = mixed.flow.decode(mixed.flow.encode(given, context).latent, context)
    assert back.latent.dtype == back.log_prob.dtype == torch.float32
    assert (back.latent - given).abs().max() < ROUNDING


def test_rotations_keep_their_digits(mixed):
    bodies = mixed.mode(mixed.condition(*seen()))
    assert bodies.rotations.dtype == bodies.betas.dtype == torch.float32
    gram = bodies.rotations @ bodies.rotations.transpose(-1, -2)
    torch.testing.assert_close(gram, torch.eye(3).expand_as(gram), rtol=0, atol=1e-5)


def test_gradients_arrive_and_point_the_same_way(posterior, mixed):
    found = []
    for model in (posterior, mixed):
        model.zero_grad()
        bodies = model.mode(model.condition(*seen()))
        loss = negative_log_likelihood(model).mean() + (bodies.vectors**2).sum()
        loss.backward()
        head = {id(p) for p in model.camera_head.parameters()}  # not in this loss
        reached = {n: p.grad for n, p in model.named_parameters() if id(p) not in head}
        assert all(g is not None for g in reached.values())
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in reached.values())
        assert all(g.any() for g in reached.values())
        found.append(torch.cat([g.flatten() for g in reached.values()]))
    exact, rough = found
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.999
    assert not torch.equal(exact, rough)


def test_double_precision_is_left_alone():
    model = make_posterior(torch.float64)
    before = negative_log_likelihood(model, torch.float64)
    set_mixed_precision(model, True)
    assert torch.equal(negative_log_likelihood(model, torch.float64), before)
