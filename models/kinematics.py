"""The tree of SMPL's 24 joints, by name."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# child -> parent, in SMPL's order; the only place where the order of the joints is written down
_TREE: dict[str, str | None] = {
    "pelvis": None,
    "left_hip": "pelvis",
    "right_hip": "pelvis",
    "spine1": "pelvis",
    "left_knee": "left_hip",
    "right_knee": "right_hip",
    "spine2": "spine1",
    "left_ankle": "left_knee",
    "right_ankle": "right_knee",
    "spine3": "spine2",
    "left_foot": "left_ankle",
    "right_foot": "right_ankle",
    "neck": "spine3",
    "left_collar": "spine3",
    "right_collar": "spine3",
    "head": "neck",
    "left_shoulder": "left_collar",
    "right_shoulder": "right_collar",
    "left_elbow": "left_shoulder",
    "right_elbow": "right_shoulder",
    "left_wrist": "left_elbow",
    "right_wrist": "right_elbow",
    "left_hand": "left_wrist",
    "right_hand": "right_wrist",
}
JOINT_NAMES: tuple[str, ...] = tuple(_TREE)
NUM_JOINTS = len(JOINT_NAMES)
NUM_BODY_JOINTS = NUM_JOINTS - 1  # without the root
_INDEX = {name: i for i, name in enumerate(JOINT_NAMES)}
PARENTS: tuple[int, ...] = tuple(-1 if p is None else _INDEX[p] for p in _TREE.values())


def joint_index(name: str) -> int:
    """Place of a joint in SMPL's order; KeyError names the joints there are."""
    try:
        return _INDEX[name]
    except KeyError:
        raise KeyError(f"no joint {name!r}; SMPL has {', '.join(JOINT_NAMES)}") from None


def mirrored_name(name: str) -> str:
    """left_x <-> right_x; names of the middle stay."""
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


MIRRORED_JOINTS: tuple[int, ...] = tuple(_INDEX[mirrored_name(n)] for n in JOINT_NAMES)


@cache
def levels() -> tuple[tuple[int, ...], ...]:
    """Joints by their distance from the root, so that a level is computed in one product."""
    depth = [0] * NUM_JOINTS
    for joint, parent in enumerate(PARENTS):
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return tuple(
        tuple(j for j in range(NUM_JOINTS) if depth[j] == d) for d in range(max(depth) + 1)
    )


@cache
def descendants() -> Tensor:
    """(24, 24) boolean: [a, j] says that joint j is a or hangs below a."""
    table = torch.eye(NUM_JOINTS, dtype=torch.bool)
    for joint in range(NUM_JOINTS):
        parent = PARENTS[joint]
        if parent >= 0:
            table[:, joint] |= table[:, parent]
    return table


def forward_kinematics(rotations: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
    """Pose the tree.

    Args:
        rotations: local rotations (..., 24, 3, 3), the root's first.
        rest_joints: joints of the unposed body (..., 24, 3), metres.

    Returns:
        Global rotations (..., 24, 3, 3) and posed joints (..., 24, 3) in metres. The root stays
        where it rests: SMPL turns the body about the pelvis.
    """
    batch = torch.broadcast_shapes(rotations.shape[:-3], rest_joints.shape[:-2])
    rotations = rotations.expand(*batch, NUM_JOINTS, 3, 3)
    rest_joints = rest_joints.expand(*batch, NUM_JOINTS, 3)
    turned: list[Tensor] = [rotations[..., 0, :, :]] * NUM_JOINTS
    placed: list[Tensor] = [rest_joints[..., 0, :]] * NUM_JOINTS
    for level in levels()[1:]:
        above = [PARENTS[j] for j in level]
        parent_rotation = torch.stack([turned[p] for p in above], -3)
        parent_joint = torch.stack([placed[p] for p in above], -2)
        own = list(level)
        rotation = parent_rotation @ rotations[..., own, :, :]
        bone = rest_joints[..., own, :] - rest_joints[..., above, :]
        joint = parent_joint + (parent_rotation @ bone[..., None])[..., 0]
        for place, j in enumerate(level):
            turned[j] = rotation[..., place, :, :]
            placed[j] = joint[..., place, :]
    return torch.stack(turned, -3), torch.stack(placed, -2)


def mirror_rotations(rotations: Tensor) -> Tensor:
    """The same pose seen in a mirror (left and right exchanged). (..., 24, 3, 3)."""
    sign = rotations.new_tensor([-1.0, 1.0, 1.0])
    return (sign[:, None] * sign * rotations)[..., list(MIRRORED_JOINTS), :, :]
