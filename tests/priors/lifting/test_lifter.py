"""The lifting posterior: shapes, frames, independence, its inverse, and its standardisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import (
    BODY25,
    COCO17,
    H36M17,
    HALPE26,
    LSP14,
    PROHMR44,
    SCHEMAS,
    SMPL24,
)
from flowfit.priors.image.prohmr import read_prohmr
from flowfit.priors.lifting.files import load_lifter, save_lifter
from flowfit.priors.lifting.input import FACE, JOINTS, WITH_FACE, to_joints
from flowfit.priors.lifting.lifter import NUMBERS, Lifter, MartinezEncoder

SMALL = {"context": 12, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}
SEED = {
    "schema": "h36m17",
    "encoder": "martinez",
    **{"context": 16, "width": 16, "hidden": 16, "steps": 4, "depth": 2},
    **{"dropout": 0.5, "batch_norm": True, "conditional_scale": False, "activation": "relu"},
}


def people(count, seed=0, keypoints=22):
    """Random skeletons: pixels, confidences (some 0), a camera each, joints in metres."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    pixels = 300 + 80 * normal(keypoints, 2)
    confidence = torch.rand(count, keypoints, generator=generator, dtype=torch.float64)
    confidence = torch.where(confidence < 0.2, 0, confidence)
    focal = (700 + 30 * normal(1)).expand(-1, 2)
    joints = 0.4 * normal(17, 3)
    joints = joints - joints[:, :1]
    return pixels, confidence, Camera(focal, torch.full((count, 2), 320.0).double()), joints


@pytest.fixture(params=["fast", "seed"])
def lifter(request):
    """A small lifter with random weights and statistics, in evaluation mode."""
    torch.manual_seed(3)
    made = Lifter(**(SMALL if request.param == "fast" else SEED)).double()
    pixels, confidence, camera, joints = people(200, 9, len(made.schema))
    made.standardise(pixels, confidence, joints)
    made.train()
    for _ in range(3):  # batch norms and ActNorms take their statistics
        made.log_prob(joints, made.condition(pixels, confidence, camera))
    return made.eval().requires_grad_(False)


def lift(lifter, pixels, confidence, camera, noise):
    context = lifter.condition(pixels, confidence, camera)
    mode, drawn = lifter.mode(context), lifter.sample(context, noise)
    return torch.cat((mode.joints, drawn.joints), 1), torch.cat((mode.log_prob, drawn.log_prob), 1)


def test_shapes_and_the_root(lifter):
    pixels, confidence, camera, _ = people(5, keypoints=len(lifter.schema))
    noise = torch.randn(3, NUMBERS, generator=torch.Generator().manual_seed(0)).double()
    joints, log_prob = lift(lifter, pixels, confidence, camera, noise)
    assert joints.shape == (5, 4, 17, 3)
    assert log_prob.shape == (5, 4)
    assert (joints[:, :, JOINTS.index("MidHip")] == 0).all()
    assert (joints.abs().amax((-1, -2)) > 0.05).all()


def test_samples_go_back_to_their_noise(lifter):
    pixels, confidence, camera, _ = people(4, keypoints=len(lifter.schema))
    context = lifter.condition(pixels, confidence, camera)
    noise = torch.randn(4, 6, NUMBERS, generator=torch.Generator().manual_seed(1)).double()
    drawn = lifter.sample(context, noise)
    density = lifter.flow.encode(lifter.numbers(drawn.joints), context)
    torch.testing.assert_close(density.latent, noise, rtol=0, atol=1e-9)
    again = lifter.log_prob(drawn.joints, context)
    torch.testing.assert_close(again, drawn.log_prob, rtol=0, atol=1e-8)


