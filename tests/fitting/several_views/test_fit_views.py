from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.several_views.fit_views import fit_views
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import VIEWS
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import pa_mpjpe
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.load import load
from tests.synthetic_views import make_views

FRAMES, VIEWS_SEEN = 3, 3


@pytest.fixture(scope="module")
def flow():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def scene(body, prior):
    return make_views(body, prior, FRAMES, VIEWS_SEEN)


@pytest.fixture(scope="module")
def known(scene, body, flow):
    return fit_views(scene.problem, body, flow)


@pytest.fixture(scope="module")
def unknown(scene, body, flow):
    return fit_views(replace(scene.problem, rig=None), body, flow)


def assert_same(got, expected, rows, among):
    """Frames `among` of one result are the frames `rows` of the other."""
    for name in ("rotations", "betas", "transl", "view_orient", "view_transl", "joints3d_world"):
        one, other = getattr(got, name)[among], getattr(expected, name)[rows]
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, equal_nan=True)
    assert [got.status[i] for i in among] == [expected.status[i] for i in rows]
    assert torch.equal(got.iterations[among], expected.iterations[rows])


# --- how good ---


def test_a_known_rig_gives_the_body_in_the_world(scene, known):
    off = (known.joints3d_world - scene.joints).norm(dim=-1)
    assert off.mean() < 0.04
    assert known.reprojection_px.max() < 8
    assert known.calibrated
    assert not known.refined
    assert not known.doubted.any()


def test_an_unknown_rig_gives_the_body(scene, unknown):
    assert pa_mpjpe(unknown.joints3d_world, scene.joints).mean() < 0.035
    assert not unknown.calibrated
    assert unknown.reprojection_px.max() < 8
    eye = torch.eye(3, dtype=torch.float64).expand(FRAMES, 3, 3)
    torch.testing.assert_close(unknown.rotations[:, 0], eye)
    assert not unknown.transl.any()


def test_each_cameras_parameters_give_the_body_there(body, known, unknown):
    for result in (known, unknown):
        others = result.rotations[:, None, 1:].expand(-1, VIEWS_SEEN, -1, -1, -1)
        rotations = torch.cat((result.view_orient[:, :, None], others), 2)
        joints = body.joints(result.betas[:, None], rotations, result.view_transl)
        torch.testing.assert_close(joints, result.rig.to_cameras(result.joints3d_world))


def test_energy_never_above_the_start(known, unknown):
    for result in (known, unknown):
        total = torch.stack(list(result.energy.values())).sum(0)
        assert (total <= result.start_energy).all()
        assert set(result.energy) == {"reprojection", "latent"}


def test_a_rig_that_is_off_is_refined(scene, body, flow):
    rig = scene.problem.rig
    turn = torch.tensor([[0.0, 0, 0], [0.03, -0.02, 0.0], [0.0, 0.025, 0.02]]).double()
    turn = axis_angle_to_matrix(turn)
    off = Rig(turn @ rig.rotations, (turn @ rig.translations[..., None])[..., 0] + 0.02)
    problem = replace(scene.problem, rig=off).rows(torch.tensor([0, 1]))
    held = fit_views(problem, body, flow)
    refined = fit_views(problem, body, flow, refine_cameras=True)
    assert refined.refined
    assert (refined.reprojection_px.mean(0) < 0.7 * held.reprojection_px.mean(0)).any()
    torch.testing.assert_close(refined.rig.rotations[:, 0], off.rotations[:1].expand(2, 3, 3))
    error = pa_mpjpe(refined.joints3d_world, scene.joints[:2]).mean()
    assert error < pa_mpjpe(held.joints3d_world, scene.joints[:2]).mean()


def test_a_view_that_shows_another_person(scene, body, flow, known):
    keypoints = scene.problem.keypoints.clone()
    keypoints[:, 1] = keypoints[:, 1].roll(1, 0)
    problem = replace(scene.problem, keypoints=keypoints)
    got = fit_views(problem, body, flow)
    assert got.doubted[:, 1].all()
    assert not got.doubted[:, [0, 2]].any()
    off = (got.joints3d_world - scene.joints).norm(dim=-1)
    assert off.mean() < 0.06
    assert (got.reprojection_px[:, 1] > 20).all()


# --- frames do not know of each other ---


