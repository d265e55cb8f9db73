"""ProHMR's released layout, from a tiny file with an image network, as a prior."""

import math

import numpy as np
import pytest
import torch

from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.kinematics import joint_index
from flowfit.priors.base import Pose
from flowfit.priors.data.pictures.crops import crop_box, cut, turn_to_crop
from flowfit.priors.image.prohmr_prior import normalised, translation
from flowfit.priors.image.shown import show
from flowfit.priors.load import load
from flowfit.priors.networks.encoders import Boxes
from tests.picture_posteriors import write_prohmr_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_prohmr_checkpoint(tmp_path_factory.mktemp("seed"))


@pytest.fixture(scope="module")
def seed(checkpoint):
    return load(str(checkpoint), dtype=torch.float64)


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(4)]


def test_it_sees_the_normalised_crop(seed, pictures, make_crowd, body):
    problem = make_crowd(4).problem
    given = tell(show(seed, pictures), problem, body)
    box = crop_box(problem.keypoints, problem.confidence)
    crop = cut(pictures[2], box.center[2].numpy(), float(box.side[2]), 224)
    image = torch.from_numpy(crop).double().permute(2, 0, 1)[None] / 255
    mean = torch.tensor([0.485, 0.456, 0.406])
    assert torch.allclose(
        normalised(image)[0, :, 5, 7],
        (image[0, :, 5, 7] - mean) / torch.tensor([0.229, 0.224, 0.225]),
    )
    with torch.no_grad():
        vectors, betas, _ = seed.posterior(normalised(image))
    start = given.start()
    mode = given.decode(start.latent)
    assert torch.allclose(start.latent[2, -10:], betas[0])
    six = vectors.view(24, 2, 3)
    assert torch.allclose(
        mode.rotations[2, 1:, :, 0], torch.nn.functional.normalize(six[1:, 0], dim=-1)
    )
    assert torch.allclose(mode.betas[2], betas[0])


def test_with_the_original_camera_the_place_is_the_originals(body):
    """Its full-frame fitting: depth 2 f / (side s), aside tx + (box - middle) depth / f."""
    numbers = torch.tensor([[0.9, 0.1, -0.2]], dtype=torch.float64)
    box = Boxes(torch.tensor([[400.0, 260.0]]).double(), torch.tensor([300.0]).double())
    middle = torch.tensor([[320.0, 240.0]]).double()
    camera = Camera(torch.full((1, 2), 5000.0).double(), middle)
    turn = turn_to_crop(box, camera)
    betas = torch.zeros(1, 10, dtype=torch.float64)
    place = translation(numbers, betas, box, camera, turn, body)[0]
    depth = 2 * 5000 / (300 * 0.9)
    wanted = [0.1 + 80 * depth / 5000, -0.2 + 20 * depth / 5000, depth]
    assert torch.allclose(place, torch.tensor(wanted).double(), atol=6e-3)


def test_a_body_aside_looks_the_same_in_its_crop(body):
    """Seen by a wide camera far from the middle, the crop shows what a camera ahead would."""
    rotations = torch.eye(3).double().repeat(1, 24, 1, 1)
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1, -1]).double())
    betas = torch.zeros(1, 10).double()
    side = torch.tensor([200.0]).double()
    camera = Camera(torch.full((1, 2), 500.0).double(), torch.tensor([[320.0, 240.0]]).double())
    numbers = torch.tensor([[0.6, 0.0, 0.0]]).double()
    seen = []
    for center in ([[320.0, 240.0]], [[600.0, 240.0]]):
        box = Boxes(torch.tensor(center).double(), side)
        turn = turn_to_crop(box, camera)
        turned = rotations.clone()
        turned[:, 0] = turn @ rotations[:, 0]
        place = translation(numbers, betas, box, camera, turn, body)
        points = body.joints(betas, turned, place)
        # as seen from a camera that looks at the body: the rays between joints and pelvis
        ahead = turn.transpose(-1, -2) @ points.transpose(-1, -2)
        plane = (ahead[:, :2] / ahead[:, 2:]).transpose(-1, -2)
        seen.append(plane / (plane[:, :1] - plane[:, joint_index("head")]).norm())
    assert torch.allclose(seen[0], seen[1], atol=0.02)