def test_the_density_is_over_metres(lifter):
    """log p(x) = log p(z) + log |dz/dx|, with the Jacobian by the joints in metres."""
    pixels, confidence, camera, joints = people(1, 5, len(lifter.schema))
    context = lifter.condition(pixels, confidence, camera)

    def latent(sixteen):
        whole = torch.cat((sixteen.new_zeros(1, 3), sixteen.reshape(16, 3)))
        return lifter.flow.encode(lifter.numbers(whole[None]), context).latent[0]

    x = joints[0, 1:].reshape(-1)
    jacobian = torch.autograd.functional.jacobian(latent, x)
    z = latent(x)
    expected = -0.5 * (z @ z + NUMBERS * math.log(2 * math.pi)) + torch.linalg.slogdet(jacobian)[1]
    assert lifter.log_prob(joints, context)[0].item() == pytest.approx(expected.item(), abs=1e-8)


def test_where_the_root_is_makes_no_difference(lifter):
    pixels, confidence, camera, joints = people(3, keypoints=len(lifter.schema))
    context = lifter.condition(pixels, confidence, camera)
    torch.testing.assert_close(
        lifter.log_prob(joints + 5.0, context), lifter.log_prob(joints, context)
    )


def test_a_person_alone_is_as_in_company(lifter):
    pixels, confidence, camera, _ = people(6, keypoints=len(lifter.schema))
    noise = torch.randn(2, NUMBERS, generator=torch.Generator().manual_seed(2)).double()
    before = pixels.clone(), confidence.clone()
    whole = lift(lifter, pixels, confidence, camera, noise)
    assert torch.equal(pixels, before[0])
    assert torch.equal(confidence, before[1])
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    turned = lift(lifter, pixels[order], confidence[order], camera.rows(order), noise)
    for one, other in zip(whole, turned, strict=True):
        torch.testing.assert_close(one[order], other, rtol=0, atol=1e-11)
    for row in range(6):
        only = torch.tensor([row])
        alone = lift(lifter, pixels[only], confidence[only], camera.rows(only), noise)
        for one, other in zip(whole, alone, strict=True):
            torch.testing.assert_close(one[only], other, rtol=0, atol=1e-11)
    broken = pixels.clone()
    broken[2] = torch.nan
    beside = lift(lifter, broken, confidence, camera, noise)
    kept = torch.tensor([0, 1, 3, 4, 5])
    for one, other in zip(whole, beside, strict=True):
        torch.testing.assert_close(one[kept], other[kept], rtol=0, atol=1e-11)


