"""The classical priors: densities and limits on the axis-angle vectors of the body's joints.

Here the latent is the body itself (24 rotation matrices and the betas), and the terms act on the
69 axis-angle numbers of SMPL's 23 body joints, as in SMPLify. Where it is known which way is up, a
term may also use the direction of up in the root's axes (three more numbers: which poses are
likely depends on gravity); otherwise the root's orientation is free but for a weak preference for
an upright body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import NUM_BODY_JOINTS, NUM_JOINTS
from flowfit.models.rotations import (
    axis_angle_jacobian,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    retract,
    skew,
)
from flowfit.priors.base import Pose, PosePrior, PriorModel, PullBack, Start, Term

POSE_SIZE = NUM_BODY_JOINTS * 3  # axis-angle numbers of the body joints
UP_SIZE = 3  # the direction of up in the root's axes
_ROTATION_NUMBERS = NUM_JOINTS * 9


class Linear(NamedTuple):
    """A residual (B, M) and its Jacobian by the N numbers it depends on, (M, N) or (B, M, N)."""

    residual: Tensor
    jacobian: Tensor


class PoseTerm(Protocol):
    """A cost of the body joints' axis-angle vectors.

    Attributes:
        name: what recipes call it. uses_up: the 69 numbers are followed by the direction of up in
            the root's axes (72 in all).
    """

    name: str
    uses_up: bool

    def linearize(self, body_pose: Tensor) -> Linear:
        """Residual and Jacobian at (B, 69) radians, or (B, 72) when it uses up."""
        ...

    def modes(self) -> Tensor | None:
        """The likeliest poses (M, 69), or None when the term prefers none."""
        ...

    def mean_pose(self) -> Tensor | None:
        """The mean pose (69,), or None when the term prefers none."""
        ...

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> PoseTerm:
        """The same in another number type or on another device."""
        ...


class RotationPrior(PriorModel, PosePrior):
    """Pose terms on the axis-angle vectors, and N(0, 1) betas.

    Args:
        name: what results call it.
        pose_terms: costs of the body pose.
        num_betas: S.
        up: (3,) the direction that is up in the frame of the root, for example (0, -1, 0) in an
            OpenCV camera. For pose terms that use it; if none does, the term "upright" is added:
            |body's up - up|, from 0 to 2.
    """

    def __init__(
        self,
        name: str,
        pose_terms: Sequence[PoseTerm],
        *,
        num_betas: int = 10,
        up: Tensor | None = None,
    ) -> None:
        self.name = name
        self.costly = False
        self.pose_terms = tuple(pose_terms)
        self.num_betas = num_betas
        self.up = up
        self.knows_gravity = any(t.uses_up for t in self.pose_terms)
        if self.knows_gravity and up is None:
            raise ValueError(f"prior {name!r} needs to know which way is up")
        self.step_blocks = {"root": 3, "pose": POSE_SIZE, "shape": num_betas}

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> RotationPrior:
        """The same prior in another number type or on another device."""
        return RotationPrior(
            self.name,
            [t.to(dtype=dtype, device=device) for t in self.pose_terms],
            num_betas=self.num_betas,
            up=None if self.up is None else self.up.to(dtype=dtype, device=device),
        )

    def encode(self, pose: Pose) -> Tensor:
        """Rotations and betas side by side: (B, 216 + S)."""
        return torch.cat((pose.rotations.flatten(-3), pose.betas), -1)

    def decode(self, latent: Tensor) -> Pose:
        """The rotations and betas again."""
        rotations = latent[..., :_ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 3, 3))
        return Pose(rotations, latent[..., _ROTATION_NUMBERS:])

    def linearize(self, latent: Tensor) -> tuple[Pose, PullBack]:
        """A step is the body's own motion: derivatives stay as they are."""
        return self.decode(latent), _unchanged

    def usual_derivatives(self) -> Tensor | None:
        """None: there is nothing to learn."""
        return None

    def move(self, latent: Tensor, step: Tensor) -> Tensor:
        """Turn every joint by its three numbers, add the rest to the betas."""
        pose = self.decode(latent)
        turn = step[..., : NUM_JOINTS * 3].unflatten(-1, (NUM_JOINTS, 3))
        return self.encode(
            Pose(retract(pose.rotations, turn), pose.betas + step[..., NUM_JOINTS * 3 :])
        )

    def terms(self, latent: Tensor, *, jacobian: bool) -> list[Term]:
        """The pose terms, "shape" (betas) and, with `up`, "upright"."""
        pose = self.decode(latent)
        axis_angle = matrix_to_axis_angle(pose.rotations[..., 1:, :, :])
        batch, size = latent.shape[0], NUM_JOINTS * 3 + self.num_betas
        by_step = axis_angle_jacobian(axis_angle) if jacobian else None  # (B, 23, 3, 3)
        features, up_by_root = axis_angle.flatten(-2), None
        if self.up is not None:
            to_root = pose.rotations[:, 0].transpose(-1, -2)
            features = torch.cat((features, to_root @ self.up), -1)
            up_by_root = to_root @ skew(self.up)
        found = []
        for term in self.pose_terms:
            numbers = POSE_SIZE + UP_SIZE * term.uses_up
            residual, slope = term.linearize(features[:, :numbers])
            full = None
            if by_step is not None:
                slope = slope.expand(batch, -1, -1)
                by_joint = slope[..., :POSE_SIZE].unflatten(-1, (NUM_BODY_JOINTS, 3))
                chained = (by_joint[..., None, :] @ by_step[:, None])[..., 0, :].flatten(-2)
                full = torch.nn.functional.pad(chained, (3, self.num_betas))
                if term.uses_up and up_by_root is not None:
                    full[..., :3] = slope[..., POSE_SIZE:] @ up_by_root
            found.append(Term(term.name, residual, full))
        eye = torch.eye(size, dtype=latent.dtype, device=latent.device)
        shape = eye[NUM_JOINTS * 3 :].expand(batch, -1, -1) if jacobian else None
        found.append(Term("shape", pose.betas, shape))
        if self.up is not None and not self.knows_gravity:
            body_up = pose.rotations[:, 0, :, 1]
            slope_up = torch.nn.functional.pad(-skew(body_up), (0, size - 3)) if jacobian else None
            found.append(Term("upright", body_up - self.up, slope_up))
        return found

    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> RotationPrior:
        """Itself: what was seen changes nothing."""
        return self

    def start(self) -> Start | None:
        """None: it has seen nobody."""
        return None

    def modes(self) -> Pose:
        """The likeliest body poses with an unturned root and the mean shape."""
        return self._unturned([term.modes() for term in self.pose_terms])

    def mean(self) -> Pose:
        """The mean body pose with an unturned root and the mean shape: one body."""
        means = (term.mean_pose() for term in self.pose_terms)
        return self._unturned([None if mean is None else mean[None] for mean in means])

    def _unturned(self, found: Sequence[Tensor | None]) -> Pose:
        """Bodies of the first poses (M, 69) that there are, else the rest pose."""
        for body_pose in found:
            if body_pose is not None:
                axis_angle = torch.nn.functional.pad(body_pose, (3, 0)).unflatten(-1, (-1, 3))
                rotations = axis_angle_to_matrix(axis_angle)
                return Pose(rotations, rotations.new_zeros(len(rotations), self.num_betas))
        eye = torch.eye(3).expand(1, NUM_JOINTS, 3, 3)
        return Pose(eye, torch.zeros(1, self.num_betas))

    def rows(self, index: Tensor) -> RotationPrior:
        """Itself: it has seen nothing of the people."""
        return self


def _unchanged(rows: Tensor, *, rough: bool = False) -> Tensor:
    return rows
