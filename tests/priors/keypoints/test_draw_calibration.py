from __future__ import annotations

import math

import pytest
import torch

from flowfit.models.errors import InputError
from flowfit.priors.keypoints.draw_calibration import (
    DrawCalibration,
    calibration_of,
    clean_vectors,
    fit_lengths,
)
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.flow import ConditionalFlow
from tests.priors.networks.test_bound_encode import randomised

WIDE = DrawCalibration(noise=0.1, cleaned=0.5, length=1.2, length_spread=0.25)
BY_WIDTH = DrawCalibration(0.1, 0.7, 0.98, 0.1, -5.0, 0.4, 3.0)
SIZE = 9


def of(calibration, count=1, width=0.0):
    """How so many people of one width are drawn."""
    return calibration.of_widths(torch.full((count,), width, dtype=torch.float64))


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn(calibration, count, size, seed=0):
    lengths = of(calibration).lengths(normal(count, seed=seed))
    return lengths[:, None] * normal(count, size, seed=seed + 1)


def make_flow(randomness=0.3):
    flow = ConditionalFlow(
        SIZE, 5, hidden=16, steps=3, dropout=0.0, batch_norm=False,
        conditional_scale=True, activation="silu",
    ).double()  # fmt: skip
    randomised(flow, 1, randomness)
    for norm, _, _ in flow.steps:
        norm.initialized.fill_(True)
    return flow.eval()


def test_the_density_is_one_of_a_scale_mixture():
    latent = normal(5, 3)
    # the same integral, by drawing the lengths
    factors = of(WIDE).lengths(normal(400_000, seed=3))
    square = (latent * latent).sum(-1)
    parts = -3 * factors.log() - 0.5 * square[:, None] / factors**2
    expected = parts.exp().mean(-1).log() + 0.5 * square
    torch.testing.assert_close(of(WIDE).log_ratio(latent), expected, atol=0.02, rtol=0)


