"""The tree of SMPL's 24 joints, by name."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

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


class _Jumps(NamedTuple):
    """Index tables of `forward_kinematics`.

    Attributes:
        ancestors: for 1, 2, 4, ... steps towards the root, where each of the 24 joints arrives;
            past the root it is the 25th place, which stands for the world.
        parents: of every joint; the root is its own.
    """

    ancestors: tuple[Tensor, ...]
    parents: Tensor


@cache
def _jumps(device: torch.device) -> _Jumps:
    world = NUM_JOINTS
    jump = [world if p < 0 else p for p in PARENTS] + [world]
    tables = []
    while any(place != world for place in jump):
        tables.append(torch.tensor(jump, device=device))
        jump = [jump[place] for place in jump]
    return _Jumps(tuple(tables), parents(device))


@cache
def _world(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The identity (1, 4, 4), and the last row (1, 4) of a rigid motion."""
    eye = torch.eye(4, dtype=dtype, device=device)
    return eye[None], eye[3:]


@cache
def parents(device: torch.device) -> Tensor:
    """(24,) parents of the joints; the root is its own."""
    return torch.tensor([max(p, 0) for p in PARENTS], device=device)


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
    jumps = _jumps(rotations.device)
    root = rest_joints[..., :1, :]
    bones = torch.cat(
        (root, (rest_joints - rest_joints.index_select(-2, jumps.parents))[..., 1:, :]), -2
    )
    # each joint's motion in the frame above it, as 4x4 matrices; then each is joined with that of
    # twice as many joints above, until all have reached the world: log2 of the depth products
    world, last_row = _world(rotations.dtype, rotations.device)
    motion = torch.cat((rotations, bones[..., None]), -1)
    motion = torch.cat((motion, last_row.expand(*batch, NUM_JOINTS, 1, 4)), -2)
    motion = torch.cat((motion, world.expand(*batch, 1, 4, 4)), -3)
    for table in jumps.ancestors:
        motion = motion.index_select(-3, table) @ motion
    motion = motion[..., :NUM_JOINTS, :3, :]
    return motion[..., :3], motion[..., 3]


def mirror_rotations(rotations: Tensor) -> Tensor:
    """The same pose seen in a mirror (left and right exchanged). (..., 24, 3, 3)."""
    sign = rotations.new_tensor([-1.0, 1.0, 1.0])
    return (sign[:, None] * sign * rotations)[..., list(MIRRORED_JOINTS), :, :]
