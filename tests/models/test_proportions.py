from __future__ import annotations

import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.kinematics import JOINT_NAMES, joint_index
from flowfit.models.proportions import NAMES, proportion_index, stature, with_proportions

BONES = {
    "hip_width": ("left_hip", "right_hip", 1.08),
    "shoulder_width": ("left_shoulder", "right_shoulder", 1.07),
    "trunk_length": ("pelvis", "neck", 1.06),
    "arm_length": ("left_elbow", "left_wrist", 1.06),
    "thigh_length": ("right_hip", "right_knee", 1.06),
    "shin_length": ("left_knee", "left_ankle", 1.06),
}


@pytest.fixture(scope="module")
def body():
    return find_body("open+proportions")


def joints(body, name, coefficient=1.0):
    betas = torch.zeros(body.num_betas)
    betas[proportion_index(body, name)] = coefficient
    return body.rest_joints(betas)


@pytest.mark.parametrize("name", BONES)
def test_a_coefficient_changes_its_own_length_and_no_other(body, name):
    mean, changed = body.joint_template, joints(body, name)

    def ratio(a, b):
        a, b = joint_index(a), joint_index(b)
        return float((changed[a] - changed[b]).norm() / (mean[a] - mean[b]).norm())

    for other, (start, end, share) in BONES.items():
        assert ratio(start, end) == pytest.approx(share if other == name else 1, abs=0.004)
    torch.testing.assert_close(changed[joint_index("pelvis")], mean[joint_index("pelvis")])


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_change_alike(body, name):
    moved = joints(body, name) - body.joint_template
    for joint in (n for n in JOINT_NAMES if n.startswith("left_")):
        right = moved[joint_index(joint.replace("left", "right"))]
        mirrored = right * right.new_tensor([-1.0, 1, 1])
        torch.testing.assert_close(moved[joint_index(joint)], mirrored, atol=1e-4, rtol=0)


def test_the_own_betas_stay_what_they_are(body):
    plain = find_body("open")
    betas = torch.randn(3, plain.num_betas, generator=torch.Generator().manual_seed(0))
    rotations = torch.eye(3).expand(3, 24, 3, 3)
    more = torch.cat((betas, torch.zeros(3, len(NAMES))), 1)
    torch.testing.assert_close(body.vertices(more, rotations), plain.vertices(betas, rotations))
    assert plain.num_betas + len(NAMES) == body.num_betas
    assert with_proportions(plain).name == body.name == "open+proportions"


def test_a_child_is_small_with_a_large_head(body):
    betas = torch.zeros(2, body.num_betas)
    betas[1, proportion_index(body, "growth")] = -3.8
    adult, child = stature(body, betas).tolist()
    assert 0.58 < child / adult < 0.68
