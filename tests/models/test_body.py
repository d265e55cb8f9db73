from __future__ import annotations

import numpy as np
import pytest
import smplx
import torch
from smplx.utils import Struct

from flowfit.models.body_files import read_body_file
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.keypoints import BODY25, PROHMR44, SCHEMAS, SMPL24, VERTEX_LANDMARKS
from flowfit.models.rotations import axis_angle_to_matrix, retract
from tests.references.body_twin import twin_body
from tests.synthetic_smpl import dense, synthetic_smpl, write_npz


@pytest.fixture(scope="module")
def model():
    return dense(synthetic_smpl(100, seed=3))


@pytest.fixture(scope="module")
def body(model, tmp_path_factory):
    path = write_npz(tmp_path_factory.mktemp("body") / "body.npz", model)
    return read_body_file(path, dtype=torch.float64)


def person(*batch, seed=0, angle=0.7):
    """betas, axis-angles (..., 24, 3), translation."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    return 2 * normal(10), angle * normal(24, 3), normal(3)


def test_equals_the_twin(body, model):
    for seed in range(2):
        betas, axis_angle, transl = person(seed=seed)
        rotations = axis_angle_to_matrix(axis_angle)
        vertices, joints = twin_body(model, betas.numpy(), rotations.numpy(), transl.numpy())
        got = body.vertices(betas, rotations, transl)
        np.testing.assert_allclose(got.numpy(), vertices, rtol=0, atol=1e-10)
        got = body.joints(betas, rotations, transl)
        np.testing.assert_allclose(got.numpy(), joints, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_equals_smplx(tmp_path, dtype, tolerance):
    model = dense(synthetic_smpl(6890, 300, seed=1, landmarks=None))
    ours = read_body_file(write_npz(tmp_path / "a.npz", model), dtype=dtype)
    theirs = smplx.SMPL(None, data_struct=Struct(**model), dtype=dtype, create_transl=False)
    betas, axis_angle, transl = (x.to(dtype) for x in person(3))
    flat = axis_angle.flatten(1)
    with torch.no_grad():
        expected = theirs(betas=betas, global_orient=flat[:, :3], body_pose=flat[:, 3:])
    rotations = axis_angle_to_matrix(axis_angle)
    vertices = ours.vertices(betas, rotations)
    joints = ours.joints(betas, rotations)
    assert (vertices - expected.vertices).abs().max() < tolerance
    assert (joints - expected.joints[:, :24]).abs().max() < tolerance
    moved = ours.vertices(betas, rotations, transl)
    torch.testing.assert_close(moved, vertices + transl[:, None])
    # smplx appends nose, eyes, ears, toes, heels, fingertips after the joints, nose first
    nose = ours.keypoints(betas, rotations, BODY25)[:, BODY25.index("Nose")]
    assert (nose - expected.joints[:, 24]).abs().max() < tolerance


def test_pose_blend_shapes_matter(body):
    betas, axis_angle, _ = person()
    rotations = axis_angle_to_matrix(axis_angle)
    plain = body.surface.template + torch.einsum("s,vcs->vc", betas, body.surface.shape_directions)
    assert (body.surface.unposed(betas, rotations) - plain).abs().max() > 0.01


def test_rest_pose_is_the_template(body):
    eye = torch.eye(3, dtype=torch.float64).expand(24, 3, 3)
    zero = torch.zeros(10, dtype=torch.float64)
    torch.testing.assert_close(body.vertices(zero, eye), body.surface.template)
    torch.testing.assert_close(body.joints(zero, eye), body.joint_template)


def test_some_vertices_equal_all(body):
    betas, axis_angle, transl = person(2)
    rotations = axis_angle_to_matrix(axis_angle)
    ids = torch.tensor([7, 3, 99, 3])
    some = body.vertices(betas, rotations, transl, ids)
    torch.testing.assert_close(some, body.vertices(betas, rotations, transl)[:, ids])


# by hand, from the published tables: SMPL joint number, or vertex landmark
BODY25_POINTS = {
    "Nose": "nose",
    "Neck": 12,
    "RShoulder": 17,
    "RElbow": 19,
    "RWrist": 21,
    "LShoulder": 16,
    "LElbow": 18,
    "LWrist": 20,
    "MidHip": 0,
    "RHip": 2,
    "RKnee": 5,
    "RAnkle": 8,
    "LHip": 1,
    "LKnee": 4,
    "LAnkle": 7,
    "REye": "reye",
    "LEye": "leye",
    "REar": "rear",
    "LEar": "lear",
    "LBigToe": "LBigToe",
    "LSmallToe": "LSmallToe",
    "LHeel": "LHeel",
    "RBigToe": "RBigToe",
    "RSmallToe": "RSmallToe",
    "RHeel": "RHeel",
}


def test_keypoints_picked_by_hand(body, model):
    betas, axis_angle, transl = person(2)
    rotations = axis_angle_to_matrix(axis_angle)
    joints = body.joints(betas, rotations, transl)
    vertices = body.vertices(betas, rotations, transl)
    ids = dict(zip(model["keypoint_names"], model["keypoint_vertex_ids"], strict=True))
    expected = torch.stack(
        [
            joints[:, point] if isinstance(point, int) else vertices[:, ids[point]]
            for point in BODY25_POINTS.values()
        ],
        1,
    )
    got = body.keypoints(betas, rotations, BODY25, transl)
    torch.testing.assert_close(got, expected)
    assert list(BODY25_POINTS) == list(BODY25.names)
    torch.testing.assert_close(body.keypoints(betas, rotations, SMPL24, transl), joints)
    thorax = body.keypoints(betas, rotations, PROHMR44, transl)[:, PROHMR44.index("Thorax")]
    torch.testing.assert_close(thorax, joints[:, [16, 17]].mean(1))


def test_keypoints_that_the_body_lacks_are_nan(tmp_path):
    lacking = [n for n in VERTEX_LANDMARKS if n not in ("LHeel", "nose")]
    model = synthetic_smpl(60, landmarks=lacking)
    body = read_body_file(write_npz(tmp_path / "a.npz", model))
    betas, axis_angle, _ = (x.float() for x in person(2))
    points = body.keypoints(betas, axis_angle_to_matrix(axis_angle), PROHMR44)
    absent = [n for n, p in zip(PROHMR44.names, points[0], strict=True) if p.isnan().any()]
    assert absent == ["Nose", "LHeel", "Jaw"]
    assert [
        n
        for n, there in zip(PROHMR44.names, body.keypoint_model(PROHMR44).available, strict=True)
        if not there
    ] == absent


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_gradient_of_a_lacking_keypoint_is_finite(body, schema):
    betas, axis_angle, _ = person(2)
    betas.requires_grad_()
    points = body.keypoints(betas, axis_angle_to_matrix(axis_angle), schema)
    there = body.keypoint_model(schema).available
    points[:, there].sum().backward()
    assert betas.grad.isfinite().all()


def test_gradients(body):
    betas, axis_angle, transl = (x.requires_grad_() for x in person())
    with torch.no_grad():
        axis_angle[3] = 0  # the smooth point that is easily got wrong

    def keypoints(betas, axis_angle, transl):
        return body.keypoints(betas, axis_angle_to_matrix(axis_angle), BODY25, transl)

    assert torch.autograd.gradcheck(keypoints, (betas, axis_angle, transl))


def test_jacobian_equals_autograd(body):
    betas, axis_angle, _ = person(2)
    rotations = axis_angle_to_matrix(axis_angle)
    keypoint_model = body.keypoint_model(BODY25)
    got = keypoints_with_jacobian(body, keypoint_model, betas, rotations)
    torch.testing.assert_close(got.points, body.keypoints(betas, rotations, BODY25))
    zero = torch.zeros(2, 24, 3, dtype=torch.float64)

    def keypoints(betas, step):
        return body.keypoints(betas, retract(rotations, step), BODY25).sum(0)

    by_betas, by_step = torch.autograd.functional.jacobian(keypoints, (betas, zero))
    torch.testing.assert_close(got.by_betas, by_betas.permute(2, 0, 1, 3))
    torch.testing.assert_close(got.by_rotation, by_step.permute(2, 0, 1, 3, 4).flatten(3))


def test_free_leading_axes(body):
    betas, axis_angle, transl = person(2, 3)
    rotations = axis_angle_to_matrix(axis_angle)
    for function in (
        body.joints,
        body.vertices,
        lambda b, r, t: body.keypoints(b, r, BODY25, t),
    ):
        whole = function(betas, rotations, transl)
        for i in range(2):
            for j in range(3):
                one = function(betas[i, j], rotations[i, j], transl[i, j])
                torch.testing.assert_close(whole[i, j], one)
        shared = function(betas[0, 0], rotations, transl)  # one shape for all poses
        torch.testing.assert_close(
            shared[1, 2], function(betas[0, 0], *(rotations[1, 2],), transl[1, 2])
        )
        posed = function(betas, rotations[0, 0], transl)  # one pose for all shapes
        torch.testing.assert_close(
            posed[1, 2], function(betas[1, 2], rotations[0, 0], transl[1, 2])
        )


def test_empty_batch(body):
    betas, axis_angle, transl = person(0)
    rotations = axis_angle_to_matrix(axis_angle)
    assert body.keypoints(betas, rotations, BODY25, transl).shape == (0, 25, 3)
    assert body.vertices(betas, rotations, transl).shape == (0, 100, 3)


def test_inputs_are_not_changed(body):
    betas, axis_angle, transl = person(2)
    inputs = betas, axis_angle_to_matrix(axis_angle), transl
    before = [x.clone() for x in inputs]
    state = [body.surface.template.clone(), body.joint_template.clone()]
    betas, rotations, transl = inputs
    body.joints(betas, rotations, transl)
    body.vertices(betas, rotations, transl)
    body.keypoints(betas, rotations, BODY25, transl)
    keypoints_with_jacobian(body, body.keypoint_model(BODY25), betas, rotations)
    for now, then in zip(inputs, before, strict=True):
        assert torch.equal(now, then)
    assert torch.equal(body.surface.template, state[0])
    assert torch.equal(body.joint_template, state[1])


def test_a_row_of_nan_does_not_touch_the_others(body):
    betas, axis_angle, transl = person(3)
    rotations = axis_angle_to_matrix(axis_angle)
    for broken in range(3):
        inputs = [betas.clone(), rotations.clone(), transl.clone()]
        inputs[broken][1] = torch.nan
        for got, clean in (
            (body.vertices(*inputs), body.vertices(betas, rotations, transl)),
            (
                body.keypoints(inputs[0], inputs[1], BODY25, inputs[2]),
                body.keypoints(betas, rotations, BODY25, transl),
            ),
        ):
            torch.testing.assert_close(got[[0, 2]], clean[[0, 2]], rtol=0, atol=0)
            assert got[1].isnan().any()


def test_to_converts_everything(body):
    single = body.to(dtype=torch.float32)
    betas, axis_angle, _ = person(2)
    rotations = axis_angle_to_matrix(axis_angle)
    body.keypoints(betas, rotations, BODY25)  # a kept model must not follow into float32
    points = single.keypoints(betas.float(), rotations.float(), BODY25)
    assert points.dtype == torch.float32
    assert single.faces.dtype == torch.int64
    assert body.dtype == torch.float64
    expected = body.keypoints(betas, rotations, BODY25)
    torch.testing.assert_close(points.double(), expected, rtol=0, atol=1e-5)
