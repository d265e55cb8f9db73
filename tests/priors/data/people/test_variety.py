"""Other proportions, other points and other cameras than the first made-up people had."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.kinematics import NUM_JOINTS
from flowfit.models.proportions import NAMES, proportion_index, stature
from flowfit.priors.data.people.disguise import Missing, disguise
from flowfit.priors.data.people.offsets import KeypointOffsets
from flowfit.priors.data.people.physique import Physique
from flowfit.priors.data.people.synthetic import Detector, PeopleMaker, Scenery

EXACT = Detector(noise=0, outliers=0, missed=0, hidden_limbs=0, swaps=0)


@pytest.fixture(scope="module")
def body():
    return find_body("open-low+proportions").to(dtype=torch.float64)


@pytest.fixture(scope="module")
def maker(body):
    poses = torch.eye(3).expand(1, NUM_JOINTS, 3, 3)
    return PeopleMaker(body, poses, detector=EXACT, scenery=Scenery(box=(0.3, 0.6), off_centre=0.1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_children_are_small_with_large_heads_and_few(body):
    betas = torch.randn(4000, body.num_betas, generator=generator(), dtype=torch.float64)
    kept = betas.clone()
    made = Physique(children=0.2, child_size=(0.5, 0.8))(betas, body, generator(1))
    assert torch.equal(betas, kept)
    growth = made[:, proportion_index(body, "growth")]
    child = growth < -1.9
    assert 0.17 < child.double().mean() < 0.23
    tall = stature(body, made)
    assert tall[child].median() < 1.2 < 1.55 < tall[~child].median()


def test_long_limbs_go_together(body):
    betas = torch.randn(8000, body.num_betas, generator=generator(), dtype=torch.float64)
    made = Physique()(betas, body, generator(1))
    names = [proportion_index(body, n) for n in ("thigh_length", "arm_length", "hip_width")]
    related = torch.corrcoef(made[:, names].T)
    assert related[0, 1] == pytest.approx(0.36, abs=0.04)
    assert related[0, 2] == pytest.approx(0.0, abs=0.04)
    deviation = made[:, names].std(0)
    torch.testing.assert_close(deviation, torch.ones(3).double(), atol=0.04, rtol=0)


def test_a_body_without_proportions_is_left_alone():
    body = find_body("open-low")
    betas = torch.randn(5, body.num_betas)
    assert Physique(children=1.0)(betas, body, generator()) is betas


def test_offsets_move_what_is_seen_and_not_what_is_true(maker):
    plain = maker.draw(400, generator())
    moved = replace(maker, offsets=KeypointOffsets((0.0, 1.0, 0.0))).draw(400, generator())
    assert torch.equal(plain.true_keypoints, moved.true_keypoints)
    assert torch.equal(plain.rotations, moved.rotations)
    left, right = BODY25.index("LHip"), BODY25.index("RHip")

    def apart(pixels):
        return (pixels[:, left] - pixels[:, right]).norm(dim=-1)

    facing = apart(plain.true_keypoints) > apart(plain.true_keypoints).quantile(0.7)
    wider = apart(moved.keypoints)[facing] / apart(moved.true_keypoints)[facing]
    assert 1.1 < wider.median() < 1.5  # hips as annotators click them
    knee = BODY25.index("LKnee")
    size = (plain.true_keypoints[..., 1].amax(1) - plain.true_keypoints[..., 1].amin(1))[:, None]
    off = ((moved.keypoints - moved.true_keypoints)[:, knee] / size).norm(dim=-1)
    assert 0.002 < off.median() < 0.03


def test_offsets_point_outwards_on_both_sides():
    offsets = KeypointOffsets((0.0, 1.0, 0.0))
    turned = torch.eye(3).expand(3000, NUM_JOINTS, 3, 3).double()
    moves = offsets.draw(BODY25, turned, torch.ones(3000).double(), generator())
    mean = moves.mean(0)
    assert mean[BODY25.index("LHip"), 0] == pytest.approx(0.025, abs=0.002)
    assert mean[BODY25.index("RHip"), 0] == pytest.approx(-0.025, abs=0.002)
    assert moves[:, BODY25.index("Neck")].abs().max() == 0
    small = offsets.draw(BODY25, turned, torch.full((3000,), 0.5).double(), generator())
    torch.testing.assert_close(small, 0.5 * moves)


def test_cameras_look_down_from_above(maker):
    high = replace(maker.scenery, tilted=1.0, tilts=(60.0, 60.0), pitch_sd=0.0, roll_sd=0.0)
    people = replace(maker, scenery=high).draw(20, generator())
    angle = math.radians(60)
    wanted = torch.tensor([0.0, -math.cos(angle), -math.sin(angle)], dtype=torch.float64)
    torch.testing.assert_close(people.up, wanted.expand(20, 3), atol=1e-9, rtol=0)
    # the T-pose stands upright in the world: its spine points up in the camera's frame, too
    torch.testing.assert_close(people.rotations[:, 0, :, 1], people.up, atol=1e-9, rtol=0)


def test_cameras_held_any_way_round(maker):
    rolled = replace(maker.scenery, rolled=1.0, pitch_sd=0.0, roll_sd=0.0)
    up = replace(maker, scenery=rolled).draw(600, generator()).up
    assert (up[:, 1] > 0.5).double().mean() == pytest.approx(1 / 3, abs=0.07)
    torch.testing.assert_close(up.norm(dim=-1), torch.ones(600).double())


def test_stature_is_of_the_drawn_body(maker):
    people = maker.draw(30, generator())
    torch.testing.assert_close(people.stature, stature(maker.body, people.betas))
    assert len(NAMES) == maker.body.num_betas - 10


def test_what_detectors_leave_out():
    seen = torch.ones(3000, len(BODY25))
    told = disguise(seen, BODY25, 0.0, generator(), Missing(0.0, 0.0, 0.0, coco=0.3))
    gone = [(told[:, BODY25.index(n)] == 0) for n in ("LHeel", "Neck", "MidHip", "RBigToe")]
    assert gone[0].double().mean() == pytest.approx(0.3, abs=0.04)
    assert all(torch.equal(g, gone[0]) for g in gone)
    assert (told[:, BODY25.index("Nose")] > 0).all()
