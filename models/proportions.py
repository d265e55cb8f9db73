"""Other proportions than the ten betas know: shape directions for lengths and widths of parts.

Nearly all of the built-in shapes' spread is stature, and people differ in more. Each direction here
moves the mean body's joints by stretching bones, and the vertices with the bones that they are
skinned to, so that a coefficient about N(0, 1) is one standard deviation among adults. They come
after a body's own shape directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from flowfit.models.body import Body, Surface
from flowfit.models.kinematics import descendants, joint_index

SUFFIX = "+proportions"

# What a coefficient of 1 adds to each part, as a share of the mean body's. Growth is from child to
# adult: -1 is a tenth smaller all over, the legs more than that, the head less.
SHARES: Mapping[str, Mapping[str, float]] = {
    "hip_width": {"hips": 0.08},
    "shoulder_width": {"shoulders": 0.07},
    "trunk_length": {"trunk": 0.06},
    "arm_length": {"arms": 0.06},
    "thigh_length": {"thighs": 0.06},
    "shin_length": {"shins": 0.06},
    "head_size": {"head": 0.06},
    "growth": {"all": 0.10, "head": -0.06, "thighs": 0.015, "shins": 0.015},
}
NAMES: tuple[str, ...] = tuple(SHARES)

_SIDES = ("left", "right")
_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")


def with_proportions(body: Body) -> Body:
    """The body with further shape directions, `NAMES`, after its own; named `NAME+proportions`.

    The pelvis joint stays where it is, and so does everything that a direction does not name but
    for being carried along.
    """
    parts = _Parts(body)
    columns = [_weighted(parts, shares) for shares in SHARES.values()]
    joints = torch.stack([c[0] for c in columns], -1)
    vertices = torch.stack([c[1] for c in columns], -1)
    whole = body.surface
    return replace(
        body,
        name=body.name + SUFFIX,
        surface=Surface(
            whole.template,
            torch.cat((whole.shape_directions, vertices.to(body.dtype)), -1),
            whole.pose_directions,
            whole.skinning,
        ),
        joint_directions=torch.cat((body.joint_directions, joints.to(body.dtype)), -1),
        _keypoint_models={},
    )


def has_proportions(body: Body) -> bool:
    """Whether a body's last shape directions are those of this module."""
    return body.name.endswith(SUFFIX)


def proportion_index(body: Body, name: str) -> int:
    """Place of a direction's coefficient among the body's betas."""
    if not has_proportions(body):
        raise KeyError(f"body {body.name} has no proportions")
    return body.num_betas - len(NAMES) + NAMES.index(name)


def stature(body: Body, betas: Tensor) -> Tensor:
    """Height of shaped bodies standing in their rest pose, metres. betas (..., S) -> (...).

    NaN for a body file that does not say which vertices are the top of the head and the heels.
    """
    marks = ("head_top", "LHeel", "RHeel")
    if not all(name in body.vertex_ids for name in marks):
        return betas.new_full(betas.shape[:-1], torch.nan)
    ids = [body.vertex_ids[name] for name in marks]
    rows = body.surface
    heights = rows.template[ids, 1] + betas @ rows.shape_directions[ids, 1].T
    return heights[..., 0] - heights[..., 1:].mean(-1)


