"""Made-up people: from the seed alone, true to their camera, with the errors that are stated."""

from __future__ import annotations

import pytest
import torch

from flowfit.models.keypoints import BODY25, COCO17
from flowfit.models.kinematics import joint_index
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, PeopleMaker, Scenery

PERFECT = Detector(noise=0, outliers=0, missed=0, hidden_limbs=0, swaps=0)
SMALL = Scenery(box=(0.3, 0.5), off_centre=0.1)  # everybody well inside the frame


@pytest.fixture(scope="module")
def poses():
    generator = torch.Generator().manual_seed(0)
    axis_angle = 0.15 * torch.randn(40, 24, 3, generator=generator, dtype=torch.float64)
    return axis_angle_to_matrix(axis_angle)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def box_side(people):
    """Longer side of the box around the true keypoints, pixels."""
    points = people.true_keypoints
    return (points.amax(1) - points.amin(1)).amax(-1)


def facing(people):
    """Cosine between where the face looks and the view onto it; -1 looks into the camera."""
    turned = people.rotations[:, 0]
    for joint in ("spine1", "spine2", "spine3", "neck", "head"):
        turned = turned @ people.rotations[:, joint_index(joint)]
    return turned


# --- ProHMR ---


def test_the_seed_decides(body, poses):
    maker = PeopleMaker(body, poses, augmentation=Augmentation())
    first, again, other = (maker.draw(16, seeded(s)) for s in (5, 5, 6))
    for name in first._fields:
        if name == "camera":
            assert torch.equal(first.camera.focal, again.camera.focal)
            assert torch.equal(first.camera.center, again.camera.center)
        else:
            value = getattr(first, name)
            assert torch.equal(value, getattr(again, name)), name
            assert value.isfinite().all(), name
    for name in ("rotations", "betas", "transl", "keypoints", "confidence"):
        assert not torch.equal(getattr(first, name), getattr(other, name)), name


def test_shapes_and_rotations(body, poses):
    people = PeopleMaker(body, poses, augmentation=Augmentation()).draw(12, seeded())
    assert people.rotations.shape == (12, 24, 3, 3)
    assert people.betas.shape == (12, body.num_betas)
    assert people.transl.shape == (12, 3)
    assert people.keypoints.shape == people.true_keypoints.shape == (12, 25, 2)
    assert people.confidence.shape == (12, 25)
    assert people.camera.focal.shape == people.size.shape == (12, 2)
    assert people.keypoints.dtype == people.rotations.dtype == torch.float64
    eye = torch.eye(3, dtype=torch.float64).expand_as(people.rotations)
    gram = people.rotations @ people.rotations.transpose(-1, -2)
    torch.testing.assert_close(gram, eye, rtol=0, atol=1e-10)
    assert (torch.linalg.det(people.rotations) > 0).all()


# --- the truth ---


def test_the_truth_projects_to_the_true_keypoints(body, poses):
    people = PeopleMaker(body, poses).draw(20, seeded())
    points = body.keypoints(people.betas, people.rotations, BODY25, people.transl)
    pixels, in_front = people.camera.project(points)
    assert in_front.all()
    torch.testing.assert_close(people.true_keypoints, pixels)
    torch.testing.assert_close(people.camera.center, people.size / 2)


def test_a_perfect_detector_reports_the_truth(body, poses):
    people = PeopleMaker(body, poses, schema=COCO17, detector=PERFECT, scenery=SMALL).draw(
        20, seeded()
    )
    seen = people.confidence > 0
    torch.testing.assert_close(people.keypoints[seen], people.true_keypoints[seen])
    limbs = [COCO17.index(n) for n in COCO17.names if n[1:] not in ("ose", "Eye", "Ear")]
    assert seen[:, limbs].all()