def test_without_lengths_the_density_is_the_normals():
    plain = of(DrawCalibration(noise=0.03), 4)
    latent = normal(4, SIZE)
    torch.testing.assert_close(plain.log_ratio(latent), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(plain.precision(latent), torch.ones(4, dtype=torch.float64))


def test_the_precision_is_the_scores():
    latent = normal(4, SIZE).requires_grad_()
    wide = of(WIDE)
    log_density = wide.log_ratio(latent) - 0.5 * (latent * latent).sum(-1)
    (score,) = torch.autograd.grad(log_density.sum(), latent)
    torch.testing.assert_close(score, -wide.precision(latent)[:, None] * latent.detach())


def test_lengths_that_were_drawn_are_found_again():
    anything = normal(20_000, seed=8)
    found = fit_lengths(drawn(WIDE, 20_000, 150), anything, 0.1)
    assert found.length == pytest.approx(WIDE.length, rel=0.01)
    assert found.length_spread == pytest.approx(WIDE.length_spread, rel=0.03)
    assert found.noise == 0.1
    assert abs(found.length_by_width) < 0.01
    assert abs(found.spread_by_width) < 0.03
    ordinary = fit_lengths(normal(20_000, 150), anything, 0.1)
    assert ordinary.length == pytest.approx(1, abs=0.003)
    assert ordinary.length_spread < 0.02


def test_lengths_that_go_with_the_width_are_found_again():
    widths = 0.1 * normal(20_000, seed=8)
    lengths = BY_WIDTH.of_widths(widths).lengths(normal(20_000, seed=2))
    latents = lengths[:, None] * normal(20_000, 150, seed=3)
    found = fit_lengths(latents, widths, 0.1)
    assert found.length == pytest.approx(BY_WIDTH.length, rel=0.01)
    assert found.length_spread == pytest.approx(BY_WIDTH.length_spread, rel=0.03)
    assert found.length_by_width == pytest.approx(BY_WIDTH.length_by_width, abs=0.03)
    assert found.spread_by_width == pytest.approx(BY_WIDTH.spread_by_width, abs=0.2)
    better = found.of_widths(widths).log_ratio(latents).mean()
    assert better > of(found).log_ratio(latents).mean() + 0.1


def test_only_how_far_a_width_is_from_the_usual_one_counts():
    widths = 0.1 * normal(500, seed=8)
    latents = BY_WIDTH.of_widths(widths).lengths(normal(500, seed=2))[:, None] * normal(500, 150)
    found, wider = (fit_lengths(latents, w, 0.1) for w in (widths, widths + 0.2))
    assert found.usual_width == pytest.approx(float(widths.mean()))
    assert wider.usual_width == pytest.approx(float(widths.mean()) + 0.2)
    for a, b in zip(found.of_widths(widths), wider.of_widths(widths + 0.2), strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-4, atol=1e-5)
    usual = found.of_widths(torch.tensor([found.usual_width], dtype=torch.float64))
    assert usual.cleaned.tolist() == pytest.approx([found.cleaned])


def test_each_width_is_drawn_in_its_own_way():
    drawing = BY_WIDTH.of_widths(torch.tensor([-0.3, 0.0, 0.3], dtype=torch.float64))
    assert drawing.cleaned.tolist() == [1.0, 0.7, 0.0]
    for row, width in enumerate((-0.3, 0.0, 0.3)):
        latent = normal(5, SIZE)
        alone = of(BY_WIDTH, 5, width)
        expected = [t[row].expand(5) for t in drawing[1:]]
        for got, value in zip(alone[1:], expected, strict=True):
            torch.testing.assert_close(got, value)
        one = of(BY_WIDTH, 1, width)
        torch.testing.assert_close(one.log_ratio(latent), alone.log_ratio(latent))
        torch.testing.assert_close(one.precision(latent), alone.precision(latent))


def test_true_lengths_are_worth_nats():
    latents = drawn(WIDE, 2000, 150)
    assert of(WIDE).log_ratio(latents).mean() > 5
    assert of(WIDE).log_ratio(normal(2000, 150)).mean() < -0.1


def test_the_whole_step_is_tweedies():
    # a flow that is a Gaussian: data of deviation 0.2, noise 0.1 on top
    flow = make_flow()
    context = torch.zeros(500, 5, dtype=torch.float64)
    bound = BoundFlow.bind(flow, context)
    noise, latent = 0.1, normal(500, SIZE)
    whole = DrawCalibration(noise=noise, cleaned=1.0)
    vectors = bound.decode(latent).requires_grad_()
    log_prob = flow.encode(vectors, context).log_prob
    (score,) = torch.autograd.grad(log_prob.sum(), vectors)
    expected = vectors.detach() + noise**2 * score
    found = clean_vectors(bound, latent, of(whole, 500), SIZE)
    torch.testing.assert_close(found, expected)
    some = clean_vectors(bound, latent, of(whole, 500), SIZE - 2)
    torch.testing.assert_close(some[:, :-2], expected[:, :-2])
    torch.testing.assert_close(some[:, -2:], vectors.detach()[:, -2:])


def test_the_mode_stays_and_no_noise_changes_nothing():
    flow = make_flow()
    context = normal(3, 5)
    bound = BoundFlow.bind(flow, context)
    zero, latent = torch.zeros(3, SIZE, dtype=torch.float64), normal(3, SIZE, seed=5)
    torch.testing.assert_close(clean_vectors(bound, zero, of(WIDE, 3), SIZE), bound.decode(zero))
    untouched = clean_vectors(bound, latent, of(DrawCalibration(), 3), SIZE)
    assert torch.equal(untouched, bound.decode(latent))
    assert (
        clean_vectors(bound, latent, of(WIDE, 3), SIZE) - bound.decode(latent)
    ).abs().max() > 1e-3


def test_rows_are_independent():
    flow = make_flow()
    context, latent = normal(4, 5), normal(4, SIZE, seed=5)
    together = clean_vectors(BoundFlow.bind(flow, context), latent, of(WIDE, 4), SIZE)
    latent_with_nan = latent.clone()
    latent_with_nan[3] = math.nan
    beside = clean_vectors(BoundFlow.bind(flow, context), latent_with_nan, of(WIDE, 4), SIZE)
    for row in range(3):
        one = torch.tensor([row])
        alone = clean_vectors(BoundFlow.bind(flow, context[one]), latent[one], of(WIDE), SIZE)
        torch.testing.assert_close(alone[0], together[row], atol=1e-12, rtol=0)
        torch.testing.assert_close(beside[row], together[row], atol=1e-12, rtol=0)


def test_it_goes_through_json():
    for calibration in (WIDE, BY_WIDTH):
        assert calibration_of({"draws": calibration.told()}, "x.json") == calibration
    assert calibration_of({}, "x.json") == DrawCalibration()


@pytest.mark.parametrize(
    "told",
    [[], {"width": 1.0}, {"noise": -0.1}, {"length": 0.0}, {"noise": "much"}, {"noise": math.nan}],
)
def test_nonsense_is_one_clear_line(told):
    with pytest.raises(InputError, match=r"x\.json: draws must hold noise"):
        calibration_of({"draws": told}, "x.json")