def _weighted(parts: _Parts, shares: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """How joints (24, 3) and vertices (V, 3) move with the named shares of parts together."""
    joints, vertices = torch.zeros_like(parts.joints), torch.zeros_like(parts.vertices)
    for name, share in shares.items():
        moved, followed = getattr(parts, name)()
        joints, vertices = joints + share * moved, vertices + share * followed
    return joints, vertices


class _Parts:
    """How joints (24, 3) and vertices (V, 3) move when a part of the mean body is doubled."""

    def __init__(self, body: Body) -> None:
        self.skinning = body.surface.skinning.double()
        self.vertices = body.surface.template.double()
        self.joints = body.joint_template.double()

    def _at(self, name: str) -> Tensor:
        return self.joints[joint_index(name)]

    def _skin(self, moves: Tensor, fields: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Vertices follow their bones' joints (24, 3), or the bone's own field (V, 3)."""
        by_bone = moves.expand(len(self.vertices), -1, -1).clone()
        for name, field in fields.items():
            by_bone[:, joint_index(name)] = field
        return moves, torch.einsum("vj,vjc->vc", self.skinning, by_bone)

    def _bones(self, chain: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Each bone of both sides' chain twice as long; what hangs below is carried along."""
        moves = torch.zeros_like(self.joints)
        below = descendants().to(moves.device)
        bones = [
            (f"{side}_{start}", f"{side}_{end}")
            for side in _SIDES
            for start, end in pairwise(chain)
        ]
        for start, end in bones:
            moves[below[joint_index(end)]] += self._at(end) - self._at(start)
        fields = {}
        for start, end in bones:
            bone = self._at(end) - self._at(start)
            along = ((self.vertices - self._at(start)) @ bone / (bone @ bone)).clamp(0, 1)
            fields[start] = moves[joint_index(start)] + along[:, None] * bone
        return self._skin(moves, fields)

    def _wider(self, at: str, trunk: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """What lies between both sides' joints doubled across; the limbs are carried along."""
        reach = self._at(f"left_{at}")[0].abs()
        moves = torch.zeros_like(self.joints)
        below = descendants().to(moves.device)
        for side in _SIDES:
            joint = joint_index(f"{side}_{at}")
            moves[below[joint], 0] = self.joints[joint, 0]
        field = torch.zeros_like(self.vertices)
        field[:, 0] = self.vertices[:, 0].clamp(-reach, reach)
        for name in trunk:
            moves[joint_index(name), 0] = self._at(name)[0].clamp(-reach, reach)
        return self._skin(moves, dict.fromkeys(trunk, field))

    def hips(self) -> tuple[Tensor, Tensor]:
        """Pelvis between the hip joints."""
        return self._wider("hip", ("pelvis", "spine1"))

    def shoulders(self) -> tuple[Tensor, Tensor]:
        """Chest between the shoulder joints."""
        return self._wider("shoulder", ("spine3", "left_collar", "right_collar"))

    def arms(self) -> tuple[Tensor, Tensor]:
        """Upper arms, forearms and hands."""
        return self._bones(("shoulder", "elbow", "wrist", "hand"))

    def thighs(self) -> tuple[Tensor, Tensor]:
        """From hip to knee."""
        return self._bones(("hip", "knee"))

    def shins(self) -> tuple[Tensor, Tensor]:
        """From knee to ankle."""
        return self._bones(("knee", "ankle"))

    def trunk(self) -> tuple[Tensor, Tensor]:
        """From the pelvis to the neck, upwards; arms and head are carried along."""
        low, high = self._at("pelvis")[1], self._at("neck")[1]
        moves = torch.zeros_like(self.joints)
        below = descendants().to(moves.device)
        rise = self.joints[:, 1].clamp(low, high) - low
        legs = below[joint_index("left_hip")] | below[joint_index("right_hip")]
        moves[:, 1] = torch.where(legs, 0, rise)
        for side in _SIDES:
            shoulder = joint_index(f"{side}_shoulder")
            moves[below[shoulder], 1] = rise[shoulder]
        moves[joint_index("head"), 1] = rise[joint_index("neck")]
        field = torch.zeros_like(self.vertices)
        field[:, 1] = self.vertices[:, 1].clamp(low, high) - low
        return self._skin(moves, dict.fromkeys(_TRUNK, field))

    def head(self) -> tuple[Tensor, Tensor]:
        """The head about its joint."""
        moves = torch.zeros_like(self.joints)
        return self._skin(moves, {"head": self.vertices - self._at("head")})

    def all(self) -> tuple[Tensor, Tensor]:
        """Everything about the pelvis."""
        center = self._at("pelvis")
        return self.joints - center, self.vertices - center


@cache
def limb_factor() -> Tensor:
    """(P,) how much each direction goes with a person's limbs being long all together."""
    share = {"arm_length": 0.6, "thigh_length": 0.6, "shin_length": 0.6, "trunk_length": -0.2}
    return torch.tensor([share.get(name, 0.0) for name in NAMES])
