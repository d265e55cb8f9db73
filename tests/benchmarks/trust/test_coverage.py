"""The measures of `benchmarks.trust.uncertainty`, against answers that are known."""

from __future__ import annotations

import pytest
import torch

from benchmarks.trust.best_of_n import BEST_OF, VOXEL, bone_errors, heatmap_draws, slope
from benchmarks.trust.coverage import _crps, _inside, covered


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_intervals_hold_what_they_say():
    draws = normal(4000)
    even = torch.full((4000,), 1 / 4000, dtype=torch.float64)
    for truth, expected in ((0.0, [1, 1, 1]), (1.0, [0, 1, 1]), (-1.6, [0, 0, 1]), (3.0, [0] * 3)):
        found = _inside(draws, even, torch.tensor(truth, dtype=torch.float64))
        assert found.tolist() == expected


def test_intervals_follow_the_weights():
    draws = torch.cat((normal(1000), 100 + normal(1000)))
    weights = torch.cat((torch.full((1000,), 1e-3), torch.zeros(1000))).double()
    assert _inside(draws, weights, torch.tensor(0.1, dtype=torch.float64)).tolist() == [1, 1, 1]
    assert _inside(draws, weights, torch.tensor(100.0, dtype=torch.float64)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("truth", [-4.0, 0.0, 0.3, 2.0])
def test_crps_is_its_other_formula(truth):
    """E|X - y| - E|X - X'| / 2."""
    draws = normal(300)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = weights / weights.sum()
    expected = (weights * (draws - truth).abs()).sum()
    pairs = (draws[:, None] - draws).abs()
    expected = expected - 0.5 * (weights[:, None] * weights * pairs).sum()
    found = _crps(draws, weights, torch.tensor(truth, dtype=torch.float64))
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


def test_the_coverage_of_a_person_has_all_kinds():
    joints = normal(100, 24, 3) + torch.tensor([0.0, 0.0, 5.0])
    found = covered(joints, torch.full((100,), 0.01, dtype=torch.float64), joints.mean(0))
    assert found.hits.shape == (4, 3)
    assert found.hits.min() == 1
    assert found.sd.shape == found.crps.shape == (3,)


def test_a_factorized_heatmap_has_the_joints_and_breaks_the_bones():
    joints = 0.3 * normal(3000, 24, 3)
    moved = joints + normal(3000, 1, 3, seed=1)  # whole bodies in different places
    drawn = heatmap_draws(moved, torch.Generator().manual_seed(0))
    assert (drawn.mean(0) - moved.mean(0)).abs().max() < 0.1
    assert (drawn.std(0) - moved.std(0)).abs().max() < 0.1
    assert (drawn - moved).abs().max() > VOXEL
    truth = joints[0]
    fixed = truth + normal(3000, 1, 3, seed=1)
    assert float(bone_errors(fixed, truth)[0]) == pytest.approx(0, abs=1e-6)
    broken = heatmap_draws(fixed, torch.Generator().manual_seed(0))
    assert float(bone_errors(broken, truth)[0]) > 100


def test_a_straight_line_is_found():
    doublings = torch.log2(torch.tensor(BEST_OF, dtype=torch.float64))
    found = slope(50 - 1.5 * doublings)
    assert found["mm"] == pytest.approx(-1.5)
    assert found["explained"] == pytest.approx(1)
