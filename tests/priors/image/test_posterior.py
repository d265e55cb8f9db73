"""The posterior that sees pictures: what may be missing, who depends on whom, where it begins."""

import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25, COCO17
from flowfit.models.kinematics import joint_index
from flowfit.models.rotations import rotation_6d_to_matrix
from flowfit.priors.data.pictures.crops import turn_to_crop
from flowfit.priors.image.encoder import ImageEncoder
from flowfit.priors.image.fusion import turns_to_camera
from flowfit.priors.image.posterior import ImagePosterior, crop_geometry
from flowfit.priors.keypoints.posterior import mode_translation
from flowfit.priors.networks.encoders import keypoint_boxes
from flowfit.priors.training.image_losses import (
    OwnKeypointWeights,
    Truth,
    image_losses,
    own_keypoint_losses,
    with_exact_keypoints,
)
from flowfit.priors.training.keypoint_losses import LossWeights
from tests.priors.image.image_people import ENCODER, IMAGE_SIZE, make_posterior, make_seen, rows


@pytest.fixture(scope="module")
def posterior():
    return make_posterior()


@pytest.fixture(scope="module")
def shown():
    return make_seen()


@pytest.fixture(scope="module")
def body():
    return find_body("open-low")


def blind(seen):
    return seen._replace(has_image=torch.zeros_like(seen.has_image))


def without_keypoints(seen):
    return seen._replace(confidence=torch.zeros_like(seen.confidence))


@torch.no_grad()
def test_untrained_picture_and_keypoints_are_the_keypoint_posterior(shown):
    seen, _ = shown
    posterior = make_posterior(trained=False)
    told = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
    torch.testing.assert_close(posterior.condition(seen), told)
    assert not torch.allclose(posterior.condition(without_keypoints(seen)), told, atol=1e-3)


@torch.no_grad()
def test_keypoints_alone_are_always_the_keypoint_posterior(posterior, shown, body):
    seen, _ = shown
    told = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
    context = posterior.condition(blind(seen))
    assert torch.equal(context, told)
    betas = posterior.mode(context).betas[:, 0]
    place = posterior.translation(context, betas, blind(seen), body)
    theirs = mode_translation(
        posterior.keypoint_posterior, told, betas, seen.keypoints, seen.confidence, seen.camera,
        body,
    )  # fmt: skip
    torch.testing.assert_close(place, theirs)


@torch.no_grad()
def test_nothing_seen_is_the_same_for_everybody(posterior, shown):
    seen, _ = shown
    nothing = posterior.condition(without_keypoints(blind(seen)))
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))
    # pixels and keypoints that are said to be missing are not looked at
    spoilt = without_keypoints(blind(seen))
    spoilt = spoilt._replace(images=torch.full_like(seen.images, torch.nan))
    torch.testing.assert_close(posterior.condition(spoilt), nothing)


@torch.no_grad()
def test_each_source_matters(posterior, shown):
    seen, _ = shown
    both = posterior.condition(seen)
    for less in (blind(seen), without_keypoints(seen)):
        assert (posterior.condition(less) - both).abs().amax(-1).min() > 1e-3
    darker = seen._replace(images=0.3 * seen.images)
    assert (posterior.condition(darker) - both).abs().amax(-1).min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("lacking", ["nothing", "pictures", "keypoints", "some of either"])
