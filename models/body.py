"""An SMPL-format body: shape it, pose it, and only the vertices asked for.

The model is Loper et al., SIGGRAPH Asia 2015: linear shape blend shapes, pose blend shapes that
are linear in the joint rotation matrices, and linear blend skinning over 24 joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import JOINT_NAMES, NUM_JOINTS, forward_kinematics, joint_index


@dataclass(frozen=True, eq=False)
class Surface:
    """The rows of a body model that belong to some of its vertices.

    Attributes:
        template: (N, 3) metres. shape_directions: (N, 3, S). skinning: (N, 24).
        pose_directions: (N, 3, 207), or None when the body has no pose blend shapes.
    """

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor | None
    skinning: Tensor

    def select(self, ids: Tensor) -> Surface:
        """The same for a subset of the vertices."""
        directions = self.pose_directions
        return Surface(
            self.template[ids],
            self.shape_directions[ids],
            None if directions is None else directions[ids],
            self.skinning[ids],
        )

    def unposed(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Shape and pose blend shapes applied, not yet skinned: (..., N, 3) metres."""
        shaped = self.template + torch.einsum("...s,ncs->...nc", betas, self.shape_directions)
        if self.pose_directions is None:
            return shaped
        offsets = torch.einsum("...p,ncp->...nc", pose_feature(rotations), self.pose_directions)
        return shaped + offsets


def pose_feature(rotations: Tensor) -> Tensor:
    """Body rotations minus identity, flattened: (..., 24, 3, 3) -> (..., 207)."""
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[..., 1:, :, :] - eye).flatten(-3)


def skin(
    surface: Surface, unposed: Tensor, turned: Tensor, joints: Tensor, rest_joints: Tensor
) -> Tensor:
    """Linear blend skinning: each vertex follows its bones by weight. -> (..., N, 3) metres."""
    shift = joints - (turned @ rest_joints[..., None])[..., 0]
    blended = torch.einsum("nj,...jab->...nab", surface.skinning, turned)
    offset = torch.einsum("nj,...ja->...na", surface.skinning, shift)
    return (blended @ unposed[..., None])[..., 0] + offset


@dataclass(frozen=True, eq=False)
class KeypointModel:
    """What is needed to compute a schema's keypoints and no more.

    Attributes:
        ids: (N,) the landmark vertices in use. surface: their part of the body.
        mixing: (K, 24 + N); keypoints = mixing @ [joints; landmark vertices].
        available: (K,) boolean; False where this body has no such point (its row is zero).
    """

    schema: KeypointSchema
    ids: Tensor
    surface: Surface
    mixing: Tensor
    available: Tensor


