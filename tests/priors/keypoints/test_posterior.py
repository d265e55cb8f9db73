"""The keypoint posterior, and what the solver is given of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, COCO17, HALPE26, MEDIAPIPE33, SCHEMAS
from flowfit.models.kinematics import joint_index
from flowfit.models.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    retract,
)
from flowfit.priors.base import Pose
from flowfit.priors.keypoints.posterior import (
    ROTATION_NUMBERS,
    KeypointPosterior,
    camera_numbers_from_pelvis,
    pelvis_from_camera_numbers,
)
from flowfit.priors.keypoints.prior import FlowPrior, to_schema
from flowfit.priors.networks.encoders import Boxes, keypoint_boxes

FLOW = RECIPES["flow"]
SIZES = {"context": 8, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}


def make_posterior(num_betas=10, *, scale=True, dtype=torch.float64):
    """Untrained but sensible: standing people in front of the camera, give or take."""
    torch.manual_seed(0)
    posterior = KeypointPosterior(25, num_betas, **SIZES, conditional_scale=scale)
    rest = torch.eye(3).repeat(24, 1, 1)
    rest[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    standing = torch.cat((matrix_to_rotation_6d(rest).flatten(), torch.zeros(num_betas)))
    spread = torch.cat((torch.full((ROTATION_NUMBERS,), 0.25), torch.ones(num_betas)))
    with torch.no_grad():
        for parameter in posterior.flow.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
        first = posterior.flow.steps[0][0]  # decode ends with (u - shift) / scale
        first.log_scale.copy_(-spread.log())
        first.shift.copy_(-standing / spread)
        posterior.camera_head[-1].weight *= 0.1
        posterior.camera_head[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    return posterior.to(dtype).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def posterior(body):
    return make_posterior(body.num_betas)


@pytest.fixture(scope="module")
def flow_prior(posterior):
    return FlowPrior("tiny", posterior, BODY25)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(4, seed=3, noise=2.0)


def tell(flow_prior, problem, body):
    return flow_prior.given(
        problem.schema, problem.keypoints, problem.confidence, problem.camera, body
    )


@pytest.fixture(scope="module")
def given(flow_prior, crowd, body):
    return tell(flow_prior, crowd.problem, body)


@pytest.fixture(scope="module")
def context(posterior, crowd):
    problem = crowd.problem
    return posterior.condition(problem.keypoints, problem.confidence, problem.camera)


def draw(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# --- the posterior ---


def test_shapes(posterior, context, body):
    numbers = ROTATION_NUMBERS + body.num_betas
    assert context.shape == (4, 8)
    bodies = posterior.sample(context, 3, torch.Generator().manual_seed(0))
    assert bodies.rotations.shape == (4, 3, 24, 3, 3)
    assert bodies.betas.shape == (4, 3, body.num_betas)
    assert bodies.log_prob.shape == (4, 3)
    assert bodies.vectors.shape == (4, 3, numbers)
    assert posterior.mode(context).rotations.shape == (4, 1, 24, 3, 3)
    assert posterior.camera_numbers(context).shape == (4, 3)
    eye = torch.eye(3, dtype=torch.float64).expand_as(bodies.rotations)
    torch.testing.assert_close(bodies.rotations @ bodies.rotations.transpose(-1, -2), eye)
    density = posterior.log_prob(bodies.rotations, bodies.betas, context)
    assert density.shape == (4, 3)
    one = posterior.log_prob(bodies.rotations[:, 1], bodies.betas[:, 1], context)
    torch.testing.assert_close(one, density[:, 1])
    assert {t.dtype for t in (*bodies, context, density)} == {torch.float64}


def test_the_mode_is_the_sample_at_zero(posterior, context):
    mode = posterior.mode(context)
    zero = torch.zeros(4, 1, posterior.flow.features, dtype=torch.float64)
    for got, expected in zip(mode, posterior.bodies(zero, context), strict=True):
        assert torch.equal(got, expected)
    samples = posterior.sample(context, 20, torch.Generator().manual_seed(0))
    assert (mode.log_prob > samples.log_prob).all()


def test_samples_follow_the_generator(posterior, context):
    first, again, other = (
        posterior.sample(context, 2, torch.Generator().manual_seed(s)).vectors for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_log_prob_of_own_samples(posterior, context):
    bodies = posterior.sample(context, 5, torch.Generator().manual_seed(0))
    again = posterior.flow.encode(bodies.vectors, context).log_prob
    torch.testing.assert_close(again, bodies.log_prob)
    # of the bodies: the same up to how far the vectors were from orthonormal
    straight = posterior.vectors(bodies.rotations, bodies.betas)
    torch.testing.assert_close(
        straight[..., ROTATION_NUMBERS:], bodies.vectors[..., ROTATION_NUMBERS:]
    )
    expected = posterior.flow.encode(straight, context).log_prob
    torch.testing.assert_close(
        posterior.log_prob(bodies.rotations, bodies.betas, context), expected
    )
    assert not torch.allclose(expected, bodies.log_prob)


def test_camera_numbers_round_trip():
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(30, 3, generator=generator, dtype=torch.float64)
    pelvis = unit * torch.tensor([4.0, 3.0, 9.0]) - torch.tensor([2.0, 1.5, -0.5])
    box = Boxes(1000 * unit[:, 1:], 20 + 500 * unit[:, 0])
    each = Camera(600 + 900 * unit[:, :2], 500 * unit[:, 1:])
    one = Camera(torch.tensor([800.0, 820.0]).double(), torch.tensor([320.0, 240.0]).double())
    for camera in (each, one):
        numbers = camera_numbers_from_pelvis(pelvis, box, camera)
        assert numbers.shape == (30, 3)
        back = pelvis_from_camera_numbers(numbers, box, camera)
        torch.testing.assert_close(back, pelvis, rtol=0, atol=1e-10)
        again = camera_numbers_from_pelvis(back, box, camera)
        torch.testing.assert_close(again, numbers, rtol=0, atol=1e-10)


def test_camera_numbers_mean_what_they_say():
    camera = Camera.from_size(640, 480, 800.0).to(dtype=torch.float64)
    box = Boxes(torch.tensor([[320.0, 240.0]]).double(), torch.tensor([400.0]).double())
    pelvis = torch.tensor([[0.5, 0.0, 4.0]], dtype=torch.float64)  # pictured at 420, 240
    numbers = camera_numbers_from_pelvis(pelvis, box, camera)
    expected = torch.tensor([[0.25, 0.0, 2.0]]).double()  # 400 pixels are 2 m there
    torch.testing.assert_close(torch.cat((numbers[:, :2], numbers[:, 2:].exp()), -1), expected)


def test_the_mode_is_placed_where_the_head_says(posterior, context, crowd, body, given):
    problem = crowd.problem
    box = keypoint_boxes(problem.keypoints, problem.confidence)
    start = given.start()
    pose = given.decode(start.latent)
    pelvis = body.joints(pose.betas, pose.rotations, start.transl)[:, joint_index("pelvis")]
    numbers = camera_numbers_from_pelvis(pelvis, box, problem.camera)
    torch.testing.assert_close(numbers, posterior.camera_numbers(context))


# --- the encoder ---


def test_the_same_picture_at_another_size_and_place(posterior, crowd):
    problem = crowd.problem
    features = posterior.encoder.features(problem.keypoints, problem.confidence, problem.camera)
    assert features.shape == (4, 4 * 25 + 3)
    shift = torch.tensor([37.0, -80.0], dtype=torch.float64)
    for factor in (0.3, 1.0, 4.0):
        camera = Camera(factor * problem.camera.focal, factor * problem.camera.center + shift)
        got = posterior.encoder.features(
            factor * problem.keypoints + shift, problem.confidence, camera
        )
        torch.testing.assert_close(got, features, rtol=0, atol=1e-10)
    # the picture alone moved: the person stands elsewhere
    moved = posterior.encoder.features(
        problem.keypoints + shift, problem.confidence, problem.camera
    )
    assert (moved != features).any(1).all()
    torch.testing.assert_close(moved[:, :50], features[:, :50])


def test_unseen_keypoints_do_not_matter(posterior, crowd):
    problem = crowd.problem
    confidence = problem.confidence.clone()
    confidence[:, [0, 7, 24]] = 0
    expected = posterior.condition(problem.keypoints, confidence, problem.camera)
    for value in (0.0, 1e6, torch.nan, torch.inf):
        keypoints = problem.keypoints.clone()
        keypoints[:, [0, 7, 24]] = value
        got = posterior.condition(keypoints, confidence, problem.camera)
        assert torch.equal(got, expected)


def test_nobody_seen_is_the_same_for_everyone(posterior, crowd):
    problem = crowd.problem
    none = torch.zeros_like(problem.confidence)
    cameras = Camera(
        torch.tensor([[500.0, 500], [900, 900], [1500, 1500], [80, 80]]).double(),
        200 + 100 * draw(4, 2),
    )
    got = posterior.condition(problem.keypoints, none, cameras)
    torch.testing.assert_close(got, got[:1].expand(4, -1), rtol=0, atol=1e-12)
    again = posterior.condition(problem.keypoints * torch.nan, none, problem.camera)
    torch.testing.assert_close(got, again, rtol=0, atol=1e-12)
    seen = posterior.condition(problem.keypoints, problem.confidence, problem.camera)
    assert not torch.allclose(got, seen)


def test_boxes():
    keypoints = torch.tensor([[[10.0, 20], [30, 100], [999, -5]]]).expand(3, -1, -1)
    confidence = torch.tensor([[0.5, 0.1, 0.0], [1.0, 0, 0], [0, 0, 0]])
    box = keypoint_boxes(keypoints, confidence)
    assert box.center.tolist() == [[20, 60], [10, 20], [0, 0]]
    assert box.side.tolist() == [80, 1, 1]


# --- given to the solver ---


@pytest.mark.parametrize("scale", [True, False])
def test_pull_back_against_finite_differences(crowd, body, scale):
    prior = FlowPrior("tiny", make_posterior(body.num_betas, scale=scale), BODY25)
    given = tell(prior, crowd.problem, body)
    latent = draw(4, given.flow.features)
    pose, pull_back = given.linearize(latent)
    numbers = 72 + body.num_betas
    rows = pull_back(torch.eye(numbers, dtype=latent.dtype).expand(4, -1, -1))
    by_rotation, by_betas = rows[:, :72], rows[:, 72:]
    plain = given.decode(latent)
    torch.testing.assert_close(pose.rotations, plain.rotations)
    torch.testing.assert_close(pose.betas, plain.betas)
    size = sum(given.step_blocks.values())
    assert rows.shape == (4, numbers, size)
    h = 1e-5
    for place in [*range(0, size, 9), size - 1]:
        step = torch.zeros(4, size, dtype=torch.float64)
        step[:, place] = h
        ahead, behind = given.decode(given.move(latent, step)), given.decode(
            given.move(latent, -step)
        )  # fmt: skip
        turn = matrix_to_axis_angle(ahead.rotations @ behind.rotations.transpose(-1, -2))
        torch.testing.assert_close(
            by_rotation[..., place], turn.flatten(1) / (2 * h), rtol=1e-5, atol=1e-7
        )
        slope = (ahead.betas - behind.betas) / (2 * h)
        torch.testing.assert_close(by_betas[..., place], slope, rtol=1e-5, atol=1e-7)
    # a small step in any direction turns the joints by the Jacobian, from the left
    step = 1e-6 * draw(4, size, seed=5)
    turn = (by_rotation @ step[..., None])[..., 0].unflatten(-1, (24, 3))
    moved = given.decode(given.move(latent, step)).rotations
    torch.testing.assert_close(moved, retract(pose.rotations, turn), rtol=0, atol=1e-9)


def test_the_energy_is_half_the_squared_norm(given, posterior, context):
    latent = draw(4, given.flow.features)
    (term,) = given.terms(latent, jacobian=True)
    assert term.name == "latent"
    energy = 0.5 * (term.residual**2).sum(-1)
    torch.testing.assert_close(energy, 0.5 * (latent**2).sum(-1))
    # which is the posterior's own -log p, but for a constant of each person
    log_prob = posterior.bodies(latent[:, None], context).log_prob[:, 0]
    peak = posterior.mode(context).log_prob[:, 0]
    torch.testing.assert_close(energy, peak - log_prob)
    columns = [
        (given.terms(given.move(latent, step.expand(4, -1)), jacobian=False)[0].residual - latent)
        for step in torch.eye(given.flow.features, dtype=torch.float64)[:3]
    ]
    # said to be the latent itself: its derivatives are the identity's
    assert term.is_latent
    identity = torch.eye(given.flow.features, dtype=torch.float64)[:, :3].expand(4, -1, -1)
    torch.testing.assert_close(identity, torch.stack(columns, -1))
    assert given.terms(latent, jacobian=False)[0].jacobian is None


def test_encode_and_decode(given):
    pose = Pose(axis_angle_to_matrix(0.5 * draw(4, 24, 3)), draw(4, given.posterior.num_betas))
    latent = given.encode(pose)
    assert latent.shape == (4, given.flow.features)
    back = given.decode(latent)
    torch.testing.assert_close(back.rotations, pose.rotations, rtol=0, atol=1e-9)
    torch.testing.assert_close(back.betas, pose.betas, rtol=0, atol=1e-9)


def test_the_start_is_the_mode(given, posterior, context):
    start = given.start()
    assert not start.latent.any()
    assert start.transl.shape == (4, 3)
    assert (start.transl[:, 2] > 0).all()
    mode = posterior.mode(context)
    pose = given.decode(start.latent)
    torch.testing.assert_close(pose.rotations, mode.rotations[:, 0])
    torch.testing.assert_close(pose.betas, mode.betas[:, 0])
    torch.testing.assert_close(given.modes().rotations, mode.rotations[:1, 0])


def test_rows(given):
    index = torch.tensor([2, 0, 2])
    some = given.rows(index)
    latent = draw(3, given.flow.features)
    whole = draw(4, given.flow.features, seed=9)
    whole[[2, 0]] = latent[:2]
    pose, expected = some.decode(latent), given.decode(whole)
    torch.testing.assert_close(pose.rotations[:2], expected.rotations[[2, 0]])
    torch.testing.assert_close(some.encode(pose)[:2], given.encode(expected)[[2, 0]])
    assert torch.equal(some.start().transl, given.start().transl[index])
    assert torch.equal(some.context, given.context[index])
    _, pull_back = some.linearize(latent)
    assert len(pull_back(torch.zeros(3, 2, 72 + 10, dtype=latent.dtype))) == 3


# --- other schemas ---


@pytest.mark.parametrize(
    "schema", [COCO17, MEDIAPIPE33, HALPE26, SCHEMAS["coco18"]], ids=lambda s: s.name
)
def test_to_schema(schema):
    keypoints = 100 * draw(3, len(schema), 2)
    confidence = torch.rand(
        3, len(schema), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    before = keypoints.clone(), confidence.clone()
    moved, trust = to_schema(schema, BODY25, keypoints, confidence)
    assert moved.shape == (3, 25, 2)
    assert trust.shape == (3, 25)
    pairs = {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}
    for place, name in enumerate(BODY25.names):
        if name in schema:
            assert torch.equal(moved[:, place], keypoints[:, schema.index(name)]), name
            assert torch.equal(trust[:, place], confidence[:, schema.index(name)]), name
        elif name in pairs:
            ends = schema.indices(list(pairs[name]))
            torch.testing.assert_close(moved[:, place], keypoints[:, ends].mean(1))
            assert torch.equal(trust[:, place], confidence[:, ends].amin(1)), name
        else:
            assert not trust[:, place].any(), name
    assert torch.equal(keypoints, before[0])
    assert torch.equal(confidence, before[1])
    assert to_schema(BODY25, BODY25, moved, trust)[0] is moved


def test_a_middle_point_needs_both_ends():
    keypoints, confidence = draw(2, 17, 2), torch.ones(2, 17, dtype=torch.float64)
    confidence[0, COCO17.index("LShoulder")] = 0
    _, trust = to_schema(COCO17, BODY25, keypoints, confidence)
    assert trust[:, BODY25.index("Neck")].tolist() == [0, 1]
    assert trust[:, BODY25.index("MidHip")].tolist() == [1, 1]


@pytest.mark.parametrize("schema", [COCO17, MEDIAPIPE33, HALPE26], ids=lambda s: s.name)
def test_given_in_another_schema(make_crowd, flow_prior, body, schema):
    problem = make_crowd(2, seed=5, schema=schema).problem
    got = tell(flow_prior, problem, body)
    moved, trust = to_schema(schema, BODY25, problem.keypoints, problem.confidence)
    same = flow_prior.given(BODY25, moved, trust, problem.camera, body)
    torch.testing.assert_close(got.context, same.context)
    torch.testing.assert_close(got.start().transl, same.start().transl)
    found = fit_people(problem, body, got, FLOW)
    assert found.joints3d.isfinite().all()
    assert (sum(found.energy.values()) <= found.start_energy).all()


# --- without having seen anybody ---


@pytest.fixture(scope="module")
def blind_prior(posterior):
    return FlowPrior("blind", posterior, BODY25, blind=True)


def test_the_blind_prior_ignores_what_is_seen(blind_prior, crowd, body, posterior):
    problem = crowd.problem
    blind = tell(blind_prior, problem, body)
    assert blind.start() is None
    assert blind.name == "blind"
    torch.testing.assert_close(blind.context, blind.context[:1].expand(4, -1))
    other = blind_prior.given(
        BODY25, 3 * problem.keypoints + 50, problem.confidence.flip(0), problem.camera, body
    )
    torch.testing.assert_close(other.context, blind.context)
    none = posterior.condition(
        problem.keypoints, torch.zeros_like(problem.confidence), problem.camera
    )
    torch.testing.assert_close(blind.context, none)
    assert blind.rows(torch.tensor([1])).start() is None
    assert blind.modes().rotations.shape == (1, 24, 3, 3)


def test_people_fitted_with_the_blind_prior(blind_prior, crowd, body):
    found = fit_people(crowd.problem, body, tell(blind_prior, crowd.problem, body), FLOW)
    assert found.joints3d.isfinite().all()
    assert (sum(found.energy.values()) <= found.start_energy).all()


# --- fitted ---


def fit(flow_prior, problem, body):
    return fit_people(problem, body, tell(flow_prior, problem, body), FLOW)


@pytest.fixture(scope="module")
def together(flow_prior, crowd, body):
    return fit(flow_prior, crowd.problem, body)


def assert_same(got, expected, rows):
    """People `rows` of `expected` are those of `got`, in order."""
    for name in ("rotations", "betas", "transl", "joints3d", "keypoint_sd", "quality"):
        torch.testing.assert_close(
            getattr(got, name), getattr(expected, name)[rows], rtol=1e-6, atol=1e-6
        )
    assert got.status == tuple(expected.status[r] for r in rows)
    assert torch.equal(got.iterations, expected.iterations[rows])


def test_the_flow_recipe_explains_the_keypoints(together, crowd, body):
    assert (sum(together.energy.values()) <= together.start_energy).all()
    assert (sum(together.energy.values()) < 0.9 * together.start_energy).all()
    assert (together.recipe, together.prior) == ("flow", "tiny")
    assert Status.INVALID not in together.status
    for name in ("rotations", "betas", "transl", "joints3d", "keypoint_sd", "quality"):
        assert getattr(together, name).isfinite().all(), name
    assert set(together.energy) == {"reprojection", "latent"}
    assert (together.transl[:, 2] > 0).all()


def test_people_alone(flow_prior, crowd, body, together):
    for person in range(4):
        row = torch.tensor([person])
        assert_same(fit(flow_prior, crowd.problem.rows(row), body), together, [person])


def test_people_in_another_order(flow_prior, crowd, body, together):
    order = [3, 0, 2, 2, 1]
    problem = crowd.problem.rows(torch.tensor(order))
    assert_same(fit(flow_prior, problem, body), together, order)


def test_people_beside_somebody_impossible(flow_prior, crowd, body, together):
    problem = crowd.problem
    keypoints = problem.keypoints.clone()
    keypoints[1] = torch.nan
    got = fit(flow_prior, replace(problem, keypoints=keypoints), body)
    assert got.status[1] is Status.INVALID
    others = [0, 2, 3]
    for name in ("rotations", "betas", "transl", "joints3d", "keypoint_sd"):
        torch.testing.assert_close(
            getattr(got, name)[others], getattr(together, name)[others], rtol=1e-6, atol=1e-6
        )
    assert [got.status[k] for k in others] == [together.status[k] for k in others]


def test_nobody_seen_stays_the_mode(flow_prior, crowd, body):
    problem = crowd.problem
    none = FitProblem.build(
        BODY25, problem.keypoints, torch.zeros_like(problem.confidence), problem.camera
    )
    given = tell(flow_prior, none, body)
    found = fit_people(none, body, given, FLOW)
    assert Status.INVALID not in found.status
    pose = given.decode(given.start().latent)
    torch.testing.assert_close(found.rotations, pose.rotations)
    assert found.joints3d.isfinite().all()


def test_single_precision(body, crowd, together):
    single = body.to(dtype=torch.float32)
    problem = crowd.problem
    small = FitProblem.build(
        BODY25,
        problem.keypoints.float(),
        problem.confidence.float(),
        problem.camera.to(dtype=torch.float32),
    )
    posterior = make_posterior(body.num_betas, dtype=torch.float32)
    found = fit(FlowPrior("tiny", posterior, BODY25), small, single)
    assert found.rotations.dtype == torch.float32
    energy, expected = sum(found.energy.values()), sum(together.energy.values())
    torch.testing.assert_close(energy.double(), expected, rtol=0.05, atol=0.5)
