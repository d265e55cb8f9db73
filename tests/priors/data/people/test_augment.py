"""More poses than there are: still rotations, from the seed alone, and as the tables say."""

from __future__ import annotations

import math

import pytest
import torch

from flowfit.models.kinematics import MIRRORED_JOINTS, joint_index, mirror_rotations
from flowfit.models.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_angle
from flowfit.priors.data.people import augment
from flowfit.priors.data.people.augment import POSTURES, Augmentation

LOWER = [
    joint_index(n)
    for n in (
        *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee"),
        *("left_ankle", "right_ankle", "left_foot", "right_foot"),
    )
]
UPPER = [j for j in range(24) if j not in LOWER]
NONE = Augmentation(mirror=0, recombine=0, posture=0, jitter=0)


def some_poses(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return axis_angle_to_matrix(
        0.5 * torch.randn(count, 24, 3, generator=generator, dtype=torch.float64)
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def only(monkeypatch, *places):
    """Let the made-up postures be only some of the table; all draws take one."""
    monkeypatch.setattr(augment, "POSTURES", tuple(POSTURES[p] for p in places))
    return Augmentation(mirror=0, recombine=0, posture=1, jitter=0)


def degrees(rotations, joint):
    return torch.rad2deg(matrix_to_axis_angle(rotations[:, joint_index(joint)]))


def test_rotations_stay_rotations():
    poses = some_poses(300)
    changed = Augmentation(mirror=0.5, recombine=0.5, posture=0.5, jitter=5)(poses, seeded())
    assert changed.shape == poses.shape
    assert changed.dtype == poses.dtype
    eye = torch.eye(3, dtype=torch.float64).expand_as(changed)
    torch.testing.assert_close(changed @ changed.transpose(-1, -2), eye, rtol=0, atol=1e-10)
    assert (torch.linalg.det(changed) > 0).all()


def test_the_seed_decides():
    poses = some_poses(50)
    before = poses.clone()
    first = Augmentation()(poses, seeded(3))
    assert torch.equal(first, Augmentation()(poses, seeded(3)))
    assert not torch.equal(first, Augmentation()(poses, seeded(4)))
    assert torch.equal(poses, before)  # copies are changed


def test_nothing_asked_nothing_changed():
    poses = some_poses(20)
    torch.testing.assert_close(NONE(poses, seeded()), poses, rtol=0, atol=1e-15)


def test_a_mirror_twice_is_the_identity():
    poses = some_poses(20)
    mirrored = Augmentation(mirror=1, recombine=0, posture=0, jitter=0)
    once = mirrored(poses, seeded())
    torch.testing.assert_close(once, mirror_rotations(poses))
    assert not torch.allclose(once, poses)
    torch.testing.assert_close(mirrored(once, seeded(1)), poses, rtol=0, atol=1e-15)
    # left and right change sides; turns about y and z change sign
    ours, theirs = matrix_to_axis_angle(once), matrix_to_axis_angle(poses)
    flip = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(ours, (theirs * flip)[:, list(MIRRORED_JOINTS)])


def test_half_are_mirrored():
    poses = some_poses(2000)
    got = Augmentation(mirror=0.5, recombine=0, posture=0, jitter=0)(poses, seeded())
    changed = (got - poses).abs().amax((1, 2, 3)) > 1e-9
    assert 0.45 < changed.double().mean() < 0.55
    torch.testing.assert_close(got[changed], mirror_rotations(poses[changed]))


def test_recombined_people_have_the_halves_of_two():
    poses = some_poses(40)
    mixed = Augmentation(mirror=0, recombine=1, posture=0, jitter=0)(poses, seeded())
    assert torch.equal(mixed[:, UPPER], poses[:, UPPER])
    distance = (mixed[:, None, LOWER] - poses[None, :, LOWER]).abs().amax((2, 3, 4))
    donor = distance.argmin(1)
    assert torch.equal(distance.amin(1), torch.zeros(40, dtype=torch.float64))
    assert sorted(donor.tolist()) == list(range(40))  # each lower body is used once
    assert (donor != torch.arange(40)).double().mean() > 0.8


def test_jitter_is_in_degrees_and_leaves_the_root():
    poses = some_poses(400)
    shaken = Augmentation(mirror=0, recombine=0, posture=0, jitter=2.0)(poses, seeded())
    torch.testing.assert_close(shaken[:, 0], poses[:, 0], rtol=0, atol=1e-14)
    turned = rotation_angle(poses[:, 1:].transpose(-1, -2) @ shaken[:, 1:])
    rms = torch.rad2deg((turned**2).mean().sqrt())
    assert float(rms) == pytest.approx(2.0 * math.sqrt(3), rel=0.03)


# --- postures ---


def test_shares_of_the_postures():
    assert sum(p.share for p in POSTURES) == pytest.approx(1)


@pytest.mark.parametrize("place", range(len(POSTURES)))
def test_hips_and_knees_are_in_their_ranges(monkeypatch, place):
    posture = POSTURES[place]
    got = only(monkeypatch, place)(some_poses(1500), seeded())
    mean, sd = posture.knee
    for side in ("left", "right"):
        knee = degrees(got, f"{side}_knee")
        assert knee[:, 1:].abs().max() < 1e-6  # a hinge
        assert knee[:, 0].min() >= max(0.0, mean - 2 * sd) - 1e-6
        assert knee[:, 0].max() <= mean + 2 * sd + 1e-6
        if mean > 2 * sd:  # not cut off at the stretched leg
            assert float(knee[:, 0].mean()) == pytest.approx(mean, abs=0.15 * sd)
        hip = degrees(got, f"{side}_hip")
        flip = torch.tensor([1.0, 1, 1] if side == "left" else [1.0, -1, -1]).double()
        off = (hip * flip - torch.tensor(posture.hip[0]).double()).abs()
        assert (off <= 2 * torch.tensor(posture.hip[1]).double() + 1e-6).all()
        assert (off.mean(0) > 0.3 * torch.tensor(posture.hip[1]).double()).all()


def test_people_on_chairs_bend_their_knees_by_85_degrees(monkeypatch):
    got = only(monkeypatch, 0)(some_poses(2000), seeded())
    knees = torch.stack([degrees(got, f"{s}_knee")[:, 0] for s in ("left", "right")])
    assert float(knees.mean()) == pytest.approx(85, abs=1.5)
    hips = torch.stack([degrees(got, f"{s}_hip")[:, 0] for s in ("left", "right")])
    assert float(hips.mean()) == pytest.approx(-88, abs=1.5)
    assert knees.std(1).min() > 10


def test_postures_leave_the_upper_body(monkeypatch):
    poses = some_poses(200)
    got = only(monkeypatch, *range(len(POSTURES)))(poses, seeded())
    torch.testing.assert_close(got[:, UPPER], poses[:, UPPER], rtol=0, atol=1e-14)
    changed = (got - poses).abs().amax((-1, -2)) > 1e-6
    made_up = [j for j in LOWER if j not in (joint_index("left_foot"), joint_index("right_foot"))]
    assert changed[:, made_up].all()


def test_who_lies_is_level_and_who_sits_is_upright(monkeypatch):
    lying = only(monkeypatch, 5)(some_poses(400), seeded())
    height = lying[:, 0, 1, 1]  # how far the body's own y axis points up in the world
    assert height.abs().max() < math.sin(math.radians(25))
    ahead = lying[:, 0, 1, 2]  # face up, down, or on a side
    for low, high in ((0.7, 1.0), (-1.0, -0.7), (-0.6, 0.6)):
        share = ((ahead >= low) & (ahead <= high)).double().mean()
        assert share > 0.15
    sitting = only(monkeypatch, 0)(some_poses(400), seeded())
    assert sitting[:, 0, 1, 1].min() > math.cos(math.radians(35))


def test_so_many_take_a_posture():
    poses = some_poses(3000)
    got = Augmentation(mirror=0, recombine=0, posture=0.12, jitter=0)(poses, seeded())
    changed = (got - poses).abs().amax((1, 2, 3)) > 1e-6
    assert float(changed.double().mean()) == pytest.approx(0.12, abs=0.02)


def test_single_precision():
    got = Augmentation()(some_poses(20).float(), seeded())
    assert got.dtype == torch.float32
    assert got.isfinite().all()