@dataclass(frozen=True, eq=False)
class Body:
    """A body in the SMPL layout; immutable.

    Attributes:
        name: what to call it in results, for example "open" or "smpl-neutral".
        surface: all V vertices.
        faces: (F, 3) long.
        joint_template: (24, 3) rest joints of the mean shape, metres, y up, facing +z.
        joint_directions: (24, 3, S) how they move with betas.
        vertex_ids: landmark name -> vertex number on this mesh.
    """

    name: str
    surface: Surface
    faces: Tensor
    joint_template: Tensor
    joint_directions: Tensor
    vertex_ids: Mapping[str, int]
    _keypoint_models: dict[str, KeypointModel] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        name: str,
        *,
        template: Tensor,
        faces: Tensor,
        shape_directions: Tensor,
        pose_directions: Tensor | None,
        joint_regressor: Tensor,
        skinning: Tensor,
        vertex_ids: Mapping[str, int],
    ) -> Body:
        """From the arrays of a model file; the regressor (24, V) is folded into the shape space."""
        return cls(
            name,
            Surface(template, shape_directions, pose_directions, skinning),
            faces,
            joint_regressor @ template,
            torch.einsum("jv,vcs->jcs", joint_regressor, shape_directions),
            dict(vertex_ids),
        )

    @property
    def num_betas(self) -> int:
        """Number of shape coefficients S."""
        return self.joint_directions.shape[-1]

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        return self.surface.template.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the body's arrays."""
        return self.joint_template.dtype

    @property
    def device(self) -> torch.device:
        """Where the body's arrays are."""
        return self.joint_template.device

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Body:
        """The same body in another number type or on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(dtype=dtype, device=device)

        whole = self.surface
        directions = whole.pose_directions
        return replace(
            self,
            surface=Surface(
                move(whole.template),
                move(whole.shape_directions),
                None if directions is None else move(directions),
                move(whole.skinning),
            ),
            faces=self.faces.to(device=device),
            joint_template=move(self.joint_template),
            joint_directions=move(self.joint_directions),
            _keypoint_models={},
        )

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints of the shaped, unposed body. betas (..., S) -> (..., 24, 3) metres."""
        return self.joint_template + torch.einsum("...s,jcs->...jc", betas, self.joint_directions)

    @cached_property
    def height(self) -> float:
        """Height of the mean shape in its rest pose, metres."""
        y = self.surface.template[:, 1]
        return float(y.max() - y.min())

    def joints(self, betas: Tensor, rotations: Tensor, transl: Tensor | None = None) -> Tensor:
        """Posed joints.

        Args:
            betas: (..., S) shape coefficients, each about N(0, 1).
            rotations: (..., 24, 3, 3) local rotations, the root's first.
            transl: (..., 3) metres, added last.

        Returns:
            (..., 24, 3) metres, in the frame that the root rotation leads to.
        """
        joints = forward_kinematics(rotations, self.rest_joints(betas))[1]
        return joints if transl is None else joints + transl[..., None, :]

    def vertices(
        self,
        betas: Tensor,
        rotations: Tensor,
        transl: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> Tensor:
        """Posed mesh, or only the vertices with the given numbers. -> (..., N, 3) metres."""
        surface = self.surface if ids is None else self.surface.select(ids)
        rest = self.rest_joints(betas)
        turned, joints = forward_kinematics(rotations, rest)
        posed = skin(surface, surface.unposed(betas, rotations), turned, joints, rest)
        return posed if transl is None else posed + transl[..., None, :]

    def keypoint_model(self, schema: KeypointSchema) -> KeypointModel:
        """The part of the body that a schema's keypoints need (made once and kept)."""
        model = self._keypoint_models.get(schema.name)
        if model is None or model.schema is not schema:
            model = self._make_keypoint_model(schema)
            self._keypoint_models[schema.name] = model
        return model

    def _make_keypoint_model(self, schema: KeypointSchema) -> KeypointModel:
        per_keypoint = [schema.landmarks(n) or {} for n in schema.names]
        known = set(JOINT_NAMES) | set(self.vertex_ids)
        available = [bool(points) and set(points) <= known for points in per_keypoint]
        wanted: list[str] = []
        for points, there in zip(per_keypoint, available, strict=True):
            wanted += [p for p in points if there and p not in JOINT_NAMES and p not in wanted]
        column = {name: NUM_JOINTS + i for i, name in enumerate(wanted)}
        mixing = torch.zeros(len(schema), NUM_JOINTS + len(wanted), dtype=self.dtype)
        for row, (points, there) in enumerate(zip(per_keypoint, available, strict=True)):
            for point, weight in points.items() if there else ():
                mixing[row, column[point] if point in column else joint_index(point)] = weight
        ids = torch.tensor([self.vertex_ids[n] for n in wanted], dtype=torch.long).to(self.device)
        return KeypointModel(
            schema,
            ids,
            self.surface.select(ids),
            mixing.to(self.device),
            torch.tensor(available, device=self.device),
        )

    def keypoints(
        self,
        betas: Tensor,
        rotations: Tensor,
        schema: KeypointSchema,
        transl: Tensor | None = None,
    ) -> Tensor:
        """A schema's keypoints, from the joints and just the vertices it needs.

        Args and frame as in `joints`. Keypoints that this body has no point for (see
        `keypoint_model(schema).available`) are NaN.

        Returns:
            (..., K, 3) metres.
        """
        model = self.keypoint_model(schema)
        rest = self.rest_joints(betas)
        turned, joints = forward_kinematics(rotations, rest)
        landmarks = skin(
            model.surface, model.surface.unposed(betas, rotations), turned, joints, rest
        )
        batch = torch.broadcast_shapes(joints.shape[:-2], landmarks.shape[:-2])
        points = torch.cat((joints.expand(*batch, -1, -1), landmarks.expand(*batch, -1, -1)), -2)
        keypoints = model.mixing @ points
        if transl is not None:
            keypoints = keypoints + transl[..., None, :]
        return torch.where(model.available[:, None], keypoints, torch.nan)


def landmark_ids(names: Sequence[str], ids: Sequence[int]) -> dict[str, int]:
    """Pair names and vertex numbers of a body file."""
    return {str(n): int(i) for n, i in zip(names, ids, strict=True)}