def test_where_a_missing_joint_was_written_makes_no_difference(lifter):
    pixels, confidence, camera, _ = people(4, keypoints=len(lifter.schema))
    noise = torch.zeros(1, NUMBERS).double()
    moved = torch.where((confidence > 0)[..., None], pixels, 9e5)
    assert not torch.equal(moved, pixels)
    for one, other in zip(
        lift(lifter, pixels, confidence, camera, noise),
        lift(lifter, moved, confidence, camera, noise),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_the_same_person_larger_and_elsewhere_looks_the_same_to_prohmrs_encoder():
    encoder = MartinezEncoder(17, 8).double().eval()
    pixels, confidence, camera, _ = people(3, keypoints=17)
    encoder.standardise(pixels, confidence)
    torch.testing.assert_close(
        encoder(pixels, confidence, camera), encoder(3 * pixels + 40, confidence, camera)
    )


def test_standardisation_agrees_with_numpy():
    made = Lifter(**SEED).double()
    pixels, confidence, _, joints = people(50, keypoints=17)
    made.standardise(pixels, confidence, joints)
    numbers = joints[:, 1:].reshape(50, -1).numpy()
    np.testing.assert_allclose(made.mean, numbers.mean(0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(made.spread, numbers.std(0, ddof=1), rtol=0, atol=1e-12)
    places = np.full((50, 17, 2), np.nan)
    for row in range(50):
        seen = confidence[row].numpy() > 0
        xy = pixels[row].numpy()[seen]
        low, high = xy.min(0), xy.max(0)
        places[row, seen] = 2 * (xy - (low + high) / 2) / (high - low).max()
    np.testing.assert_allclose(made.encoder.mean, np.nanmean(places, 0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(made.encoder.spread, np.nanstd(places, 0), rtol=0, atol=1e-12)


def test_the_papers_sizes():
    """ProHMR's encoder: 34 inputs, 5 layers of 1,024; its flow: 48 numbers, 4 steps of 1,024."""
    from flowfit.priors.training.lifting_config import PAPER

    paper = Lifter(**PAPER.sizes)
    linears = [m for m in paper.encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(34, 1024)] + 4 * [(1024, 1024)]
    norms = [m for m in paper.encoder.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    drops = [m for m in paper.encoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert (len(norms), len(drops), {m.p for m in drops}) == (5, 5, {0.5})
    assert paper.flow.features == 48
    assert len(paper.flow.steps) == 4
    net = paper.flow.steps[0][2].transform_net
    assert (net.initial_layer.in_features, net.initial_layer.out_features) == (24 + 1024, 1024)
    assert len(net.blocks) == 2
    assert paper.flow.log_scale is None
    losses = PAPER.losses
    assert (losses.nll, losses.mode_3d) == (0.001, 1.0)
    assert (PAPER.rate, PAPER.batch, PAPER.steps, PAPER.weight_decay) == (1e-4, 64, 300_000, 0)


def test_the_released_layout_is_the_same_flow(shared):
    """A lifter's flow of the released sizes takes the released weights, and agrees to 1e-4."""
    folder = shared / "compat"
    released = read_prohmr(folder / "skeleton_flow_small.pt")
    sizes = SEED | {k: released.sizes[k] for k in ("context", "hidden", "steps", "blocks")}
    made = Lifter(**(sizes | {"width": sizes["context"]}))
    made.flow.load_state_dict(released.posterior.flow.state_dict())
    made.eval()
    with np.load(folder / "skeleton_flow_small_io.npz") as data:
        reference = {k: torch.from_numpy(data[k]) for k in data.files}
    drawn = made.skeletons(reference["z"], reference["feats"])
    got = drawn.joints[:, :, 1:].flatten(-2)
    torch.testing.assert_close(got, reference["pose6d"], atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn.log_prob, reference["log_prob"], atol=1e-4, rtol=1e-5)
    theta = torch.nn.functional.pad(reference["theta"].unflatten(-1, (16, 3)), (0, 0, 1, 0))
    density = made.log_prob(theta, reference["feats"])
    torch.testing.assert_close(density, reference["theta_log_prob"], atol=1e-4, rtol=1e-5)


# --- what the network is told ---


def one(schema, **places):
    """A person of whom the named keypoints were seen."""
    points, confidence = torch.full((1, len(schema), 2), 77.0), torch.zeros(1, len(schema))
    for name, (x, y, c) in places.items():
        index = schema.index(name.replace("lsp_", "lsp:"))
        points[0, index], confidence[0, index] = torch.tensor([x, y]), c
    return points, confidence


def told(schema, wanted=WITH_FACE, **places):
    points, confidence = to_joints(schema, wanted, *one(schema, **places))
    return {
        name: (*points[0, i].tolist(), round(confidence[0, i].item(), 6))
        for i, name in enumerate(wanted.names)
        if confidence[0, i] > 0
    }


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_gives_the_limbs_by_name(name):
    schema = SCHEMAS[name]
    points = torch.arange(2.0 * len(schema)).reshape(1, -1, 2)
    moved, trust = to_joints(schema, JOINTS, points, torch.ones(1, len(schema)))
    for joint in ("Knee", "Ankle", "Elbow", "Wrist", "Shoulder", "Hip"):
        for letter, side in (("L", "left"), ("R", "right")):
            names = (letter + joint, f"{side}_{joint.lower()}", f"lsp:{letter}{joint}")
            here = next(name for name in names if name in schema)
            place = JOINTS.index(letter + joint)
            assert trust[0, place] == 1
            assert torch.equal(moved[0, place], points[0, schema.index(here)])
    assert trust[0, JOINTS.index("MidHip")] == 1


def test_the_middle_is_made_where_both_ends_were_seen():
    both = told(COCO17, LShoulder=(10, 20, 0.5), RShoulder=(30, 40, 0.9))
    assert both["Thorax"] == (20, 30, 0.5)
    assert "MidHip" not in both
    assert set(told(COCO17, LShoulder=(10, 20, 0.5))) == {"LShoulder"}


def test_a_detectors_neck_stands_for_the_thorax_when_a_shoulder_is_missing():
    got = told(BODY25, Neck=(5, 6, 0.7), LShoulder=(10, 20, 0.5))
    assert got["Thorax"] == pytest.approx((5, 6, 0.7))


def test_own_joints_come_before_made_ones():
    got = told(BODY25, MidHip=(1, 2, 0.5), LHip=(10, 20, 1), RHip=(30, 40, 1))
    assert got["MidHip"] == (1, 2, 0.5)
    assert told(HALPE26, HeadTop=(3, 4, 0.5))["HeadTop"] == (3, 4, 0.5)
    assert told(SMPL24, pelvis=(3, 4, 0.5), spine2=(5, 6, 1)) == {
        "MidHip": (3, 4, 0.5),
        "Spine": (5, 6, 1),
    }


def test_other_data_sets_twins_stand_in():
    got = told(PROHMR44, JOINTS, lsp_LKnee=(3, 4, 1), Pelvis=(5, 6, 1))
    assert got == {"LKnee": (3, 4, 1), "MidHip": (5, 6, 1)}
    both = told(PROHMR44, JOINTS, lsp_LKnee=(3, 4, 1), LKnee=(7, 8, 0.5))
    assert both == {"LKnee": (7, 8, 0.5)}


def test_the_face_is_told_where_there_is_one():
    got = told(COCO17, **{name: (1, 2, 0.5) for name in FACE})
    assert set(got) == set(FACE)
    assert told(COCO17, JOINTS, Nose=(1, 2, 0.5)) == {}
    assert told(H36M17, Jaw=(1, 2, 0.5)) == {"Jaw": (1, 2, 0.5)}
    assert "LKnee" in told(LSP14, LKnee=(1, 2, 0.5))


# --- files ---


def test_a_file_gives_the_same_lifter(lifter, tmp_path):
    path = tmp_path / "a.safetensors"
    sizes = SEED if lifter.schema is H36M17 else SMALL
    save_lifter(path, lifter, sizes, {"credit": "for the test"})
    opened, about = load_lifter(path, dtype=torch.float64)
    assert about["credit"] == "for the test"
    assert about["sizes"]["steps"] == sizes["steps"]
    pixels, confidence, camera, _ = people(4, keypoints=len(lifter.schema))
    noise = torch.zeros(1, NUMBERS).double()
    for one, other in zip(
        lift(lifter, pixels, confidence, camera, noise),
        lift(opened, pixels, confidence, camera, noise),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("missing", "no lifter"),
        ("json", "no such file"),
        ("kind", "does not describe"),
        ("sizes", "do not build|no lifting"),
        ("cut", "safetensors"),
        ("other", "shape"),
    ],
)
def test_what_is_no_lifter_is_refused(tmp_path, damage, word):
    path = tmp_path / "a.safetensors"
    save_lifter(path, Lifter(**SMALL), SMALL, {})
    beside = path.with_suffix(".json")
    if damage == "missing":
        path.unlink()
    elif damage == "json":
        beside.unlink()
    elif damage == "kind":
        beside.write_text('{"format": "flowfit-keypoint-posterior", "version": 1}')
    elif damage == "sizes":
        beside.write_text(beside.read_text().replace('"keypoints"', '"transformer"'))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    else:
        beside.write_text(beside.read_text().replace('"hidden": 16', '"hidden": 24'))
    with pytest.raises(InputError, match=word) as caught:
        load_lifter(path)
    assert "\n" not in str(caught.value)
