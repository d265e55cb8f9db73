"""What is known of people in pictures, as tensors; and what becomes of it when a picture changes.

A picture may be mirrored, turned about the point that its camera looks at, and cut elsewhere. The
camera stays the same camera, so a body that explained the keypoints before still does, once it is
mirrored or turned along.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.kinematics import joint_index, mirror_rotations
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.datasets.people import SCHEMA, PictureSet
from flowfit.priors.networks.encoders import Boxes


class Labels(NamedTuple):
    """B people in their whole pictures.

    Attributes:
        keypoints: (B, 44, 2) pixels. confidence: (B, 44). camera: of each. size: (B, 2) pixels.
        box: where the picture is cut. points: (B, 44, 3) metres in the camera's axes, the origin
            anywhere. points_confidence: (B, 44). rotations: (B, 24, 3, 3). betas: (B, S). transl:
            (B, 3) metres. has_pose, has_betas, has_transl: (B,) boolean.
    """

    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    size: Tensor
    box: Boxes
    points: Tensor
    points_confidence: Tensor
    rotations: Tensor
    betas: Tensor
    transl: Tensor
    has_pose: Tensor
    has_betas: Tensor
    has_transl: Tensor


def labels_of(people: PictureSet, sizes: np.ndarray, dtype: torch.dtype = torch.float32) -> Labels:
    """A set's people as tensors.

    Args:
        sizes: (N, 2) pixels, width and height of the pictures as they were read.

    Where no camera is known, the focal length is the picture's diagonal and it looks at the middle.
    """

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values).to(dtype)

    size = tensor(sizes)
    diagonal = size.norm(dim=-1, keepdim=True).expand(-1, 2)
    focal, principal = tensor(people.focal), tensor(people.principal)
    camera = Camera(
        torch.where(focal.isfinite(), focal, diagonal),
        torch.where(principal.isfinite(), principal, size / 2),
    )
    transl = tensor(people.transl)
    has_transl = transl.isfinite().all(-1) & torch.as_tensor(people.has_pose & people.has_betas)
    return Labels(
        tensor(people.keypoints),
        tensor(people.confidence),
        camera,
        size,
        Boxes(tensor(people.center), tensor(people.side)),
        tensor(people.points),
        tensor(people.points_confidence),
        axis_angle_to_matrix(torch.as_tensor(people.pose)).to(dtype),
        tensor(people.betas),
        torch.where(has_transl[:, None], transl, 0),
        torch.as_tensor(people.has_pose),
        torch.as_tensor(people.has_betas),
        has_transl,
    )


def mirrored(labels: Labels, which: Tensor, body: Body) -> Labels:
    """The labels of pictures seen in a mirror, where `which` (B,) says so."""
    flip = list(SCHEMA.flip)
    sign = labels.transl.new_tensor([-1.0, 1.0, 1.0])
    width = labels.size[:, :1]

    def across(pixels: Tensor) -> Tensor:
        wide = width.view(-1, *(1,) * (pixels.ndim - 1))
        return torch.cat((wide - pixels[..., :1], pixels[..., 1:]), -1)

    pelvis = _pelvis(labels, body)
    seen = labels.confidence > 0
    changed = labels._replace(
        keypoints=torch.where(seen[..., None], across(labels.keypoints), 0)[:, flip],
        confidence=labels.confidence[:, flip],
        camera=Camera(labels.camera.focal, across(labels.camera.center)),
        box=Boxes(across(labels.box.center), labels.box.side),
        points=(labels.points * sign)[:, flip],
        points_confidence=labels.points_confidence[:, flip],
        rotations=mirror_rotations(labels.rotations),
        transl=(labels.transl + pelvis) * sign - pelvis,
    )
    return where(which, changed, labels)


def turned(labels: Labels, degrees: Tensor, body: Body) -> Labels:
    """The labels of pictures turned clockwise by `degrees` (B,) about the camera's own point.

    The box keeps its side and its sides' directions: the square is cut from the turned picture.
    """
    angle = degrees * (math.pi / 180)
    zero = torch.zeros_like(angle)
    turn = axis_angle_to_matrix(torch.stack((zero, zero, angle), -1))  # y points down: clockwise
    flat, middle = turn[:, :2, :2], labels.camera.center

    def about(pixels: Tensor) -> Tensor:
        return (pixels - middle[:, None]) @ flat.transpose(-1, -2) + middle[:, None]

    pelvis = _pelvis(labels, body)
    root = turn @ labels.rotations[:, 0]
    seen = (labels.confidence > 0)[..., None]
    return labels._replace(
        keypoints=torch.where(seen, about(labels.keypoints), 0),
        box=Boxes(about(labels.box.center[:, None])[:, 0], labels.box.side),
        points=labels.points @ turn.transpose(-1, -2),
        rotations=torch.cat((root[:, None], labels.rotations[:, 1:]), 1),
        transl=(turn @ (labels.transl + pelvis)[..., None])[..., 0] - pelvis,
    )


def turned_back(pixels: Tensor, degrees: Tensor, middle: Tensor) -> Tensor:
    """Where (B, 2) pixels of the turned pictures were before."""
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = (pixels - middle).unbind(-1)
    return torch.stack((cos * x + sin * y, cos * y - sin * x), -1) + middle


def where(which: Tensor, changed: Labels, kept: Labels) -> Labels:
    """The changed labels of some people (B,), the others' as they were."""

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(which.view(-1, *(1,) * (new.ndim - 1)), new, old)

    found: dict[str, Any] = {}
    for name in Labels._fields:
        new: Any = getattr(changed, name)
        old: Any = getattr(kept, name)
        if isinstance(new, Camera):
            found[name] = Camera(pick(new.focal, old.focal), pick(new.center, old.center))
        elif isinstance(new, Boxes):
            found[name] = Boxes(pick(new.center, old.center), pick(new.side, old.side))
        else:
            found[name] = pick(new, old)
    return Labels(**found)


def _pelvis(labels: Labels, body: Body) -> Tensor:
    """(B, 3) where the unposed bodies have it: SMPL turns a body about this point."""
    joints = body.rest_joints(labels.betas.to(dtype=body.dtype, device=body.device))
    return joints[:, joint_index("pelvis")].to(labels.transl)