def test_middle_points_are_those_of_their_neighbours(body, poses):
    people = PeopleMaker(body, poses).draw(60, seeded())
    for name, pair in (("Neck", ("LShoulder", "RShoulder")), ("MidHip", ("LHip", "RHip"))):
        ends, place = BODY25.indices(list(pair)), BODY25.index(name)
        seen = people.confidence[:, place] > 0
        assert torch.equal(seen, (people.confidence[:, ends] > 0).all(1))
        middle = people.keypoints[:, ends].mean(1)
        torch.testing.assert_close(people.keypoints[seen, place], middle[seen])


def test_the_body_has_the_size_that_the_scenery_says(body, poses):
    small, large = (
        PeopleMaker(body, poses, scenery=Scenery(box=(s, s), off_centre=0)).draw(60, seeded())
        for s in (0.3, 0.6)
    )
    for people, share in ((small, 0.3), (large, 0.6)):
        ratio = box_side(people) / people.size.amin(-1)
        assert float(ratio.median()) == pytest.approx(share, rel=0.15)


# --- the detector ---


@pytest.mark.parametrize("scenery", [Scenery(), TRUNCATED], ids=["plain", "truncated"])
def test_seen_is_inside_the_frame_and_unseen_is_nothing(body, poses, scenery):
    people = PeopleMaker(body, poses, scenery=scenery).draw(80, seeded())
    seen = people.confidence > 0
    assert (people.confidence[seen] >= 0.05).all()
    assert (people.confidence <= 1).all()
    assert 0.2 < seen.double().mean() < 1
    inside = ((people.keypoints >= 0) & (people.keypoints < people.size[:, None])).all(-1)
    assert inside[seen].all()
    assert torch.equal(people.keypoints[~seen], torch.zeros_like(people.keypoints[~seen]))


def test_who_is_outside_the_frame_is_not_seen(body, poses):
    people = PeopleMaker(body, poses, schema=COCO17, detector=PERFECT, scenery=TRUNCATED).draw(
        80, seeded()
    )
    true = people.true_keypoints
    inside = ((true >= 0) & (true < people.size[:, None])).all(-1)
    seen = people.confidence > 0
    assert not seen[~inside].any()
    limbs = [COCO17.index(n) for n in COCO17.names if n[1:] not in ("ose", "Eye", "Ear")]
    assert seen[:, limbs][inside[:, limbs]].all()


def test_truncated_scenery_cuts_people(body, poses):
    share = []
    for scenery in (SMALL, Scenery(), TRUNCATED):
        people = PeopleMaker(body, poses, scenery=scenery).draw(100, seeded())
        true = people.true_keypoints
        outside = ~((true >= 0) & (true < people.size[:, None])).all(-1)
        share.append(float(outside.any(1).double().mean()))
    assert share[0] == 0
    assert share[0] < share[1] < share[2]
    assert share[2] > 0.9


def test_noise_grows_with_the_box(body, poses):
    detector = Detector(outliers=0, missed=0, hidden_limbs=0, swaps=0)
    error, side = [], []
    for share in (0.2, 0.6):
        scenery = Scenery(box=(share, share), off_centre=0)
        maker = PeopleMaker(body, poses, schema=COCO17, detector=detector, scenery=scenery)
        people = maker.draw(150, seeded())
        seen = people.confidence > 0
        error.append((people.keypoints - people.true_keypoints).norm(dim=-1)[seen].median())
        side.append(box_side(people).median())
    assert float(error[1] / error[0]) == pytest.approx(float(side[1] / side[0]), rel=0.1)
    assert float(side[1] / side[0]) > 2.5


def test_noise_has_the_stated_size(body, poses):
    detector = Detector(outliers=0, missed=0, hidden_limbs=0, swaps=0)
    twice = Detector(noise=2, outliers=0, missed=0, hidden_limbs=0, swaps=0)
    medians = []
    for model in (detector, twice):
        maker = PeopleMaker(body, poses, schema=COCO17, detector=model, scenery=SMALL)
        people = maker.draw(400, seeded())
        share = (people.keypoints - people.true_keypoints) / box_side(people)[:, None, None]
        seen = people.confidence > 0
        medians.append(
            {n: share[:, COCO17.index(n)][seen[:, COCO17.index(n)]].abs().median() for n in
             ("LHip", "LKnee", "LShoulder", "Nose")}
        )  # fmt: skip
    plain, double = medians
    # the median of |N(0, sd)| is 0.674 sd; the people's hardness has median 1
    for name, percent in (("LHip", 1.5), ("LKnee", 1.2), ("LShoulder", 1.1), ("Nose", 0.5)):
        assert float(plain[name]) == pytest.approx(0.674 * percent / 100, rel=0.15)
        assert float(double[name] / plain[name]) == pytest.approx(2, rel=0.1)


