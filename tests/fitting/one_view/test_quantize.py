"""Samples as a few modes."""

from __future__ import annotations

import pytest
import torch

from flowfit.fitting.one_view.quantize import quantize
from flowfit.models.errors import InputError


@pytest.fixture(scope="module")
def three():
    """1,000 skeletons around three, in shares of 60, 30 and 10 %."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(3, 24, 3, generator=generator)
    which = torch.arange(1000) % 10
    kind = torch.where(which < 6, 0, torch.where(which < 9, 1, 2))
    return centers[kind] + 0.02 * torch.randn(1000, 24, 3, generator=generator), kind


def test_clusters_are_found_with_their_shares(three):
    joints, kind = three
    modes = quantize(joints, 3)
    assert kind[modes.index].tolist() == [0, 1, 2]
    assert modes.weight.tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert torch.equal(modes.member, kind)


def test_a_mode_is_the_sample_nearest_to_its_cluster(three):
    joints, kind = three
    relative = (joints - joints[:, :1]).flatten(1)
    modes = quantize(joints, 3)
    for place, index in enumerate(modes.index):
        own = relative[kind == place]
        away = (own - own.mean(0)).norm(dim=-1)
        assert float((relative[index] - own.mean(0)).norm()) == pytest.approx(float(away.min()))


def test_where_a_person_stands_does_not_matter(three):
    joints, _ = three
    moved = joints + 3 * torch.randn(1000, 1, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(quantize(joints, 3).index, quantize(moved, 3).index)


def test_weights_count(three):
    joints, kind = three
    weights = torch.where(kind == 2, 9.0, 1.0) * (kind != 1)
    modes = quantize(joints, 2, weights=weights)
    assert kind[modes.index].tolist() == [2, 0]
    assert modes.weight.tolist() == pytest.approx([0.6, 0.4])
    assert len(modes.member) == 1000


def test_the_seed_repeats(three):
    joints, _ = three
    one, other = quantize(joints, 7, seed=3), quantize(joints, 7, seed=3)
    assert torch.equal(one.index, other.index)
    assert float(one.weight.sum()) == pytest.approx(1)
    assert (one.weight.diff() <= 0).all()


def test_samples_that_repeat_give_fewer_modes():
    joints = torch.zeros(6, 24, 3)
    joints[3:, 5] = 1
    modes = quantize(joints, 4)
    assert len(modes.index) == 2
    assert modes.weight.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_number_of_modes_that_cannot_be(three, count):
    with pytest.raises(InputError, match="give between 1 and 1000"):
        quantize(three[0], count)


def test_samples_that_are_no_numbers(three):
    broken = three[0].clone()
    broken[4, 3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        quantize(broken, 3)
    with pytest.raises(InputError, match="weigh nothing"):
        quantize(three[0], 3, weights=torch.zeros(1000))
