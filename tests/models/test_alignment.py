"""The nearest rotation, and what is brought together by it."""

from __future__ import annotations

import math

import torch
from scipy.spatial.transform import Rotation

from flowfit.models.alignment import chordal_mean, nearest_rotation, rigid_alignment
from flowfit.models.rotations import axis_angle_to_matrix


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_rotation_is_its_own_nearest():
    rotations = axis_angle_to_matrix(normal(5, 3))
    torch.testing.assert_close(nearest_rotation(rotations), rotations)
    torch.testing.assert_close(nearest_rotation(3 * rotations), rotations)


def test_nothing_near_is_nearer_and_nothing_is_mirrored():
    matrices = normal(20, 3, 3)
    found = nearest_rotation(matrices)
    assert (torch.linalg.det(matrices) < 0).any()
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(20).double())
    torch.testing.assert_close(found @ found.mT, torch.eye(3).double().expand(20, 3, 3))
    off = (found - matrices).flatten(1).norm(dim=-1)
    for size in (1e-3, 0.1, 1.0):
        others = axis_angle_to_matrix(size * normal(20, 3, seed=1)) @ found
        assert ((others - matrices).flatten(1).norm(dim=-1) > off).all()


def test_what_is_not_finite_does_not_spoil_the_others():
    matrices = normal(3, 3, 3)
    alone = nearest_rotation(matrices)
    matrices[1, 0, 0] = math.nan
    found = nearest_rotation(matrices)
    assert torch.equal(found[[0, 2]], alone[[0, 2]])
    assert torch.equal(found[1], torch.eye(3).double())


def test_the_chordal_mean_is_scipys():
    rotations, weight = axis_angle_to_matrix(0.4 * normal(4, 6, 3)), normal(4, 6, seed=2).abs()
    found = chordal_mean(rotations, weight)
    for row in range(4):
        expected = Rotation.from_matrix(rotations[row]).mean(weight[row].numpy()).as_matrix()
        torch.testing.assert_close(found[row], torch.from_numpy(expected))
    rotations[2, 0, 1, 1] = math.inf
    found = chordal_mean(rotations, weight)
    assert found[2].isnan().all()
    assert found[[0, 1, 3]].isfinite().all()


def test_a_rigid_motion_is_found_by_the_points_that_count():
    turn, shift = axis_angle_to_matrix(normal(4, 3)), normal(4, 3, seed=3)
    source, weight = normal(4, 7, 3, seed=4), torch.ones(4, 7).double()
    target = source @ turn.mT + shift[:, None]
    target[:, 2], weight[:, 2] = 100, 0
    found, moved = rigid_alignment(source, target, weight)
    torch.testing.assert_close(found, turn)
    torch.testing.assert_close(moved, shift)