def test_worse_keypoints_have_less_confidence(body, poses):
    people = PeopleMaker(body, poses, schema=COCO17, scenery=SMALL).draw(300, seeded())
    seen = people.confidence > 0
    error = (people.keypoints - people.true_keypoints).norm(dim=-1) / box_side(people)[:, None]
    good, bad = error[seen] < 0.01, error[seen] > 0.05
    assert people.confidence[seen][good].mean() > people.confidence[seen][bad].mean() + 0.2


def moved_by(people):
    """Errors in boxes, (B, K), zero where not seen."""
    error = (people.keypoints - people.true_keypoints).norm(dim=-1) / box_side(people)[:, None]
    return torch.where(people.confidence > 0, error, 0)


def wrong(count, by=(0.3, 0.3), share=1.0):
    return Detector(
        noise=0,
        outliers=0,
        missed=0,
        hidden_limbs=0,
        swaps=0,
        wrong_but_sure=count,
        wrong_by=by,
        wrong_share=share,
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_wrong_but_sure_moves_exactly_so_many(body, poses, count):
    scenery = Scenery(box=(0.2, 0.3), off_centre=0)  # room to be wrong inside the frame
    maker = PeopleMaker(body, poses, schema=COCO17, detector=wrong(count), scenery=scenery)
    people = maker.draw(100, seeded())
    moved = moved_by(people)
    off = moved > 1e-9
    assert torch.equal(off.sum(1), torch.full((100,), count))
    torch.testing.assert_close(moved[off], torch.full_like(moved[off], 0.3))
    assert off.any(0).all()  # each keypoint has its turn
    # with the confidence of good ones
    others = (people.confidence > 0) & ~off
    mean = people.confidence[off].mean(), people.confidence[others].mean()
    assert float(mean[0]) == pytest.approx(float(mean[1]), abs=0.03)


def test_wrong_but_sure_moves_so_many_where_middle_points_are_derived(body, poses):
    scenery = Scenery(box=(0.2, 0.3), off_centre=0)
    people = PeopleMaker(body, poses, detector=wrong(2), scenery=scenery).draw(100, seeded())
    own = [BODY25.index(n) for n in BODY25.names if BODY25.midpoint_of(n) is None]
    off = moved_by(people)[:, own] > 1e-9
    assert torch.equal(off.sum(1), torch.full((100,), 2))


def test_wrong_by_is_a_range_and_wrong_share_a_share(body, poses):
    scenery = Scenery(box=(0.2, 0.3), off_centre=0)
    maker = PeopleMaker(
        body, poses, schema=COCO17, detector=wrong(2, (0.1, 0.4), 0.25), scenery=scenery
    )
    moved = moved_by(maker.draw(400, seeded()))
    off = moved > 1e-9
    assert moved[off].min() >= 0.1
    assert moved[off].max() <= 0.4
    assert float(moved[off].mean()) == pytest.approx(0.25, abs=0.02)
    assert float(off.any(1).double().mean()) == pytest.approx(0.25, abs=0.07)
    none = PeopleMaker(
        body, poses, schema=COCO17, detector=wrong(2, (0.1, 0.4), 0.0), scenery=scenery
    )
    assert moved_by(none.draw(50, seeded())).max() < 1e-9


def test_faces_are_hidden_from_behind(body, poses):
    people = PeopleMaker(body, poses, detector=PERFECT, scenery=SMALL).draw(200, seeded())
    head = facing(people)
    nose = body.keypoints(people.betas, people.rotations, BODY25, people.transl)[:, 0]
    view = torch.nn.functional.normalize(nose, dim=-1)
    away = (head[..., 2] * view).sum(-1)  # 1: the face looks where the camera looks
    seen = people.confidence > 0
    face = BODY25.indices(["Nose", "LEye", "REye"])
    behind, front = away > 0.8, away < -0.8
    assert behind.sum() > 10
    assert front.sum() > 10
    assert not seen[behind][:, face].any()
    assert seen[front][:, face].all()
    ears = BODY25.indices(["LEar", "REar"])
    assert seen[behind][:, ears].any()
    side = (head[..., 0] * view).sum(-1)  # 1: the left ear is turned away
    assert not seen[side > 0.8][:, ears[0]].any()
    assert seen[side > 0.8][:, ears[1]].all()


def test_missed_and_hidden(body, poses):
    missing = PeopleMaker(
        body, poses, schema=COCO17, scenery=SMALL,
        detector=Detector(missed=0.5, hidden_limbs=0, outliers=0),
    ).draw(200, seeded(), least_seen=0)  # fmt: skip
    knees = COCO17.indices(["LKnee", "RKnee"])
    share = (missing.confidence[:, knees] > 0).double().mean()
    assert float(share) == pytest.approx(0.5, abs=0.08)
    hidden = PeopleMaker(
        body, poses, scenery=SMALL, detector=Detector(missed=0, hidden_limbs=1)
    ).draw(20, seeded(), least_seen=0)
    gone = BODY25.indices(["LElbow", "RWrist", "LKnee", "RAnkle", "LBigToe", "RHeel", "LHip"])
    assert not (hidden.confidence[:, gone] > 0).any()


def cropped(chance, **errors):
    perfect = {"noise": 0, "outliers": 0, "missed": 0, "hidden_limbs": 0, "swaps": 0}
    return Detector(**(perfect | errors), cropped=chance)


# a face may be hidden for another reason: it looks away
WITHOUT_FACE = [i for i, n in enumerate(COCO17.names) if n[1:] not in ("ose", "Eye", "Ear")]


def test_crops_keep_the_upper_part_or_one_side(body, poses):
    maker = PeopleMaker(body, poses, schema=COCO17, detector=cropped(1.0), scenery=SMALL)
    people = maker.draw(400, seeded(), least_seen=0)
    true = people.true_keypoints
    low, high = true.amin(1, keepdim=True), true.amax(1, keepdim=True)
    across, down = ((true - low) / (high - low))[:, WITHOUT_FACE].unbind(-1)
    kept = (people.confidence > 0)[:, WITHOUT_FACE]

    def is_split(place, least, most):
        """Whether all before some place are kept and none after it; the place is in a range."""
        last = place.masked_fill(~kept, 0).amax(1)
        first_gone = place.masked_fill(kept, 1).amin(1)
        return (last < first_gone) & (last <= most) & (first_gone >= least)

    ways = torch.stack(
        (is_split(down, 0.35, 0.75), is_split(across, 0.4, 0.7), is_split(1 - across, 0.4, 0.7)), 1
    )
    assert ways.any(1).all()
    # an upright person's lowest keypoint is an ankle, so the legs are among what is lost
    share = ways.double().mean(0)
    assert 0.4 < share[0] < 0.7
    assert (share[1:] > 0.15).all()
    assert (share[1:] < 0.5).all()
    # and nobody is whole
    assert not (people.confidence > 0).all(1).any()


def test_crops_only_hide(body, poses):
    """The people, their cameras and the detector's errors are those of whole people."""
    of = {"noise": 1, "outliers": 0.02, "missed": 0.03, "hidden_limbs": 0.05}
    whole, cut = (
        PeopleMaker(body, poses, detector=cropped(chance, **of)).draw(60, seeded(), least_seen=0)
        for chance in (0.0, 1.0)
    )
    for name in ("rotations", "betas", "transl", "size", "true_keypoints"):
        assert torch.equal(getattr(whole, name), getattr(cut, name)), name
    before, after = whole.confidence > 0, cut.confidence > 0
    assert not (after & ~before).any()
    assert after.sum() < 0.8 * before.sum()
    torch.testing.assert_close(cut.keypoints[after], whole.keypoints[after], rtol=0, atol=0)
    assert not cut.keypoints[~after].any()


@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_so_many_are_cropped(body, poses, chance):
    whole, some = (
        PeopleMaker(body, poses, schema=COCO17, detector=cropped(c), scenery=SMALL).draw(
            500, seeded(), least_seen=0
        )
        for c in (0.0, chance)
    )
    changed = ((whole.confidence > 0) != (some.confidence > 0)).any(1)
    assert float(changed.double().mean()) == pytest.approx(chance, abs=0.07)


def test_without_crops_no_random_number_is_spent_on_them(body, poses, monkeypatch):
    """So people drawn for earlier results are the same today."""
    expected = PeopleMaker(body, poses, detector=Detector()).draw(30, seeded())

    def never(*_):
        raise AssertionError("cropped, with a chance of 0")

    monkeypatch.setattr(PeopleMaker, "_in_crop", never)
    found = PeopleMaker(body, poses, detector=Detector(cropped=0.0)).draw(30, seeded())
    for name in ("rotations", "betas", "transl", "keypoints", "confidence", "true_keypoints"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_enough_is_seen_of_cropped_people(body, poses):
    people = PeopleMaker(body, poses, detector=cropped(1.0)).draw(100, seeded(), least_seen=6)
    assert ((people.confidence > 0).sum(1) >= 6).all()


def test_swaps_exchange_left_and_right(body, poses):
    swapped = Detector(noise=0, outliers=0, missed=0, hidden_limbs=0, swaps=1)
    maker = PeopleMaker(body, poses, schema=COCO17, detector=swapped, scenery=SMALL)
    people = maker.draw(10, seeded())
    for name in ("Wrist", "Elbow", "Hip", "Knee", "Ankle"):
        left, right = COCO17.index("L" + name), COCO17.index("R" + name)
        torch.testing.assert_close(people.keypoints[:, left], people.true_keypoints[:, right])
        torch.testing.assert_close(people.keypoints[:, right], people.true_keypoints[:, left])
    shoulder = COCO17.index("LShoulder")
    torch.testing.assert_close(people.keypoints[:, shoulder], people.true_keypoints[:, shoulder])


# --- what is drawn ---


def test_weights(body, poses):
    evenly = PeopleMaker(body, poses, weights=None).draw(300, seeded())
    found = {_which(row, poses) for row in evenly.rotations}
    assert len(found) > 35  # of 40
    weights = torch.zeros(40, dtype=torch.float64)
    weights[[3, 7]] = torch.tensor([1.0, 3.0], dtype=torch.float64)
    some = PeopleMaker(body, poses, weights).draw(300, seeded())
    which = [_which(row, poses) for row in some.rotations]
    assert set(which) == {3, 7}
    assert which.count(7) / 300 == pytest.approx(0.75, abs=0.08)


def _which(rotations, poses):
    """Number of the pose that somebody has; the root is turned towards the camera."""
    distance = (poses[:, 1:] - rotations[1:]).abs().amax((1, 2, 3))
    assert distance.min() < 1e-12
    return int(distance.argmin())


@pytest.mark.parametrize("least", [1, 6, 12])
def test_least_seen(body, poses, least):
    maker = PeopleMaker(body, poses, scenery=TRUNCATED)
    people = maker.draw(80, seeded(), least_seen=least)
    assert ((people.confidence > 0).sum(1) >= least).all()
    points = body.keypoints(people.betas, people.rotations, BODY25, people.transl)
    pixels, _ = people.camera.project(points)
    torch.testing.assert_close(people.true_keypoints, pixels)  # redrawn whole, camera and all


def test_single_precision(body, poses):
    single = body.to(dtype=torch.float32)
    people = PeopleMaker(single, poses.float(), augmentation=Augmentation()).draw(8, seeded())
    assert people.keypoints.dtype == torch.float32
    assert people.keypoints.isfinite().all()
