"""Frames weighed by posture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowfit.models.kinematics import joint_index, mirror_rotations
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.postures import PostureBalance, limb_directions


def frames(count: int, seed: int, **bent) -> np.ndarray:
    """Axis-angle poses (T, 24, 3): some joints bent about x, in degrees, everything shaken."""
    generator = np.random.default_rng(seed)
    poses = 0.02 * generator.standard_normal((count, 24, 3))
    for joint, degrees in bent.items():
        poses[:, joint_index(joint), 0] += math.radians(degrees)
    return poses


SEATED = {"left_hip": -90, "right_hip": -90, "left_knee": 90, "right_knee": 90}


@pytest.fixture(scope="module")
def mocap() -> Mocap:
    """300 frames that stand, 10 that sit; 40 that sit, composed by rule."""
    poses = np.concatenate(
        [frames(300, 0), frames(10, 1, **SEATED), frames(40, 2, **SEATED, spine1=20)]
    )
    sequence = np.repeat([0, 1, 2], [300, 10, 40])
    return Mocap(poses, sequence, ("a", "b", "c"), ("x", "x", "x"), ("", "", "synthetic"))


def test_without_clusters_it_is_the_actions_balance(mocap):
    np.testing.assert_array_equal(PostureBalance().weights(mocap, 0), mocap.balanced_weights())


def test_crowded_postures_are_drawn_less_often(mocap):
    seated = mocap.sequence == 1
    shares = [
        PostureBalance(clusters=3, temper=temper, composed=0.0).weights(mocap, 0)[seated].sum()
        for temper in (0.0, 0.5, 1.0)
    ]
    assert shares[0] == pytest.approx(10 / 310, rel=1e-6)
    assert 1.5 * shares[0] < shares[1] < shares[2]


def test_composed_poses_have_their_share(mocap):
    for share in (0.1, 0.4):
        weight = PostureBalance(clusters=4, composed=share).weights(mocap, 0)
        assert weight.sum() == pytest.approx(1)
        assert weight[mocap.sequence == 2].sum() == pytest.approx(share)


def test_hand_made_animation_counts_less(mocap):
    made = Mocap(mocap.poses, mocap.sequence, mocap.names, mocap.actions, ("hand-made", "", ""))
    settings = {"clusters": 1, "temper": 0.0}
    less = PostureBalance(hand_made=0.25, **settings).weights(made, 0)
    even = PostureBalance(hand_made=1.0, **settings).weights(made, 0)
    assert less[0] / less[-1] == pytest.approx(0.25 * even[0] / even[-1])


def test_limb_directions_do_not_know_the_heading_but_know_what_lies():
    rotations = axis_angle_to_matrix(torch.from_numpy(frames(5, 3, left_shoulder=40)).float())
    turn = axis_angle_to_matrix(torch.tensor([0.0, 1.1, 0.0]))
    turned, laid = rotations.clone(), rotations.clone()
    turned[:, 0] = turn @ turned[:, 0]
    laid[:, 0] = axis_angle_to_matrix(torch.tensor([-math.pi / 2, 0.0, 0.0])) @ laid[:, 0]
    known = limb_directions(rotations)
    torch.testing.assert_close(limb_directions(turned), known, atol=1e-5, rtol=0)
    assert (limb_directions(laid) - known).norm(dim=-1).min() > 1
    lengths = known.unflatten(-1, (24, 3)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-5, rtol=0)


def test_a_mirrored_posture_looks_mirrored():
    rotations = axis_angle_to_matrix(torch.from_numpy(frames(3, 4, right_elbow=70)).float())
    known = limb_directions(rotations).unflatten(-1, (24, 3))
    mirrored = limb_directions(mirror_rotations(rotations)).unflatten(-1, (24, 3))
    left, right = joint_index("left_wrist"), joint_index("right_wrist")
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored[:, left], flip * known[:, right], atol=2e-3, rtol=0)