def test_people_are_independent(posterior, body, lacking):
    seen, _ = make_seen(6, seed=1)
    if lacking == "pictures":
        seen = blind(seen)
    if lacking == "keypoints":
        seen = without_keypoints(seen)
    if lacking == "some of either":
        has = torch.tensor([True, False, True, False, True, True])
        confidence = seen.confidence.clone()
        confidence[[0, 1]] = 0
        seen = seen._replace(has_image=has, confidence=confidence)

    def answers(asked):
        context = posterior.condition(asked)
        mode = posterior.mode(context)
        return context, mode.betas, posterior.translation(context, mode.betas[:, 0], asked, body)

    together = answers(seen)
    order = [3, 0, 5, 1, 4, 2]
    for whole, permuted in zip(together, answers(rows(seen, order)), strict=True):
        torch.testing.assert_close(permuted, whole[order], atol=2e-5, rtol=1e-4)
    for row in range(6):
        for whole, alone in zip(together, answers(rows(seen, [row])), strict=True):
            torch.testing.assert_close(alone[0], whole[row], atol=2e-5, rtol=1e-4)
    # beside somebody of whom everything is NaN
    images, keypoints = seen.images.clone(), seen.keypoints.clone()
    images[2], keypoints[2] = torch.nan, torch.nan
    beside = answers(seen._replace(images=images, keypoints=keypoints))
    others = [0, 1, 3, 4, 5]
    for whole, spoilt in zip(together, beside, strict=True):
        torch.testing.assert_close(spoilt[others], whole[others], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_people_are_independent_to_the_last_digits():
    """In float64: somebody alone is as among others, whatever of the others is missing."""
    posterior = make_posterior().double()
    seen, _ = make_seen(5, seed=2)
    double = seen._replace(
        images=seen.images.double(),
        has_image=torch.tensor([True, True, False, True, True]),
        keypoints=seen.keypoints.double(),
        confidence=seen.confidence.double(),
        camera=type(seen.camera)(seen.camera.focal.double(), seen.camera.center.double()),
        box=type(seen.box)(seen.box.center.double(), seen.box.side.double()),
    )
    double.confidence[1] = 0
    together = posterior.condition(double)
    assert together.dtype == torch.float64
    for row in range(5):
        alone = posterior.condition(rows(double, [row]))
        torch.testing.assert_close(alone[0], together[row], atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_what_is_seen_at_the_keypoints_matters(posterior, shown):
    """The same features elsewhere: nothing but what is read at the points has changed."""
    seen, _ = shown
    told = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
    glance = posterior.encoder(seen.images)
    context = posterior.join(glance, told, seen).context
    for name in ("near", "wide"):
        other = glance._replace(**{name: getattr(glance, name).flip(-1)})
        changed = posterior.join(other, told, seen).context
        assert (changed - context).abs().amax(-1).min() > 1e-5, name


@torch.no_grad()
def test_the_first_guess_of_the_turns_is_the_mode(shown):
    seen, _ = shown
    posterior = make_posterior(trained=False)
    told = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
    joined = posterior.join(posterior.encoder(seen.images), told, seen)
    box, place = seen.box, joined.mended.place
    pixels = box.center[:, None] + place * box.side[:, None, None]
    better = posterior.keypoint_posterior.condition(pixels, joined.mended.confidence, seen.camera)
    rotations = posterior.mode(better).rotations[:, 0]
    expected = turns_to_camera(rotations, turn_to_crop(box, seen.camera))
    torch.testing.assert_close(joined.turns, expected)
    # the pelvis' own turn, and the left foot's along its chain
    turn = turn_to_crop(box, seen.camera).transpose(-1, -2)
    chain = ("pelvis", "left_hip", "left_knee", "left_ankle")
    for joint in chain:
        turn = turn @ rotations[:, joint_index(joint)]
        found = rotation_6d_to_matrix(expected[:, joint_index(joint)])
        torch.testing.assert_close(found, turn, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_stands_in_lies_in_the_box_of_the_given(posterior, shown):
    """The condition says where somebody is relative to that box, which must stay the same."""
    seen, _ = shown
    told = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
    mended = posterior.join(posterior.encoder(seen.images), told, seen).mended
    pixels = seen.box.center[:, None] + mended.place * seen.box.side[:, None, None]
    around = keypoint_boxes(seen.keypoints, seen.confidence)
    off = (pixels - around.center[:, None]).abs().amax(-1) / around.side[:, None]
    new = (mended.confidence > 0) & (seen.confidence == 0)
    assert (off[new] <= 0.5 + 1e-5).all()


def test_another_schema_needs_another_keypoint_posterior(posterior):
    with pytest.raises(ValueError, match="25 keypoints; schema coco17 has 17"):
        ImagePosterior(posterior.keypoint_posterior, schema=COCO17)


@torch.no_grad()
def test_what_is_given_is_not_changed(posterior, shown, body):
    seen, _ = shown
    before = [t.clone() for t in (seen.images, seen.keypoints, seen.confidence)]
    context = posterior.condition(seen)
    posterior.translation(context, torch.zeros(4, 10), seen, body)
    for old, new in zip(before, (seen.images, seen.keypoints, seen.confidence), strict=True):
        assert torch.equal(old, new)


@torch.no_grad()
def test_bodies_samples_and_densities_fit_together(posterior, shown):
    seen, people = shown
    context = posterior.condition(seen)
    drawn = posterior.sample(context, 5, torch.Generator().manual_seed(0))
    assert drawn.rotations.shape == (4, 5, 24, 3, 3)
    again = posterior.flow.encode(drawn.vectors, context).log_prob
    torch.testing.assert_close(again, drawn.log_prob, atol=1e-2, rtol=1e-4)
    assert posterior.log_prob(people.rotations, people.betas, context).shape == (4,)


@torch.no_grad()
def test_the_crop_and_where_it_lies_decide_not_the_resolution_of_the_photograph(posterior, shown):
    """The same crop out of a photograph with twice the pixels."""
    seen, _ = shown
    context = posterior.condition(seen)
    camera = type(seen.camera)(2 * seen.camera.focal, 2 * seen.camera.center)
    finer = seen._replace(
        keypoints=2 * seen.keypoints,
        camera=camera,
        box=type(seen.box)(2 * seen.box.center, 2 * seen.box.side),
    )
    torch.testing.assert_close(posterior.condition(finer), context, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        crop_geometry(finer.box, finer.camera), crop_geometry(seen.box, seen.camera)
    )


def test_only_the_new_parts_are_trained(posterior):
    frozen = [p for p in posterior.keypoint_posterior.parameters() if p.requires_grad]
    assert not frozen
    assert any(p.requires_grad for p in posterior.encoder.parameters())
    posterior.train()
    assert posterior.encoder.training
    assert not posterior.keypoint_posterior.training
    posterior.eval()


def test_a_keypoint_is_where_its_map_is():
    """A network whose maps are painted by hand."""
    torch.manual_seed(0)
    encoder = ImageEncoder(2, **ENCODER).eval()
    heat = torch.full((1, 2, 16, 16), -10.0)
    heat[0, 0, 3, 12] = heat[0, 1, 8, 0] = heat[0, 1, 8, 1] = 10.0
    features = torch.arange(8.0 * 64).view(1, 8, 8, 8)
    with torch.no_grad():
        glance = encoder._read(heat, features, torch.zeros(1, 8), torch.zeros(1, 4, 16, 16))
        described = encoder.describe(features[0, :, 1, 6]).relu()
    torch.testing.assert_close(glance.place[0, 0], torch.tensor([12.5, 3.5]) / 16 - 0.5)
    torch.testing.assert_close(glance.place[0, 1], torch.tensor([1.0, 8.5]) / 16 - 0.5)
    assert glance.spread[0, 0] < 1e-3
    assert glance.spread[0, 1] == pytest.approx(0.5 / 16, rel=1e-3)
    assert glance.peak.min() > 0.999
    torch.testing.assert_close(glance.at_keypoints[0, 0], described)
    torch.testing.assert_close(glance.log_map.exp().sum((-1, -2)), torch.ones(1, 2))


def test_between_two_peaks_is_nobody():
    """Left and right not told apart: the keypoint is at one of the two places."""
    encoder = ImageEncoder(1, **ENCODER).eval()
    heat = torch.full((1, 1, 16, 16), -10.0)
    heat[0, 0, 8, 2], heat[0, 0, 8, 13] = 10.0, 10.0 + 0.1  # e to the 0.4 times as likely
    with torch.no_grad():
        nothing = torch.zeros(1, 8, 8, 8), torch.zeros(1, 8), torch.zeros(1, 4, 16, 16)
        glance = encoder._read(heat, *nothing)
    torch.testing.assert_close(glance.place[0, 0], torch.tensor([13.5, 8.5]) / 16 - 0.5)
    assert glance.peak[0, 0] == pytest.approx(1 / (1 + np.exp(-0.4)), rel=1e-3)
    assert glance.spread[0, 0] > 0.3


def truth_of(people, seen):
    place = (people.true_keypoints - seen.box.center[:, None]) / seen.box.side[:, None, None]
    inside = place.abs().amax(-1) < 0.5
    return Truth(people, seen.box, inside, torch.ones(len(inside), dtype=torch.bool))


def test_own_keypoints_cost_nothing_where_they_are_true(posterior, shown):
    seen, people = shown
    truth = truth_of(people, seen)
    place = (people.true_keypoints - seen.box.center[:, None]) / seen.box.side[:, None, None]
    glance = posterior.encoder(seen.images)
    costs = own_keypoint_losses(glance, truth, BODY25)
    assert costs["own_place"] > 0.5
    there = own_keypoint_losses(glance._replace(place=place), truth, BODY25)
    assert there["own_place"] == 0
    sure = torch.where(truth.inside, 20.0, -20.0)
    assert (
        own_keypoint_losses(glance._replace(confidence_logit=sure), truth, BODY25)["own_found"]
        < costs["own_found"]
    )
    # a map with its peak at the true place costs less than an even one, and less than a wrong one
    size = glance.log_map.shape[-1]
    line = torch.arange(size) + 0.5 - size / 2
    across, down = (line - size * place[..., None]).square().unbind(-2)
    bumps = -0.3 * (down[..., None] + across[..., None, :])
    right = bumps.flatten(2).log_softmax(-1).view_as(glance.log_map)
    even = torch.zeros_like(bumps).flatten(2).log_softmax(-1).view_as(glance.log_map)
    heat = [
        float(own_keypoint_losses(glance._replace(log_map=m), truth, BODY25)["own_heat"])
        for m in (right, even, right.flip(-1))
    ]
    assert heat[0] < heat[1] < heat[2]


def test_the_loss_teaches_the_image_network_and_leaves_the_rest(shown, body):
    seen, people = shown
    posterior = make_posterior(trained=False).train()
    truth = truth_of(people, seen)
    arguments = (
        posterior, seen.images, truth, body, BODY25, LossWeights(), OwnKeypointWeights(),
    )  # fmt: skip
    total, terms = image_losses(*arguments, torch.Generator().manual_seed(0))
    own = {"own_place", "own_heat", "own_found", "own_root"}
    joined = {"own_turns", "own_moved", "own_right"}
    assert own | joined | {"nll", "mode_3d", "camera"} <= terms.keys()
    total.backward()
    for part in (
        posterior.reader.shared[0].weight,
        posterior.mender.leave,
        posterior.fusion.trust.weight,
    ):
        assert part.grad is not None
    assert posterior.fusion.turns.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in posterior.fusion.leave.parameters())
    assert posterior.encoder.heat.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in posterior.keypoint_posterior.parameters())
    only, few = image_losses(*arguments, torch.Generator().manual_seed(0), keypoints_only=True)
    assert set(few) == own
    assert only < total
    nobody = truth._replace(has_body=torch.zeros(4, dtype=torch.bool))
    arguments = (posterior, seen.images, nobody, *arguments[3:])
    assert set(image_losses(*arguments, torch.Generator())[1]) == set(few)


def test_some_people_are_shown_with_true_keypoints(shown):
    seen, people = shown
    truth = truth_of(people, seen)
    assert with_exact_keypoints(truth, 0.0, torch.Generator()) is truth
    everybody = with_exact_keypoints(truth, 1.0, torch.Generator().manual_seed(0)).people
    inside = truth.inside
    assert torch.equal(everybody.confidence, inside.to(everybody.confidence.dtype))
    assert torch.equal(everybody.keypoints[inside], people.true_keypoints[inside])
    assert not torch.equal(people.keypoints[inside], people.true_keypoints[inside])
    unknown = truth._replace(has_body=torch.tensor([True, False, True, False]))
    some = with_exact_keypoints(unknown, 1.0, torch.Generator().manual_seed(0)).people
    assert torch.equal(some.keypoints[1::2], people.keypoints[1::2])
    assert torch.equal(some.confidence[1::2], people.confidence[1::2])
    assert torch.equal(some.keypoints[::2], everybody.keypoints[::2])
    many = torch.arange(4).repeat(100)
    crowd = Truth(
        type(people)(*(t.rows(many) if hasattr(t, "rows") else t[many] for t in people)),
        type(truth.box)(truth.box.center[many], truth.box.side[many]),
        inside[many],
        truth.has_body[many],
    )
    told = with_exact_keypoints(crowd, 0.2, torch.Generator().manual_seed(0)).people
    changed = (told.keypoints != crowd.people.keypoints).any(-1).any(-1)
    assert 0.12 < changed.float().mean() < 0.28


def test_crops_have_the_size_of_the_posterior(posterior):
    assert posterior.image_size == IMAGE_SIZE
    assert isinstance(posterior, ImagePosterior)
