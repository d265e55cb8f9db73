"""The field's error measures."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.models.alignment import procrustes
from flowfit.models.kinematics import joint_index
from flowfit.models.rotations import rotation_angle

# the 14 joints that the tables here are over: SMPL's own, where the field's tables have 14, too
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_OF_LIMBS = tuple(f"{side}_{joint}" for joint in _LIMBS for side in ("left", "right"))
EVALUATION_JOINTS = (*_OF_LIMBS, "neck", "head")
JOINTS = [joint_index(name) for name in EVALUATION_JOINTS]
TURNED = 45.0  # degrees; a body turned further away faces another way


def mpjpe(predicted: Tensor, truth: Tensor, root: Tensor | int) -> Tensor:
    """Mean per joint position error after aligning the root joint.

    Args:
        predicted, truth: (..., J, 3) metres. root: place of the root among the joints.

    Returns:
        (...) metres.
    """
    predicted = predicted - predicted[..., root, :][..., None, :]
    truth = truth - truth[..., root, :][..., None, :]
    return (predicted - truth).norm(dim=-1).mean(-1)


def pa_mpjpe(predicted: Tensor, truth: Tensor) -> Tensor:
    """MPJPE after Procrustes alignment of the prediction. (..., J, 3) metres -> (...) metres."""
    return (procrustes(predicted, truth) - truth).norm(dim=-1).mean(-1)


def orientation_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Angle between two root rotations, degrees. (..., 3, 3) -> (...)."""
    return torch.rad2deg(rotation_angle(predicted.transpose(-1, -2) @ truth))
