from __future__ import annotations

import pytest
import torch

from flowfit.models.kinematics import (
    JOINT_NAMES,
    MIRRORED_JOINTS,
    NUM_JOINTS,
    PARENTS,
    descendants,
    forward_kinematics,
    joint_index,
    mirror_rotations,
    mirrored_name,
)
from flowfit.models.rotations import axis_angle_to_matrix
from tests.synthetic_smpl import SMPL_PARENTS


def test_tree_is_smpls():
    assert PARENTS == SMPL_PARENTS
    assert NUM_JOINTS == len(set(JOINT_NAMES)) == 24
    assert [JOINT_NAMES[i] for i in (0, 12, 15, 16, 17, 20, 21)] == [
        *("pelvis", "neck", "head", "left_shoulder", "right_shoulder"),
        *("left_wrist", "right_wrist"),
    ]
    assert joint_index("right_ankle") == 8
    with pytest.raises(KeyError, match="pelvis"):
        joint_index("tail")


def test_mirror_table_is_an_involution_that_keeps_the_tree():
    for joint, other in enumerate(MIRRORED_JOINTS):
        assert MIRRORED_JOINTS[other] == joint
        assert mirrored_name(JOINT_NAMES[joint]) == JOINT_NAMES[other]
        parent = PARENTS[joint]
        assert PARENTS[other] == (-1 if parent < 0 else MIRRORED_JOINTS[parent])


def test_descendants_by_walking_up():
    table = descendants()
    for joint in range(24):
        above, at = set(), joint
        while at >= 0:
            above.add(at)
            at = PARENTS[at]
        assert {a for a in range(24) if table[a, joint]} == above


def random_pose(*batch):
    generator = torch.Generator().manual_seed(5)
    axis_angle = torch.randn(*batch, 24, 3, generator=generator, dtype=torch.float64)
    rest = torch.randn(*batch, 24, 3, generator=generator, dtype=torch.float64)
    return axis_angle_to_matrix(axis_angle), rest


def test_forward_kinematics_one_joint_at_a_time():
    rotations, rest = random_pose()
    turned, joints = forward_kinematics(rotations, rest)
    assert torch.equal(joints[0], rest[0])
    for j, parent in list(enumerate(PARENTS))[1:]:
        expected = turned[parent] @ rotations[j]
        torch.testing.assert_close(turned[j], expected)
        expected = joints[parent] + turned[parent] @ (rest[j] - rest[parent])
        torch.testing.assert_close(joints[j], expected)


def test_identity_keeps_the_rest_pose():
    _, rest = random_pose()
    turned, joints = forward_kinematics(torch.eye(3).double().expand(24, 3, 3), rest)
    torch.testing.assert_close(joints, rest)
    torch.testing.assert_close(turned, torch.eye(3).double().expand(24, 3, 3))


def test_axes_broadcast():
    rotations, rest = random_pose(2, 3)
    turned, joints = forward_kinematics(rotations, rest[0, 1])
    assert turned.shape == (2, 3, 24, 3, 3)
    one = forward_kinematics(rotations[1, 2], rest[0, 1])
    torch.testing.assert_close(joints[1, 2], one[1])
    torch.testing.assert_close(turned[1, 2], one[0])
    wide = forward_kinematics(rotations[0, 0], rest)[1]
    torch.testing.assert_close(wide[1, 1], forward_kinematics(rotations[0, 0], rest[1, 1])[1])


def test_mirrored_pose_gives_mirrored_joints():
    rotations, rest = random_pose()
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    rest = 0.5 * (rest + flip * rest[list(MIRRORED_JOINTS)])  # a symmetric skeleton
    joints = forward_kinematics(rotations, rest)[1]
    mirrored = forward_kinematics(mirror_rotations(rotations), rest)[1]
    torch.testing.assert_close(mirrored, flip * joints[list(MIRRORED_JOINTS)])
    torch.testing.assert_close(mirror_rotations(mirror_rotations(rotations)), rotations)
