"""How a rotation turns when its six numbers change."""

from __future__ import annotations

import torch

from flowfit.models.rotations import (
    matrix_to_axis_angle,
    rotation_6d_jacobian,
    rotation_6d_to_matrix,
)


def some_six(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 6, generator=generator, dtype=torch.float64)


def turning(six, direction, h=1e-6):
    """Left perturbation by finite differences, along a direction."""
    ahead = rotation_6d_to_matrix(six + h * direction)
    behind = rotation_6d_to_matrix(six - h * direction)
    return matrix_to_axis_angle(ahead @ behind.transpose(-1, -2)) / (2 * h)


def test_jacobian_against_finite_differences():
    six = some_six(5, 7)
    matrix, got = rotation_6d_jacobian(six)
    torch.testing.assert_close(matrix, rotation_6d_to_matrix(six))
    expected = torch.stack([turning(six, unit) for unit in torch.eye(6).double()], -1)
    assert got.shape == (5, 7, 3, 6)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_two_lengths_and_one_angle_turn_nothing():
    six = some_six(20)
    _, jacobian = rotation_6d_jacobian(six)
    first, second = six[:, :3], six[:, 3:]
    none = torch.zeros_like(first)
    for gauge in ((first, none), (none, second), (none, first)):
        direction = torch.cat(gauge, -1)
        moved = (jacobian @ direction[..., None])[..., 0]
        torch.testing.assert_close(moved, none, rtol=0, atol=1e-12)
        longer = rotation_6d_to_matrix(six + 0.3 * direction)
        torch.testing.assert_close(longer, rotation_6d_to_matrix(six), rtol=0, atol=1e-12)
    assert (torch.linalg.matrix_rank(jacobian) == 3).all()


def test_at_orthonormal_vectors():
    six = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64)
    _, jacobian = rotation_6d_jacobian(six)
    expected = torch.tensor(
        [[0, 0, 0, 0, 0, 1], [0, 0, -1, 0, 0, 0], [0, 1, 0, 0, 0, 0]], dtype=torch.float64
    )
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-15)


def test_single_precision_and_one_bad_row():
    six = some_six(4).float()
    six[2] = torch.nan
    matrix, jacobian = rotation_6d_jacobian(six)
    assert matrix.dtype == jacobian.dtype == torch.float32
    good = torch.tensor([0, 1, 3])
    _, expected = rotation_6d_jacobian(six[good].double())
    torch.testing.assert_close(jacobian[good].double(), expected, rtol=1e-3, atol=1e-4)
