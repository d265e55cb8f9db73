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


@cache
def levels() -> tuple[tuple[int, ...], ...]:
    """Joints by their distance from the root, so that a level is computed in one product."""
    depth = [0] * NUM_JOINTS
    for joint, parent in enumerate(PARENTS):
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return tuple(
        tuple(j for j in range(NUM_JOINTS) if depth[j] == d) for d in range(max(depth) + 1)
    )


class _LevelOrder(NamedTuple):
    """Index tables of `forward_kinematics`.

    Attributes:
        by_level: joints, level after level. by_joint: where each joint is among them.
        above: of every level but the first, where the parents are in the level above.
        parents: of every joint; the root is its own.
    """

    by_level: Tensor
    by_joint: Tensor
    above: tuple[Tensor, ...]
    parents: Tensor


@cache
def _level_order(device: torch.device) -> _LevelOrder:
    flat = [joint for level in levels() for joint in level]

    def table(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=device)

    above = [
        table([upper.index(PARENTS[joint]) for joint in level])
        for upper, level in zip(levels(), levels()[1:], strict=False)
    ]
    by_joint = [flat.index(joint) for joint in range(NUM_JOINTS)]
    return _LevelOrder(table(flat), table(by_joint), tuple(above), parents(device))


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
    order = _level_order(rotations.device)
    root = rest_joints[..., :1, :]
    bones = rest_joints - rest_joints.index_select(-2, order.parents)
    # rotation and bone side by side: one product takes both into the frame above
    local = torch.cat((rotations, bones[..., None]), -1).index_select(-3, order.by_level)
    parts = local.split([len(level) for level in levels()], -3)
    turned, placed = [parts[0][..., :3]], [root]
    for part, above in zip(parts[1:], order.above, strict=True):
        moved = turned[-1].index_select(-3, above) @ part
        turned.append(moved[..., :3])
        placed.append(placed[-1].index_select(-2, above) + moved[..., 3])
    return (
        torch.cat(turned, -3).index_select(-3, order.by_joint),
        torch.cat(placed, -2).index_select(-2, order.by_joint),
    )


def mirror_rotations(rotations: Tensor) -> Tensor:
    """The same pose seen in a mirror (left and right exchanged). (..., 24, 3, 3)."""
    sign = rotations.new_tensor([-1.0, 1.0, 1.0])
    return (sign[:, None] * sign * rotations)[..., list(MIRRORED_JOINTS), :, :]
