"""The data term that one view and several views share."""

from __future__ import annotations

import pytest
import torch

from flowfit.fitting.energy.recipes import Reprojection
from flowfit.fitting.energy.reprojection import ReprojectionTerm, geman_mcclure
from flowfit.fitting.energy.units import Unit

FRAMES, VIEWS, POINTS = 2, 3, 5


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[False, True], ids=["by length", "per axis"])
def term(request):
    """Of three views of two frames; some keypoints were not seen, whatever is written there."""
    seen, evidence = 100 * numbers(FRAMES, VIEWS, POINTS, 2), numbers(FRAMES, VIEWS, POINTS, seed=1)
    seen[0, 1, 2], evidence[0, 1, 2] = torch.nan, 0
    data = Reprojection(0.1, 0.4, confidence_power=2.0, per_axis=request.param)
    unit = Unit(40 + numbers(FRAMES, VIEWS, seed=2), 60 + numbers(FRAMES, VIEWS, seed=3))
    return ReprojectionTerm.of(data, seen, evidence, unit)


@pytest.fixture
def points():
    """In front of a camera, but for one."""
    points = numbers(FRAMES, VIEWS, POINTS, 3, seed=4) + 1
    points[1, 0, 3, 2] = -1
    return points.requires_grad_()


def project(points):
    return 80 * points[..., :2] / points[..., 2:], points[..., 2] > 0


def test_what_is_seen_counts_by_its_loss_and_what_is_behind_by_the_most(term, points):
    pixels, in_front = project(points.detach())
    energy = term.met(pixels, in_front).energy
    for frame in range(FRAMES):
        for view in range(VIEWS):
            total, s = 0.0, float(term.scale[frame, view])
            for k in range(POINTS):
                trust = float(term.trust[frame, view, k])
                if not trust:
                    continue
                x, y = (pixels[frame, view, k] - term.seen[frame, view, k]).tolist()
                squares = [x * x, y * y] if term.per_axis else [x * x + y * y]
                if in_front[frame, view, k]:
                    total += sum(0.5 * trust * s * s * r / (s * s + r) for r in squares)
                else:
                    total += 0.5 * trust * s * s * len(squares)
            assert float(energy[frame, view]) == pytest.approx(total, rel=1e-12)


def test_trust_is_evidence_over_variance():
    data = Reprojection(0.1, 0.4, confidence_power=2.0)
    unit = Unit(torch.tensor([50.0]), torch.tensor([10.0]))
    term = ReprojectionTerm.of(data, torch.zeros(1, 2, 2), torch.tensor([[0.5, 0.0]]), unit)
    torch.testing.assert_close(term.trust, torch.tensor([[0.25 / 25, 0.0]]))
    torch.testing.assert_close(term.scale, torch.tensor([4.0]))
    # to the power of 0 what was not seen still counts nothing
    data = Reprojection(0.1, 0.4, confidence_power=0.0)
    term = ReprojectionTerm.of(data, torch.zeros(1, 2, 2), torch.tensor([[0.5, 0.0]]), unit)
    torch.testing.assert_close(term.trust, torch.tensor([[1 / 25, 0.0]]))


def test_what_gauss_newton_gets_has_the_exact_gradient(term, points):
    pixels, in_front = project(points)
    met = term.met(pixels, in_front)
    (slope,) = torch.autograd.grad(met.energy.sum(), points)
    depth = points.detach()[..., 2]
    to_pixels = torch.zeros(FRAMES, VIEWS, POINTS, 2, 3, dtype=torch.float64)
    to_pixels[..., 0, 0] = to_pixels[..., 1, 1] = 80 / depth
    to_pixels[..., 2] = -80 * points.detach()[..., :2] / depth[..., None] ** 2
    error, by_point = (t.detach() for t in met.linearized(to_pixels))
    torch.testing.assert_close((by_point.mT @ error[..., None])[..., 0], slope)
    assert (slope[1, 0, 3] == 0).all()  # behind the camera there is no direction
    assert (slope[0, 1, 2] == 0).all()


def test_a_view_costs_the_same_alone(term, points):
    pixels, in_front = project(points.detach())
    energy = term.met(pixels, in_front).energy
    one = ReprojectionTerm(term.seen[1], term.trust[1], term.scale[1], term.per_axis)
    assert torch.equal(one.met(pixels[1], in_front[1]).energy, energy[1])


def test_geman_mcclure():
    squared = torch.tensor([0.0, 1e-3, 4.0, 1e12], dtype=torch.float64, requires_grad=True)
    loss, weight = geman_mcclure(squared, 3.0)
    torch.testing.assert_close(loss, 9 * squared / (9 + squared))
    assert float(loss[-1].detach()) == pytest.approx(9)
    (slope,) = torch.autograd.grad(loss.sum(), squared)
    torch.testing.assert_close(weight, slope)
