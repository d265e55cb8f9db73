"""How a schema's keypoints move when joints turn and the shape changes.

Joint j is turned by a left perturbation of its local rotation, R_j <- exp(w) R_j, which turns
everything below it about the joint by the world vector G w, G being the parent's global rotation.
A keypoint is a weighted sum of points that each follow one bone, so its derivative is a cross
product with the part of that sum that hangs below the joint. No automatic differentiation: the
derivative costs about as much as the keypoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.body import Body, KeypointModel
from models.kinematics import NUM_JOINTS, descendants, forward_kinematics, parents


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
    surface, mixing = model.surface, model.mixing
    below = descendants().to(mixing.device)
    rest = body.rest_joints(betas)
    turned, joints = forward_kinematics(rotations, rest)
    unposed = surface.unposed(betas, rotations)

    # every landmark as carried by each of the 24 bones: (B, N, 24, 3)
    shift = joints - (turned @ rest[..., None])[..., 0]
    carried = torch.einsum("bjac,bnc->bnja", turned, unposed) + shift[:, None]
    weighted = surface.skinning[..., None] * carried
    of_joints, of_landmarks = mixing[:, :NUM_JOINTS], mixing[:, NUM_JOINTS:]
    # contribution of each bone to each keypoint, its place and its weight
    part = of_joints[..., None] * joints[:, None] + torch.einsum(
        "kn,bnja->bkja", of_landmarks, weighted
    )
    weight = of_joints + of_landmarks @ surface.skinning
    points = part.sum(2)

    hanging = below.to(part.dtype)
    lever = torch.einsum("ij,bkja->bkia", hanging, part)
    lever = lever - (weight @ hanging.T)[..., None] * joints[:, None]
    eye = torch.eye(3, dtype=turned.dtype, device=turned.device).expand(len(turned), 1, 3, 3)
    upper = parents(turned.device)
    above = torch.cat((eye, turned.index_select(1, upper[1:])), 1)
    # columns of the parent's rotation are the world axes of the perturbation: (B, K, 24, 3 axes)
    axes = above.transpose(-1, -2)[:, None]
    moved = torch.linalg.cross(axes.expand(-1, lever.shape[1], -1, -1, -1), lever[..., None, :])
    by_rotation = moved.flatten(2, 3).transpose(-1, -2)

    blended = torch.einsum("nj,bjac->bnac", surface.skinning, turned)
    if surface.pose_directions is not None:
        by_rotation = by_rotation + _pose_blend_shapes(
            surface.pose_directions, rotations, blended, of_landmarks
        )

    # betas: bones change length, landmarks move on the unposed surface
    directions = body.joint_directions
    # the root has no bone above it: it is its own parent, and stays where it rests
    bone = directions - directions.index_select(0, upper)
    bone = torch.cat((directions[:1], bone[1:]))
    stretched = torch.einsum("bjac,jcs->bjas", above, bone)
    joints_by_betas = torch.einsum("ij,bias->bjas", hanging, stretched)
    shift_by_betas = joints_by_betas - torch.einsum("bjac,jcs->bjas", turned, directions)
    landmarks_by_betas = torch.einsum(
        "bnac,ncs->bnas", blended, surface.shape_directions
    ) + torch.einsum("nj,bjas->bnas", surface.skinning, shift_by_betas)
    by_betas = torch.einsum("kj,bjas->bkas", of_joints, joints_by_betas)
    by_betas = by_betas + torch.einsum("kn,bnas->bkas", of_landmarks, landmarks_by_betas)
    return KeypointJacobian(points, by_rotation, by_betas)


def _pose_blend_shapes(
    pose_directions: Tensor, rotations: Tensor, blended: Tensor, of_landmarks: Tensor
) -> Tensor:
    """The share of (B, K, 3, 72) that comes from the pose blend shapes."""
    generators = torch.zeros(3, 3, 3, dtype=rotations.dtype, device=rotations.device)
    for axis in range(3):  # skew matrices of the unit vectors
        a, b = (axis + 1) % 3, (axis + 2) % 3
        generators[axis, b, a], generators[axis, a, b] = 1.0, -1.0
    turning = torch.einsum("wac,bjcd->bjwad", generators, rotations[:, 1:]).flatten(-2)
    directions = pose_directions.unflatten(-1, (NUM_JOINTS - 1, 9))
    offset = torch.einsum("ncjp,bjwp->bncjw", directions, turning).flatten(-2)
    moved = torch.einsum("kn,bnac,bncw->bkaw", of_landmarks, blended, offset)
    return torch.nn.functional.pad(moved, (3, 0))  # the root has no pose blend shapes
