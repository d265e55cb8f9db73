"""Keypoints that were given, as the picture has them."""

import pytest
import torch

from benchmarks.image.mending import markdown, measure
from flowfit.models.keypoints import BODY25
from flowfit.priors.data.drawn.draw_people import Pictures
from flowfit.priors.image.mending import Mender, _own_map
from flowfit.priors.training.image_losses import Truth, mending_losses
from tests.priors.image.image_people import make_posterior, make_seen

CONDITIONS = {
    "cpu": "a",
    "threads": 1,
    "python": "3",
    "torch": "2",
    "flowfit": "0",
    "date": "today",
}


@pytest.fixture(scope="module")
def shown():
    seen, people = make_seen()
    glance = make_posterior().encoder(seen.images)
    place = (seen.keypoints - seen.box.center[:, None]) / seen.box.side[:, None, None]
    place = torch.where((seen.confidence > 0)[..., None], place, glance.place)
    return seen, people, glance, place


def mend(mender, shown, **changes):
    seen, _, glance, place = shown
    given = {
        "close": torch.rand(4, 25, 3), "glance": glance, "place": place,
        "confidence": seen.confidence, "sure": torch.full((4, 25), 0.5),
        "fits": torch.ones(4, 25, dtype=torch.bool),
    }  # fmt: skip
    return mender(**{**given, **changes})


@torch.no_grad()
def test_before_training_what_is_given_stays_and_the_networks_own_stands_in(shown):
    seen, _, _, place = shown
    mended = mend(Mender(25, 3), shown)
    given = seen.confidence > 0
    assert 0 < given.sum() < given.numel()
    torch.testing.assert_close(mended.place, place)
    torch.testing.assert_close(mended.moved, place)
    assert (mended.confidence[given] > 0.8 * seen.confidence[given]).all()
    assert (mended.confidence[~given] == 0.5).all()
    not_there = mend(Mender(25, 3), shown, fits=torch.zeros(4, 25, dtype=torch.bool))
    assert (not_there.confidence[~given] == 0).all()


@torch.no_grad()
def test_what_is_wrong_is_replaced_and_what_is_right_is_moved(shown):
    seen, _, glance, place = shown
    given = seen.confidence > 0
    mender = Mender(25, 3)
    knee = BODY25.index("LKnee")
    mender.leave_bias[:, 0, 0] = 0.2
    mender.leave_bias[knee, 0, 2] = -10.0
    mended = mend(mender, shown)
    assert (mended.right_logit[:, knee] < 0).all()
    torch.testing.assert_close(mended.place[:, knee], glance.place[:, knee])
    assert (mended.confidence[:, knee] == 0.5).all()
    others = given.clone()
    others[:, knee] = False
    shift = torch.tensor([0.02, 0.0])
    torch.testing.assert_close(mended.place[others], (place + shift)[others])


def test_a_keypoints_own_map_at_its_place():
    log_map = torch.full((1, 2, 8, 8), -30.0)
    log_map[0, 0, 2, 5] = 0.0
    log_map[0, 1] = -torch.tensor(64.0).log()
    at_peak = torch.tensor([[[5.5 / 8 - 0.5, 2.5 / 8 - 0.5], [0.1, 0.2]]])
    found = _own_map(log_map, at_peak)
    torch.testing.assert_close(found, torch.tensor([[64.0, 1.0]]).log() / 10)
    assert _own_map(log_map, torch.full((1, 2, 2), torch.nan)).isfinite().all()
    assert _own_map(log_map, at_peak.flip(1))[0, 0] == pytest.approx(-found[0, 0].item())


def test_the_losses_teach_to_tell_right_from_wrong_and_to_move(shown):
    seen, people, _, _ = shown
    place = (people.true_keypoints - seen.box.center[:, None]) / seen.box.side[:, None, None]
    truth = Truth(people, seen.box, place.abs().amax(-1) < 0.5, torch.ones(4, dtype=torch.bool))
    torch.manual_seed(0)
    mender = Mender(25, 3)
    mended = mend(mender, shown)
    costs = mending_losses(mended, seen.confidence, truth)
    sum(costs.values()).backward()
    assert mender.leave.grad.abs().sum() > 0
    perfect = mending_losses(mended._replace(moved=place), seen.confidence, truth)
    assert perfect["own_moved"] == 0
    assert costs["own_moved"] > 0
    given = (seen.confidence > 0) & truth.inside
    given_place = (seen.keypoints - seen.box.center[:, None]) / seen.box.side[:, None, None]
    right = (given_place - place).norm(dim=-1) < 0.05
    knows = mended._replace(right_logit=torch.where(right, 20.0, -20.0))
    assert mending_losses(knows, seen.confidence, truth)["own_right"] < 1e-3
    nobody = mending_losses(mended, torch.zeros_like(seen.confidence), truth)
    assert nobody == {"own_moved": 0, "own_right": 0}
    assert given.any()


def test_the_benchmark_sees_that_nothing_is_mended_before_training():
    seen, people = make_seen(8, seed=3)
    pictures = Pictures((255 * seen.images).to(torch.uint8), people, seen.box)
    found = measure(make_posterior(trained=False), pictures)
    assert 0 < found["right_off_before"] < 5
    assert found["right_off_after"] == pytest.approx(found["right_off_before"])
    assert found["right_kept_percent"] == 100
    found = {name: value if value == value else 0.0 for name, value in found.items()}
    assert "| plain | " in markdown({"sets": {"plain": found}, **CONDITIONS})
