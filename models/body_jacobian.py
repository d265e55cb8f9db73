"""How a schema's keypoints move when joints turn and the shape changes.

Joint j is turned by a left perturbation of its local rotation, R_j <- exp(w) R_j, which turns
everything below it about the joint by the world vector G w, G being the parent's global rotation.
A keypoint is a weighted sum of points that each follow one bone, so its derivative is a cross
product with the part of that sum that hangs below the joint. No automatic differentiation: the
derivative costs about as much as the keypoints.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from flowfit.models.body import Body, KeypointModel
from flowfit.models.kinematics import NUM_JOINTS, descendants, forward_kinematics, parents


class KeypointJacobian(NamedTuple):
    """Keypoints and their derivatives.

    Attributes:
        points: (B, K, 3) metres, without translation.
        by_rotation: (B, K, 3, 72), by the left perturbations of the 24 local rotations, radians.
        by_betas: (B, K, 3, S).
    """

    points: Tensor
    by_rotation: Tensor
    by_betas: Tensor


def keypoints_with_jacobian(
    body: Body, model: KeypointModel, betas: Tensor, rotations: Tensor
) -> KeypointJacobian:
    """Keypoints of `model` (from `body.keypoint_model(schema)`) with both Jacobians.

    Args:
        body: the body. model: its part for one schema.
        betas: (B, S). rotations: (B, 24, 3, 3) local rotations.

    Returns:
        Points in the frame that the root rotation leads to, metres. Keypoints that the body does
        not have are at the origin with zero derivative.
    """
    surface, fixed = model.surface, _fixed_of(model, body)
    count = len(fixed.of_joints)
    rest = body.rest_joints(betas)
    turned, joints = forward_kinematics(rotations, rest)
    unposed = surface.unposed(betas, rotations)
    people = len(joints)

    # every landmark as carried by each of the 24 bones: (B, 24, 3, N)
    shift = joints - (turned @ rest[..., None])[..., 0]
    carried = (turned.flatten(1, 2) @ unposed.mT).unflatten(1, (NUM_JOINTS, 3)) + shift[..., None]
    # what each bone contributes to each keypoint: (B, 24, 3, K)
    part = (carried * fixed.skinning) @ fixed.of_landmarks.T
    part = part + fixed.of_joints.T[:, None] * joints[..., None]
    points = part.sum(1).mT

    lever = (fixed.hanging @ part.flatten(2)).unflatten(2, (3, count))
    lever = lever - fixed.weight_below[:, None] * joints[..., None]
    upper = parents(turned.device)
    eye = fixed.eye.expand(people, 1, 3, 3)
    above = torch.cat((eye, turned.index_select(1, upper[1:])), 1)
    # columns of the parent's rotation are the world axes of the perturbation
    axes = above[..., None].expand(*above.shape, count)
    arms = lever[:, :, :, None].expand(axes.shape)
    moved = torch.linalg.cross(axes, arms, dim=2)
    by_rotation = moved.permute(0, 4, 2, 1, 3).flatten(3)

    blended = (surface.skinning @ turned.flatten(2)).unflatten(2, (3, 3))
    if fixed.pose_directions is not None:
        by_rotation = by_rotation + _pose_blend_shapes(fixed, rotations, blended)

    # betas: bones change length, landmarks move on the unposed surface
    joints_by_betas = (fixed.hanging.T @ (above @ fixed.bones).flatten(2)).unflatten(2, (3, -1))
    shift_by_betas = joints_by_betas - turned @ body.joint_directions
    landmarks_by_betas = blended @ surface.shape_directions + (
        surface.skinning @ shift_by_betas.flatten(2)
    ).unflatten(2, (3, -1))
    both = torch.cat((joints_by_betas, landmarks_by_betas), 1)
    by_betas = (model.mixing @ both.flatten(2)).unflatten(2, (3, -1))
    return KeypointJacobian(points, by_rotation, by_betas)


class _Fixed(NamedTuple):
    """What does not depend on the people.

    Attributes:
        of_joints, of_landmarks: (K, 24) and (K, N) parts of the mixing.
        skinning: (24, 1, N). hanging: (24, 24), [a, j] says that j is a or hangs below a.
        weight_below: (24, K), how much of a keypoint hangs below each joint.
        bones: (24, 3, S), how the bones change with betas. eye: (3, 3).
        pose_directions: (23, 3N, 9), or None. generators: (9, 3) skew matrices of the unit vectors.
    """

    of_joints: Tensor
    of_landmarks: Tensor
    skinning: Tensor
    hanging: Tensor
    weight_below: Tensor
    bones: Tensor
    eye: Tensor
    pose_directions: Tensor | None
    generators: Tensor


_FIXED: WeakKeyDictionary[KeypointModel, _Fixed] = WeakKeyDictionary()


def _fixed_of(model: KeypointModel, body: Body) -> _Fixed:
    """Made once for each keypoint model."""
    if model not in _FIXED:
        surface, mixing = model.surface, model.mixing
        of_joints, of_landmarks = mixing[:, :NUM_JOINTS], mixing[:, NUM_JOINTS:]
        hanging = descendants().to(mixing)
        directions = body.joint_directions
        # the root has no bone above it: it stays where it rests
        bones = directions - directions.index_select(0, parents(directions.device))
        bones = torch.cat((directions[:1], bones[1:]))
        generators = mixing.new_zeros(3, 3, 3)
        for axis in range(3):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            generators[axis, b, a], generators[axis, a, b] = 1.0, -1.0
        pose = surface.pose_directions
        if pose is not None:
            pose = pose.flatten(0, 1).unflatten(1, (NUM_JOINTS - 1, 9)).transpose(0, 1).contiguous()
        _FIXED[model] = _Fixed(
            of_joints,
            of_landmarks,
            surface.skinning.T[:, None].contiguous(),
            hanging,
            hanging @ (of_joints + of_landmarks @ surface.skinning).T,
            bones,
            torch.eye(3, dtype=mixing.dtype, device=mixing.device),
            pose,
            generators.flatten(0, 1),
        )
    return _FIXED[model]


def _pose_blend_shapes(fixed: _Fixed, rotations: Tensor, blended: Tensor) -> Tensor:
    """The share of (B, K, 3, 72) that comes from the pose blend shapes."""
    assert fixed.pose_directions is not None
    # (B, 23, 3 axes, 9): how the joints' rotations change
    turning = (fixed.generators @ rotations[:, 1:]).flatten(2).unflatten(2, (3, 9))
    offset = fixed.pose_directions @ turning.mT  # (B, 23, 3N, 3)
    offset = offset.transpose(1, 2).flatten(2).unflatten(1, (-1, 3))  # (B, N, 3, 69)
    moved = (fixed.of_landmarks @ (blended @ offset).flatten(2)).unflatten(2, (3, -1))
    return torch.nn.functional.pad(moved, (3, 0))  # the root has no pose blend shapes
