"""Knees and elbows bend one way.

Two forms: hinge limits, free inside the range and quadratic outside, and SMPLify's exponential
cost, which pulls everywhere (and costs accuracy: see docs/results.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.models.kinematics import joint_index
from flowfit.priors.classical.prior import POSE_SIZE, Linear

_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Limit:
    """Range of one axis-angle number of a joint, degrees."""

    joint: str
    axis: str
    low: float
    high: float


# flexion of the hinge joints; the twist and bend that they do not have
HINGES: tuple[Limit, ...] = (
    Limit("left_knee", "x", 0, 150),
    Limit("right_knee", "x", 0, 150),
    Limit("left_elbow", "y", -155, 0),
    Limit("right_elbow", "y", 0, 155),
)
# SMPLify's bending directions: the sign that makes extension beyond straight positive
_BENDING: tuple[tuple[str, str, float], ...] = (
    ("left_elbow", "y", 1.0),
    ("right_elbow", "y", -1.0),
    ("left_knee", "x", -1.0),
    ("right_knee", "x", -1.0),
)


def _place(joint: str, axis: str) -> int:
    """Place of a joint's axis-angle number among the body's 69."""
    return 3 * (joint_index(joint) - 1) + _AXES[axis]


class HingeLimits:
    """Zero inside the range; outside, residual = degrees beyond / `softness`.

    Args:
        limits: the ranges. softness: degrees that cost 0.5.
    """

    name = "limits"
    uses_up = False

    def __init__(self, limits: tuple[Limit, ...] = HINGES, softness: float = 3.0) -> None:
        self.limits, self.softness = limits, softness
        self._places = [_place(x.joint, x.axis) for x in limits]

    def linearize(self, body_pose: Tensor) -> Linear:
        """Residual (B, limits) and Jacobian (B, limits, 69)."""
        scale = 180 / (math.pi * self.softness)
        low = body_pose.new_tensor([math.radians(x.low) for x in self.limits])
        high = body_pose.new_tensor([math.radians(x.high) for x in self.limits])
        angle = body_pose[:, self._places]
        residual = ((angle - high).clamp(min=0) + (angle - low).clamp(max=0)) * scale
        beyond = (residual != 0).to(body_pose.dtype) * scale
        pick = torch.eye(POSE_SIZE, dtype=body_pose.dtype, device=body_pose.device)[self._places]
        return Linear(residual, beyond[..., None] * pick)

    def modes(self) -> None:
        """Limits prefer no pose."""
        return None

    def mean_pose(self) -> None:
        """None, for the same reason."""
        return None

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> HingeLimits:
        """Itself: it holds no tensors."""
        return self


class ExponentialBending:
    """SMPLify's angle prior: residual exp(angle) for knees and elbows, so energy 0.5 exp(a)^2."""

    name = "angle"
    uses_up = False

    def __init__(self) -> None:
        self._places = [_place(joint, axis) for joint, axis, _ in _BENDING]

    def linearize(self, body_pose: Tensor) -> Linear:
        """Residual (B, 4) and Jacobian (B, 4, 69)."""
        sign = body_pose.new_tensor([s for _, _, s in _BENDING])
        residual = (body_pose[:, self._places] * sign).exp()
        pick = torch.eye(POSE_SIZE, dtype=body_pose.dtype, device=body_pose.device)[self._places]
        return Linear(residual, (residual * sign)[..., None] * pick)

    def modes(self) -> None:
        """The cost has no least pose."""
        return None

    def mean_pose(self) -> None:
        """None, for the same reason."""
        return None

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> ExponentialBending:
        """Itself: it holds no tensors."""
        return self