@pytest.mark.parametrize("rig", [True, False])
def test_alone_in_any_order_and_beside_nan(scene, body, flow, known, unknown, rig):
    expected = known if rig else unknown
    problem = scene.problem if rig else replace(scene.problem, rig=None)
    alone = fit_views(problem.rows(torch.tensor([1])), body, flow)
    assert_same(alone, expected, [1], [0])
    keypoints = problem.keypoints.clone()
    keypoints[1, 2, 4, 0] = torch.nan
    order = torch.tensor([2, 1, 0])
    beside = fit_views(replace(problem, keypoints=keypoints).rows(order), body, flow)
    assert_same(beside, expected, [2, 0], [0, 2])
    assert beside.status[1] is Status.INVALID


@pytest.mark.parametrize("rig", [True, False])
def test_the_order_of_views_is_no_matter(scene, body, flow, known, unknown, rig):
    expected = known if rig else unknown
    order = torch.tensor([2, 0, 1])
    problem = scene.problem if rig else replace(scene.problem, rig=None)
    got = fit_views(problem.select_views(order), body, flow)
    torch.testing.assert_close(got.joints3d_world, expected.joints3d_world, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.view_transl, expected.view_transl[:, order], rtol=0, atol=1e-5)


def test_chunks_change_nothing(scene, body, flow, known):
    counted = []
    got = fit_views(scene.problem, body, flow, frames_at_once=2, progress=counted.append)
    assert counted == [2, 1]
    assert_same(got, known, [0, 1, 2], [0, 1, 2])


# --- what is missing ---


def test_views_and_people_that_are_missing(scene, body, flow, known, unknown):
    confidence = scene.problem.confidence.clone()
    confidence[0, 1] = 0  # two views are left
    confidence[1, :2] = 0  # one view
    confidence[2] = 0  # none
    for rig in (scene.problem.rig, None):
        problem = replace(scene.problem, confidence=confidence, rig=rig)
        got = fit_views(problem, body, flow)
        assert Status.INVALID not in got.status
        assert got.joints3d_world.isfinite().all()
        assert got.reprojection_px[2].isnan().all()
        assert got.reprojection_px[0, [0, 2]].max() < 10
        assert got.seen[0, 1] == 0
        if rig is None:
            assert got.view_transl[0, 1].isnan().all()
            assert got.view_transl[0, [0, 2]].isfinite().all()
        else:
            assert got.view_transl.isfinite().all()
            assert (got.joints3d_world[0] - scene.joints[0]).norm(dim=-1).mean() < 0.06


def test_what_was_given_is_not_changed(scene, body, flow):
    inputs = [scene.problem.keypoints, scene.problem.confidence, *scene.problem.rig]
    before = [x.clone() for x in inputs]
    fit_views(scene.problem.rows(torch.tensor([0])), body, flow, refine_cameras=True)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_single_precision(scene, known):
    problem = scene.problem
    low = MultiviewProblem.build(
        BODY25,
        problem.keypoints.float(),
        problem.confidence.float(),
        problem.camera.to(dtype=torch.float32),
        problem.rig.to(dtype=torch.float32),
    )
    got = fit_views(low, find_body("open-low"), load("keypoint-flow"))
    assert (got.joints3d_world.double() - known.joints3d_world).norm(dim=-1).mean() < 0.005


# --- mistakes ---


def test_mistakes_are_one_line(scene, body, flow, prior):
    rig = scene.problem.rig
    with pytest.raises(InputError, match="does not look at keypoints"):
        fit_views(scene.problem, body, prior)
    with pytest.raises(InputError, match="no cameras to refine"):
        fit_views(replace(scene.problem, rig=None), body, flow, refine_cameras=True)
    millimetres = replace(scene.problem, rig=Rig(rig.rotations, 1000 * rig.translations))
    with pytest.raises(InputError, match="translations in millimetres"):
        fit_views(millimetres, body, flow)


def test_no_view_is_doubted_unless_asked(scene, body, flow):
    keypoints = scene.problem.keypoints[:1].clone()
    keypoints[:, 1] += 100
    problem = replace(scene.problem.rows(torch.tensor([0])), keypoints=keypoints)
    got = fit_views(problem, body, flow, replace(VIEWS, doubt=None))
    assert not got.doubted.any()
