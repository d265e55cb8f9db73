"""The conditional flow against autograd, against nflows' own parts, and against itself."""

from __future__ import annotations

import math

import pytest
import torch
from nflows.nn.nets import ResidualNet
from nflows.transforms.base import CompositeTransform
from nflows.transforms.coupling import AdditiveCouplingTransform
from nflows.transforms.lu import LULinear
from nflows.transforms.normalization import ActNorm
from torch import nn

from flowfit.models.errors import InputError
from flowfit.priors.networks.flow import ConditionalFlow, SafeActNorm

D, C, HIDDEN = 7, 5, 16
KINDS = [(False, False), (True, False), (False, True), (True, True)]


def make_flow(*, batch_norm=False, scale=False, dropout=0.0, steps=3, dtype=torch.float64, seed=0):
    """A small flow of which no parameter is at its initial value, in evaluation mode."""
    torch.manual_seed(seed)
    flow = ConditionalFlow(
        D,
        C,
        hidden=HIDDEN,
        steps=steps,
        dropout=dropout,
        batch_norm=batch_norm,
        conditional_scale=scale,
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


def log_det(flow, vectors, context):
    """Log |dz / dx| as `encode` has it."""
    found = flow.encode(vectors, context)
    return found.log_prob + 0.5 * (found.latent**2).sum(-1) + 0.5 * D * math.log(2 * math.pi)


@pytest.mark.parametrize(("batch_norm", "scale"), KINDS)
def test_log_det_against_autograd(batch_norm, scale):
    flow = make_flow(batch_norm=batch_norm, scale=scale)
    vectors, context = draw(4, D), draw(4, C, seed=2)
    got = log_det(flow, vectors, context)
    back = flow.decode(flow.encode(vectors, context).latent, context)
    for row in range(4):
        given = context[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda x, given=given: flow.encode(x[None], given).latent[0], vectors[row]
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(got[row], expected, rtol=0, atol=1e-10)
        inverse = torch.autograd.functional.jacobian(
            lambda z, given=given: flow.decode(z[None], given).latent[0],
            flow.encode(vectors, context).latent[row].detach(),
        )
        torch.testing.assert_close(inverse @ jacobian, torch.eye(D).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(back.log_prob, flow.encode(vectors, context).log_prob)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
@pytest.mark.parametrize(("batch_norm", "scale"), KINDS)
def test_inverse_both_ways(batch_norm, scale, dtype, atol):
    flow = make_flow(batch_norm=batch_norm, scale=scale, dtype=dtype)
    given = draw(9, C, seed=2, dtype=dtype)
    vectors = draw(9, D, dtype=dtype)
    encoded = flow.encode(vectors, given)
    decoded = flow.decode(encoded.latent, given)
    assert decoded.latent.dtype == decoded.log_prob.dtype == dtype
    torch.testing.assert_close(decoded.latent, vectors, rtol=0, atol=atol)
    torch.testing.assert_close(decoded.log_prob, encoded.log_prob, rtol=0, atol=10 * atol)
    latent = draw(9, D, seed=3, dtype=dtype)
    there = flow.decode(latent, given)
    again = flow.encode(there.latent, given)
    torch.testing.assert_close(again.latent, latent, rtol=0, atol=atol)
    torch.testing.assert_close(again.log_prob, there.log_prob, rtol=0, atol=10 * atol)


@pytest.mark.parametrize("scale", [False, True])
def test_several_of_one_condition_as_one_by_one(scale):
    flow = make_flow(scale=scale)
    many, context = draw(3, 4, D), draw(3, C, seed=2)
    for way in (flow.encode, flow.decode):
        together = way(many, context)
        assert together.latent.shape == (3, 4, D)
        assert together.log_prob.shape == (3, 4)
        for sample in range(4):
            alone = way(many[:, sample], context)
            torch.testing.assert_close(together.latent[:, sample], alone.latent)
            torch.testing.assert_close(together.log_prob[:, sample], alone.log_prob)


def test_the_even_indices_are_kept_first_and_the_roles_swap():
    flow = make_flow(steps=4)
    vectors, context = draw(3, D), draw(3, C, seed=2)
    even, odd = torch.arange(0, D, 2), torch.arange(1, D, 2)
    for number, (norm, linear, coupling) in enumerate(flow.steps):
        assert isinstance(norm, ActNorm)
        assert isinstance(linear, LULinear)
        kept, shifted = (even, odd) if number % 2 == 0 else (odd, even)
        assert torch.equal(coupling.identity_features, kept)
        assert torch.equal(coupling.transform_features, shifted)
        moved = coupling(vectors, context)[0]
        assert torch.equal(moved[:, kept], vectors[:, kept])
        change = moved[:, shifted] - vectors[:, shifted]
        assert (change != 0).all()
        # additive: the shift depends on the kept half and the condition alone
        other = vectors.clone()
        other[:, shifted] += 1
        torch.testing.assert_close(coupling(other, context)[0][:, shifted], moved[:, shifted] + 1)
        assert not torch.equal(coupling(vectors, context + 1)[0], moved)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_without_a_scale_every_volume_is_the_same(batch_norm):
    flow = make_flow(batch_norm=batch_norm)
    volume = log_det(flow, 3 * draw(20, D), 3 * draw(20, C, seed=2))
    torch.testing.assert_close(volume, volume[:1].expand(20), rtol=0, atol=1e-10)
    # so -log p is half the squared norm of z and a constant
    latent = draw(20, D, seed=4)
    negative = -flow.decode(latent, draw(20, C, seed=5)).log_prob
    constant = negative - 0.5 * (latent**2).sum(-1)
    torch.testing.assert_close(constant, constant[:1].expand(20), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        constant[0], 0.5 * D * math.log(2 * math.pi) - volume[0], rtol=0, atol=1e-10
    )


def test_the_density_integrates_to_one():
    """Importance sampling with a wide normal; two dimensions keep it exact enough."""
    torch.manual_seed(0)
    flow = ConditionalFlow(2, C, hidden=8, steps=2, dropout=0.0, batch_norm=False).double().eval()
    grid = torch.linspace(-9, 9, 361, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        density = flow.encode(points[None], draw(1, C)).log_prob.exp()
    assert float(density.sum() * (grid[1] - grid[0]) ** 2) == pytest.approx(1, abs=1e-3)


def test_the_conditional_scale_changes_the_width_and_not_the_mode():
    plain, scaled = make_flow(), make_flow(scale=True)
    state = {k: v for k, v in scaled.state_dict().items() if not k.startswith("log_scale")}
    plain.load_state_dict(state)
    context = draw(6, C, seed=2)
    zero = torch.zeros(6, D, dtype=torch.float64)
    torch.testing.assert_close(
        scaled.decode(zero, context).latent, plain.decode(zero, context).latent
    )
    widths = scaled.scales(context)
    assert widths.shape == (6, D)
    assert widths.std(0).min() > 0.01  # another condition, another width
    torch.testing.assert_close(
        log_det(scaled, draw(6, D), context), log_det(plain, draw(6, D), context) - widths.sum(-1)
    )
    latent = draw(6, D, seed=3)
    torch.testing.assert_close(
        scaled.decode(latent, context).latent,
        plain.decode(latent * widths.exp(), context).latent,
    )
    # z = 0 is the mode, and the energy is half the squared norm for each condition
    peak = scaled.decode(zero, context).log_prob
    energy = peak - scaled.decode(latent, context).log_prob
    torch.testing.assert_close(energy, 0.5 * (latent**2).sum(-1))


def test_the_conditional_scale_begins_at_one_and_is_bounded():
    flow = ConditionalFlow(D, C, hidden=HIDDEN, conditional_scale=True)
    assert torch.equal(flow.scales(torch.randn(4, C)), torch.zeros(4, D))
    with torch.no_grad():
        flow.log_scale.weight.fill_(100.0)
    assert flow.scales(torch.full((2, C), 50.0)).abs().max() <= 3.0
    assert make_flow().scales(draw(2, C)) is None


def test_batch_norm_has_torchs_epsilon():
    """The released weights were made with 1e-5; nflows' default is 1e-3."""
    flow = make_flow(batch_norm=True, steps=2)
    norms = [m for m in flow.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 2 * 2 * 2
    assert {m.eps for m in norms} == {1e-5}
    norms = [m for m in make_flow().modules() if isinstance(m, nn.BatchNorm1d)]
    assert not norms


class _Joined(nn.Module):
    """The condition beside the kept half, at the first layer only."""

    def __init__(self, kept, shifted, batch_norm):
        super().__init__()
        self.net = ResidualNet(kept + C, shifted, HIDDEN, num_blocks=2, use_batch_norm=batch_norm)

    def forward(self, inputs, context):
        return self.net(torch.cat((inputs, context), -1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_equals_nflows_put_together_by_hand(batch_norm):
    flow = make_flow(batch_norm=batch_norm)
    layers = []
    for number, (norm, linear, coupling) in enumerate(flow.steps):
        mask = [1 if (i + number) % 2 else -1 for i in range(D)]
        plain = AdditiveCouplingTransform(mask, lambda a, b: _Joined(a, b, batch_norm))
        layers += [ActNorm(D), LULinear(D), plain]
        layers[-3].load_state_dict(norm.state_dict())
        layers[-2].load_state_dict(linear.state_dict())
        plain.transform_net.net.load_state_dict(coupling.transform_net.state_dict())
    by_hand = CompositeTransform(layers).double().eval()
    for module in by_hand.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-5
    vectors, context = draw(5, D), draw(5, C, seed=2)
    latent, volume = by_hand(vectors, context)
    torch.testing.assert_close(flow.encode(vectors, context).latent, latent, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det(flow, vectors, context), volume, rtol=0, atol=1e-10)


# --- ActNorm ---


def test_actnorm_starts_at_zero_mean_and_unit_spread():
    norm = SafeActNorm(4).double()
    data = 3 * draw(200, 4) + torch.tensor([5.0, -2.0, 0.0, 100.0])
    norm.eval()
    assert torch.equal(norm(data)[0], data)  # only training data count
    assert not norm.initialized
    norm.train()
    out, volume = norm(data)
    assert norm.initialized
    torch.testing.assert_close(out.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(out.std(0), torch.ones(4).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(volume[0], -data.std(0).log().sum())
    again = norm(data + 7)[0]  # initialised once
    torch.testing.assert_close(again, out + 7 / data.std(0))
    assert norm.log_scale.requires_grad


def test_actnorm_has_a_floor_for_constant_features():
    norm = SafeActNorm(3).double().train()
    data = draw(50, 3)
    data[:, 1] = 4.0
    out, volume = norm(data)
    assert out.isfinite().all()
    assert volume.isfinite().all()
    assert float(norm.scale[1].detach()) == pytest.approx(1e3)
    torch.testing.assert_close(out[:, 1], torch.zeros(50).double(), rtol=0, atol=1e-8)


def test_the_first_batch_initialises_the_flow():
    torch.manual_seed(0)
    flow = ConditionalFlow(D, C, hidden=HIDDEN, steps=2, dropout=0.0, batch_norm=False)
    vectors = 5 + 0.1 * draw(100, D, dtype=torch.float32)
    before = flow.eval().encode(vectors, torch.zeros(100, C)).log_prob.mean()
    latent = flow.train().encode(vectors, torch.zeros(100, C)).latent
    assert latent.std() < 2
    assert flow.encode(vectors, torch.zeros(100, C)).log_prob.mean() > before + 50
    assert all(bool(norm.initialized) for norm, _, _ in flow.steps)


def test_dropout_is_off_in_evaluation():
    flow = make_flow(dropout=0.5)
    vectors, context = draw(4, D), draw(4, C, seed=2)
    for way in (flow.encode, flow.decode):
        assert torch.equal(way(vectors, context).latent, way(vectors, context).latent)
    flow.train()
    for norm, _, _ in flow.steps:
        norm.initialized.fill_(True)
    assert not torch.equal(
        flow.encode(vectors, context).latent, flow.encode(vectors, context).latent
    )


def test_an_unknown_activation_is_named():
    with pytest.raises(InputError, match="no activation 'tanh'; there are relu, silu"):
        ConditionalFlow(D, C, hidden=HIDDEN, activation="tanh")
