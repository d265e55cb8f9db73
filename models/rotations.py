"""Rotations as 3x3 matrices, axis-angle vectors and 6D vectors.

Inside the project a rotation is a 3x3 matrix; axis-angle belongs to files and to the classical
pose priors, 6D to the normalizing flow (Zhou et al., CVPR 2019). Every function takes free
leading axes and is smooth at rotation angle zero; `matrix_to_axis_angle` is finite and correct up
to and including pi.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL_ANGLE_SQUARED = 1e-6  # below this the Taylor series is exact to float64 rounding


def skew(vector: Tensor) -> Tensor:
    """Matrix S of a cross product, S @ x = v x x. (..., 3) -> (..., 3, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def _sine_terms(angle_squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 from a^2, with gradients safe at zero."""
    small = angle_squared < _SMALL_ANGLE_SQUARED
    safe = torch.where(small, torch.ones_like(angle_squared), angle_squared)
    angle = safe.sqrt()
    s, s2 = angle_squared, angle_squared * angle_squared
    sinc = torch.where(small, 1 - s / 6 + s2 / 120, angle.sin() / angle)
    # 1 - cos a = 2 sin(a/2)^2 keeps its digits for small angles
    half_sine = (0.5 * angle).sin()
    cosc = torch.where(small, 0.5 - s / 24 + s2 / 720, 2 * half_sine * half_sine / safe)
    cubic = torch.where(small, 1 / 6 - s / 120 + s2 / 5040, (angle - angle.sin()) / (safe * angle))
    return sinc, cosc, cubic


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula. Radians (..., 3) -> (..., 3, 3)."""
    sinc, cosc, _ = _sine_terms((axis_angle * axis_angle).sum(-1))
    k = skew(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sinc[..., None, None] * k + cosc[..., None, None] * (k @ k)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0. (..., 3, 3) -> (..., 4).

    Of the four equivalent formulas the one with the largest divisor is taken (Shepperd 1978), so
    that no digits are lost near pi.
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    yz, zx, xy = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    zy, xz, yx = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    candidates = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, yz - zy, zx - xz, xy - yx), -1),
            torch.stack((yz - zy, 1 + xx - yy - zz, xy + yx, zx + xz), -1),
            torch.stack((zx - xz, xy + yx, 1 - xx + yy - zz, yz + zy), -1),
            torch.stack((xy - yx, zx + xz, yz + zy, 1 - xx - yy + zz), -1),
        ),
        -2,
    )
    divisors = candidates.diagonal(dim1=-2, dim2=-1)
    best = divisors.argmax(-1)
    chosen = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Logarithm of a rotation. (..., 3, 3) -> radians (..., 3), length at most pi."""
    quaternion = matrix_to_quaternion(matrix)
    w, xyz = quaternion[..., 0], quaternion[..., 1:]
    sine_squared = (xyz * xyz).sum(-1)
    small = sine_squared < _SMALL_ANGLE_SQUARED
    safe_sine = torch.where(small, torch.ones_like(sine_squared), sine_squared).sqrt()
    # angle / sin(angle/2); series of 2 atan(s/w)/s around s = 0, where w = sqrt(1 - s^2)
    series = 2 + sine_squared / 3 + 3 * sine_squared * sine_squared / 20
    factor = torch.where(small, series, 2 * torch.atan2(safe_sine, w) / safe_sine)
    return factor[..., None] * xyz


def rotation_6d_to_matrix(six: Tensor) -> Tensor:
    """Gram-Schmidt of two column vectors. (..., 6) -> (..., 3, 3).

    The six numbers are column 1, then column 2 of the matrix (ProHMR's layout).
    """
    first, second = six[..., :3], six[..., 3:]
    c1 = torch.nn.functional.normalize(first, dim=-1)
    c2 = torch.nn.functional.normalize(second - (c1 * second).sum(-1, keepdim=True) * c1, dim=-1)
    return torch.stack((c1, c2, torch.linalg.cross(c1, c2)), -1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Column 1, then column 2. (..., 3, 3) -> (..., 6)."""
    return torch.cat((matrix[..., 0], matrix[..., 1]), -1)


def rotation_6d_jacobian(six: Tensor) -> tuple[Tensor, Tensor]:
    """`rotation_6d_to_matrix`, and how the rotation turns when the six numbers change.

    Returns:
        Matrices (..., 3, 3) and (..., 3, 6): the left perturbation w of R <- exp(w) R, radians, by
        the six numbers. Three of the six directions (two lengths, one angle) turn nothing.
    """
    matrix = rotation_6d_to_matrix(six)
    c1, c2, c3 = matrix.unbind(-1)
    first, second = six[..., :3], six[..., 3:]
    along = (c1 * second).sum(-1, keepdim=True)
    by_first = 1 / first.norm(dim=-1, keepdim=True)
    by_second = 1 / (second - along * c1).norm(dim=-1, keepdim=True)
    about1 = torch.cat((-along * by_first * by_second * c3, by_second * c3), -1)
    about2 = torch.cat((-by_first * c3, torch.zeros_like(c3)), -1)
    about3 = torch.cat((by_first * c2, torch.zeros_like(c2)), -1)
    return matrix, matrix @ torch.stack((about1, about2, about3), -2)


def retract(matrix: Tensor, step: Tensor) -> Tensor:
    """Left perturbation exp(step) @ matrix: how the solver moves on the rotation group."""
    return axis_angle_to_matrix(step) @ matrix


def axis_angle_jacobian(axis_angle: Tensor) -> Tensor:
    """Inverse left Jacobian of SO(3): d log(exp(step) R) / d step at step 0.

    Args:
        axis_angle: radians (..., 3), length at most pi (what `matrix_to_axis_angle` gives).

    Returns:
        (..., 3, 3). Source: Sola et al., "A micro Lie theory", 2018, equation 146.
    """
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < 1e-4
    safe = torch.where(small, torch.ones_like(squared), squared)
    half = 0.5 * safe.sqrt()
    # 1/a^2 - (1 + cos a)/(2 a sin a) = (1 - (a/2) cot(a/2)) / a^2
    exact = (1 - half * half.cos() / half.sin()) / safe
    series = 1 / 12 + squared / 720 + squared * squared / 30240
    k = skew(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye - 0.5 * k + torch.where(small, series, exact)[..., None, None] * (k @ k)


def rotation_angle(matrix: Tensor) -> Tensor:
    """Rotation angle in radians, 0 to pi. (..., 3, 3) -> (...)."""
    return matrix_to_axis_angle(matrix).norm(dim=-1)