def test_turn_to_crop_is_a_rotation_to_the_ray():
    box = Boxes(torch.tensor([[100.0, 400.0]]).double(), torch.tensor([50.0]).double())
    camera = Camera(torch.full((1, 2), 300.0).double(), torch.tensor([[320.0, 240.0]]).double())
    turn = turn_to_crop(box, camera)[0]
    ray = torch.tensor([-220.0 / 300, 160.0 / 300, 1.0]).double()
    assert torch.allclose(turn[:, 2], ray / ray.norm())
    assert torch.allclose(turn @ turn.T, torch.eye(3).double())
    assert turn.det() == pytest.approx(1)


def test_encode_undoes_decode(seed, pictures, make_crowd, body):
    crowd = make_crowd(4)
    given = tell(show(seed, pictures), crowd.problem, body)
    latent = given.start().latent + 0.1
    pose = given.decode(latent)
    assert torch.allclose(given.encode(pose)[:, -10:], latent[:, -10:])
    again = given.decode(given.encode(Pose(crowd.rotations, crowd.betas)))
    assert torch.allclose(again.rotations, crowd.rotations, atol=1e-9)


def test_derivatives_agree_with_differences(seed, pictures, make_crowd, body):
    given = tell(show(seed, pictures), make_crowd(4).problem, body)
    latent = given.start().latent + 0.05
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(4, 5, 82, generator=generator, dtype=torch.float64)
    pose, pull_back = given.linearize(latent)
    by_step = pull_back(rows)
    step = 1e-6 * torch.randn(latent.shape, generator=generator, dtype=torch.float64)
    ahead, behind = given.decode(given.move(latent, step)), given.decode(given.move(latent, -step))
    turned = (ahead.rotations - behind.rotations) / 2 @ pose.rotations.transpose(-1, -2)
    by_pose = torch.stack((turned[..., 2, 1], turned[..., 0, 2], turned[..., 1, 0]), -1)
    moved = torch.cat((by_pose.flatten(1), (ahead.betas - behind.betas) / 2), -1)
    assert torch.allclose(
        (rows @ moved[..., None])[..., 0], (by_step @ step[..., None])[..., 0], rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("recipe", ["flow", "prohmr", "regression"])
def test_people_are_fitted_independently(seed, pictures, make_crowd, body, recipe):
    crowd = make_crowd(4, noise=1.0)
    model = show(seed, pictures)
    together = fit_seen(crowd.problem, body, model, RECIPES[recipe])
    assert together.prior == "checkpoint"
    order = torch.tensor([2, 0])
    some = fit_seen(crowd.problem.rows(order), body, model.rows(order), RECIPES[recipe])
    assert torch.allclose(some.joints3d, together.joints3d[order], atol=1e-5)
    assert all(math.isfinite(e) for e in together.energy["latent"].tolist())
    assert (together.energy["shape"] >= 0).all()
    if recipe != "regression":
        assert (sum(together.energy.values()) < together.start_energy).all()


def test_it_wants_a_picture(seed, make_crowd, body):
    with pytest.raises(InputError, match="give the picture"):
        show(seed, None)
    with pytest.raises(InputError, match="none was given"):
        tell(seed, make_crowd(1).problem, body)


def test_what_is_no_image_model_is_told(shared):
    for name, lack in (("smpl_flow_small.pt", "image network"), ("skeleton_flow_small.pt", "no")):
        with pytest.raises(InputError, match=lack):
            load(str(shared / "compat" / name))


def test_smplify_wants_a_mixture(checkpoint):
    with pytest.raises(InputError, match="need a mixture"):
        load(str(checkpoint), bending=True)
