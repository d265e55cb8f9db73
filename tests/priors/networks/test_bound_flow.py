"""The flow with known conditions is the flow, and its Jacobian is autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flowfit.priors.networks import bound_flow
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.flow import ConditionalFlow

D, C = 9, 6
KINDS = [(False, False), (True, False), (False, True), (True, True)]
ACTIVATIONS = ["relu", "silu"]


def make_flow(
    *, batch_norm=False, scale=False, steps=3, blocks=2, activation="relu", dtype=torch.float64
):
    torch.manual_seed(0)
    flow = ConditionalFlow(
        D,
        C,
        hidden=16,
        steps=steps,
        blocks=blocks,
        dropout=0.5,
        batch_norm=batch_norm,
        conditional_scale=scale,
        activation=activation,
    )
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.25 * torch.randn(parameter.shape)
        for module in flow.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.3, 2.0)
    return flow.to(dtype).eval()


def draw(*shape, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def jacobian_of(bound, latent):
    """Vectors, and their whole Jacobian: the unit vectors pulled back."""
    vectors, pull_back = bound.linearize(latent)
    return vectors, pull_back(torch.eye(D, dtype=latent.dtype).expand(len(latent), D, D))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("batch_norm", "scale"), KINDS)
def test_decode_equals_the_flows(batch_norm, scale, activation):
    flow = make_flow(batch_norm=batch_norm, scale=scale, activation=activation)
    latent, context = draw(5, D), draw(5, C, seed=2)
    bound = BoundFlow.bind(flow, context)
    expected = flow.decode(latent, context).latent
    torch.testing.assert_close(bound.decode(latent), expected, rtol=0, atol=1e-10)
    value, _ = jacobian_of(bound, latent)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    assert not bound.decode(latent).requires_grad
    assert torch.equal(latent, draw(5, D))  # what is given stays as it is


def test_single_precision():
    flow = make_flow(batch_norm=True, scale=True, dtype=torch.float32)
    latent, context = draw(5, D, dtype=torch.float32), draw(5, C, seed=2, dtype=torch.float32)
    bound = BoundFlow.bind(flow, context)
    got, slope = jacobian_of(bound, latent)
    assert got.dtype == slope.dtype == torch.float32
    torch.testing.assert_close(got, flow.decode(latent, context).latent, rtol=0, atol=1e-3)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("batch_norm", "scale"), KINDS)
def test_jacobian_equals_autograds(batch_norm, scale, activation, blocks):
    flow = make_flow(batch_norm=batch_norm, scale=scale, activation=activation, blocks=blocks)
    latent, context = draw(4, D), draw(4, C, seed=2)
    _, got = jacobian_of(BoundFlow.bind(flow, context), latent)
    assert got.shape == (4, D, D)
    for row in range(4):
        expected = torch.autograd.functional.jacobian(
            lambda z, row=row: flow.decode(z[None], context[row : row + 1]).latent[0], latent[row]
        )
        torch.testing.assert_close(got[row], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [False, True])
def test_rows_pick_conditions(scale):
    flow = make_flow(batch_norm=True, scale=scale)
    context = draw(4, C, seed=2)
    index = torch.tensor([3, 0, 0, 2, 3])
    some = BoundFlow.bind(flow, context).rows(index)
    latent = draw(5, D)
    fresh = BoundFlow.bind(flow, context[index])
    torch.testing.assert_close(some.decode(latent), fresh.decode(latent))
    torch.testing.assert_close(some.decode(latent), flow.decode(latent, context[index]).latent)
    for got, expected in zip(jacobian_of(some, latent), jacobian_of(fresh, latent), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_row_of_nan_does_not_touch_the_others():
    flow = make_flow(scale=True)
    latent, context = draw(3, D), draw(3, C, seed=2)
    clean = jacobian_of(BoundFlow.bind(flow, context), latent)
    context[1] = torch.nan
    got = jacobian_of(BoundFlow.bind(flow, context), latent)
    for a, b in zip(got, clean, strict=True):
        torch.testing.assert_close(a[[0, 2]], b[[0, 2]])
        assert a[1].isnan().any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("batch_norm", "scale"), KINDS)
def test_rough_derivatives_are_near_the_exact_ones(batch_norm, scale, activation, monkeypatch):
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: True)
    single = torch.float32
    flow = make_flow(batch_norm=batch_norm, scale=scale, activation=activation, dtype=single)
    bound = BoundFlow.bind(flow, draw(4, C, seed=2, dtype=single))
    rows = draw(4, 7, D, seed=3, dtype=single)
    _, pull_back = bound.rows(torch.tensor([2, 1, 0, 3])).linearize(draw(4, D, dtype=single))
    exact, rough = pull_back(rows), pull_back(rows, rough=True)
    assert rough.dtype == single
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.03 * exact.norm()
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: False)
    assert torch.equal(pull_back(rows, rough=True), exact)


def test_double_precision_is_never_rough(monkeypatch):
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: True)
    _, pull_back = BoundFlow.bind(make_flow(scale=True), draw(4, C, seed=2)).linearize(draw(4, D))
    rows = draw(4, 7, D, seed=3)
    assert torch.equal(pull_back(rows, rough=True), pull_back(rows))


def test_rough_derivatives_of_a_person_do_not_depend_on_company(monkeypatch):
    monkeypatch.setattr(bound_flow, "fast_bfloat16", lambda device: True)
    single = torch.float32
    flow = make_flow(scale=True, activation="silu", dtype=single)
    bound = BoundFlow.bind(flow, draw(4, C, seed=2, dtype=single))
    latent, rows = draw(4, D, dtype=single), draw(4, 7, D, seed=3, dtype=single)
    together = bound.linearize(latent)[1](rows, rough=True)
    for row in range(4):
        place = torch.tensor([row])
        alone = bound.rows(place).linearize(latent[place])[1](rows[place], rough=True)
        torch.testing.assert_close(alone[0], together[row], rtol=0.02, atol=0.02)
