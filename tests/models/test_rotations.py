from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from flowfit.models.rotations import (
    axis_angle_jacobian,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_rotation_6d,
    retract,
    rotation_6d_to_matrix,
    rotation_angle,
    skew,
)

EDGE_ANGLES = [0.0, 1e-9, 1e-5, 1e-3, 0.00999, 0.01001, 1.0, 3.0, math.pi - 1e-9, math.pi]
coordinate = st.floats(-1, 1, allow_subnormal=False)
axes = (
    st.tuples(coordinate, coordinate, coordinate)
    .filter(lambda v: math.hypot(*v) > 1e-3)
    .map(lambda v: torch.tensor(v, dtype=torch.float64) / math.hypot(*v))
)
angles = st.one_of(st.sampled_from(EDGE_ANGLES), st.floats(0, math.pi))
quick = settings(deadline=None, max_examples=150)


@quick
@given(axes, angles)
def test_axis_angle_round_trip(axis, angle):
    axis_angle = angle * axis
    matrix = axis_angle_to_matrix(axis_angle)
    expected = Rotation.from_rotvec(axis_angle.numpy()).as_matrix()
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-14)
    back = matrix_to_axis_angle(matrix)
    assert back.norm() <= math.pi + 1e-12
    if angle > math.pi - 1e-12 and back @ axis < 0:
        back = -back  # at pi both directions are the same rotation
    torch.testing.assert_close(back, axis_angle, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation_angle(matrix), axis_angle.norm(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", EDGE_ANGLES)
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, -1), (0.6, -0.8, 0), (1, 1, 1)])
def test_edge_angles_in_both_precisions(angle, axis):
    direction = torch.tensor(axis, dtype=torch.float64)
    direction = direction / direction.norm()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
        axis_angle = (angle * direction).to(dtype)
        matrix = axis_angle_to_matrix(axis_angle)
        back = matrix_to_axis_angle(matrix)
        assert back.dtype == dtype
        torch.testing.assert_close(axis_angle_to_matrix(back), matrix, rtol=0, atol=tolerance)
        assert abs(back.norm().item() - angle) < tolerance * (1 if angle < 3.1 else 4)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.01, 1.0, 3.1])
def test_gradients_are_finite_and_right(angle):
    axis_angle = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64) * angle
    axis_angle.requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, axis_angle)

    def there_and_back(v):
        return matrix_to_axis_angle(axis_angle_to_matrix(v))

    jacobian = torch.autograd.functional.jacobian(there_and_back, axis_angle)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_gradient_at_pi_is_finite():
    matrix = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).requires_grad_()
    matrix_to_axis_angle(matrix).sum().backward()
    assert matrix.grad.isfinite().all()


def test_second_gradient_at_zero_is_finite():
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(axis_angle_to_matrix, zero)


@quick
@given(axes, angles)
def test_quaternion_is_unit_with_positive_w(axis, angle):
    quaternion = matrix_to_quaternion(axis_angle_to_matrix(angle * axis))
    assert quaternion[0] >= 0
    half = torch.cat((axis.new_tensor([math.cos(angle / 2)]), math.sin(angle / 2) * axis))
    assert abs(quaternion @ half) == pytest.approx(1, abs=1e-12)


def test_6d_is_column_one_then_column_two():
    matrix = axis_angle_to_matrix(torch.randn(4, 5, 3, dtype=torch.float64))
    six = matrix_to_rotation_6d(matrix)
    torch.testing.assert_close(six[..., :3], matrix[..., :, 0])
    torch.testing.assert_close(six[..., 3:], matrix[..., :, 1])
    torch.testing.assert_close(rotation_6d_to_matrix(six), matrix)


@quick
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_any_6d_vector_gives_a_rotation(numbers):
    six = torch.tensor(numbers, dtype=torch.float64)
    if torch.linalg.cross(six[:3], six[3:]).norm() < 1e-3:
        return  # no plane, no rotation
    matrix = rotation_6d_to_matrix(six)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=1e-9)
    assert torch.linalg.det(matrix) > 0
    first = six[:3] / six[:3].norm()
    torch.testing.assert_close(matrix[:, 0], first, rtol=0, atol=1e-12)
    assert matrix[:, 1] @ six[3:] > 0


@quick
@given(axes, st.one_of(st.sampled_from([0.0, 1e-9, 1e-3, 0.00999, 0.01001]), st.floats(0, 3.1)))
def test_axis_angle_jacobian_against_finite_differences(axis, angle):
    axis_angle = angle * axis
    matrix = axis_angle_to_matrix(axis_angle)
    h = 1e-6
    columns = []
    for unit in torch.eye(3, dtype=torch.float64):
        ahead = matrix_to_axis_angle(retract(matrix, h * unit))
        behind = matrix_to_axis_angle(retract(matrix, -h * unit))
        columns.append((ahead - behind) / (2 * h))
    expected = torch.stack(columns, -1)
    torch.testing.assert_close(axis_angle_jacobian(axis_angle), expected, rtol=0, atol=1e-6)


def test_axis_angle_jacobian_is_finite_at_pi():
    axis_angle = torch.tensor([math.pi, 0, 0], dtype=torch.float64)
    assert axis_angle_jacobian(axis_angle).isfinite().all()


@quick
@given(axes, angles)
def test_retract_is_a_left_perturbation(axis, angle):
    matrix = axis_angle_to_matrix(torch.tensor([0.3, -1.0, 0.4], dtype=torch.float64))
    moved = retract(matrix, angle * axis)
    torch.testing.assert_close(moved @ matrix.T, axis_angle_to_matrix(angle * axis))
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(retract(matrix, zero), matrix)


def test_skew_takes_the_cross_product():
    a, b = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close((skew(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


def test_a_row_of_nan_does_not_touch_the_others():
    axis_angle = torch.randn(3, 3, dtype=torch.float64)
    clean = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    axis_angle[1] = torch.nan
    got = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    assert torch.equal(got[[0, 2]], clean[[0, 2]])
