from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowfit.fitting.scenes.align import align_views
from flowfit.fitting.scenes.estimate import estimate_rig
from flowfit.fitting.scenes.refine import _camera_motion, _moved
from flowfit.fitting.several_views.fit_views import fit_views
from flowfit.fitting.several_views.objective import UNKNOWN
from flowfit.fitting.several_views.placed import Placed
from flowfit.fitting.several_views.recipe import VIEWS
from flowfit.fitting.several_views.told import tell_views
from flowfit.models.errors import InputError
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix, rotation_angle
from flowfit.priors.base import Pose
from flowfit.priors.load import load
from tests.synthetic_views import make_scene_rig, make_views


@pytest.fixture(scope="module")
def flow():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def scene(body, prior):
    return make_views(body, prior, frames=4, views=3, noise=3.0, seed=4)


@pytest.fixture(scope="module")
def found(scene, body, flow):
    return estimate_rig(scene.problem, body, flow)


def relative(rig: Rig, reference: int) -> Rig:
    """The rig in one of its cameras' frames."""
    turn = rig.rotations @ rig.rotations[reference].T
    return Rig(turn, rig.translations - (turn @ rig.translations[reference]))


def test_exact_bodies_give_the_exact_rig(scene):
    rig = make_scene_rig(3)
    joints = rig.to_cameras(scene.joints)
    seen = torch.ones(4, 3, dtype=torch.bool)
    seen[0, 1] = False
    got, reference = align_views(joints, seen)
    expected = relative(rig, reference)
    torch.testing.assert_close(got.rotations, expected.rotations)
    torch.testing.assert_close(got.translations, expected.translations)


def test_a_frame_that_is_wrong_is_left_out(scene):
    rig = make_scene_rig(3)
    joints = rig.to_cameras(scene.joints)
    joints[1, 2] += 1.5
    got, reference = align_views(joints, torch.ones(4, 3, dtype=torch.bool))
    expected = relative(rig, reference)
    assert torch.rad2deg(rotation_angle(got.rotations @ expected.rotations.mT)).max() < 0.5
    assert (got.translations - expected.translations).norm(dim=-1).max() < 0.05


def test_views_chained_by_a_third(scene):
    rig = make_scene_rig(3)
    seen = torch.tensor([[True, True, False], [False, True, True]] * 2)
    got, reference = align_views(rig.to_cameras(scene.joints), seen)
    assert reference == 1
    torch.testing.assert_close(got.translations, relative(rig, 1).translations)


def test_a_view_that_is_never_together_with_others(scene):
    seen = torch.tensor([[True, True, False], [False, False, True]] * 2)
    with pytest.raises(InputError, match="view 2 never sees the person at the same time"):
        align_views(make_scene_rig(3).to_cameras(scene.joints), seen)


def test_the_rig_from_keypoints(scene, found):
    expected = relative(scene.problem.rig, found.reference)
    off = torch.rad2deg(rotation_angle(found.rig.rotations @ expected.rotations.mT))
    assert off.max() < 3
    apart = (found.rig.centres - expected.centres).norm(dim=-1)
    assert apart.max() < 0.4
    others = [v for v in range(3) if v != found.reference]
    assert apart[found.reference] < 1e-9
    # its own uncertainty is of the errors' size
    assert (apart[others] < 5 * found.centre_sd[others]).all()
    assert (off[others] < 5 * torch.rad2deg(found.turn_sd[others])).all()
    assert not found.turn_sd[found.reference]
    assert found.centre_sd.max() < 0.6
    assert found.reprojection_px.max() < 8


def test_the_covariance_is_one(found):
    eigenvalues = torch.linalg.eigvalsh(found.covariance)
    assert eigenvalues.min() > -1e-12
    others = [v for v in range(3) if v != found.reference]
    turn = found.covariance.diagonal().view(3, 2, 3)[others, 0].sum(-1).sqrt()
    torch.testing.assert_close(turn, found.turn_sd[others])
    # never surer of a distance than of a person's height
    assert (found.centre_sd >= 0.04 * found.rig.centres.norm(dim=-1)).all()


def test_a_fit_with_the_rig_that_was_found(scene, body, flow, found):
    got = fit_views(replace(scene.problem, rig=found.rig), body, flow)
    truth = scene.problem.rig.to_cameras(scene.joints)[:, found.reference]
    aligned = got.joints3d_world - got.joints3d_world[:, :1] - truth + truth[:, :1]
    assert aligned.norm(dim=-1).mean() < 0.06
    assert got.reprojection_px.mean() < 6


def test_the_given_rig_is_not_looked_at(scene, body, flow, found):
    fitted = fit_views(replace(scene.problem, rig=None), body, flow)
    reused = estimate_rig(scene.problem, body, flow, fitted=fitted)
    torch.testing.assert_close(reused.rig.rotations, found.rig.rotations, rtol=0, atol=1e-6)


def test_how_a_frames_views_move_with_the_cameras(scene, body, flow):
    problem = replace(scene.problem, rig=None)
    objective = tell_views(problem, body, flow, VIEWS, UNKNOWN).objective
    rig = Rig(*(t.expand(4, *t.shape) for t in scene.problem.rig))
    placed = Placed(Pose(scene.rotations, scene.betas), scene.transl, rig)
    state, step = placed.state(), torch.zeros(4, 85, dtype=torch.float64)
    shared = 1e-6 * torch.randn(12, dtype=torch.float64)
    moved = objective.place(_moved(objective, state, step, shared, 0))
    motion = torch.einsum(
        "fvij,vj->fvi",
        _camera_motion(placed)[:, 1:],
        shared.unflatten(0, (2, 6)),
    )
    own = torch.cat((step, torch.zeros(4, 6).double(), motion.flatten(1)), -1)
    expected = objective.place(objective.move(state, own))
    there = placed.transl[:, None]
    before, after = placed.rig.to_cameras(there), moved.rig.to_cameras(there)
    assert (after - before)[:, 1:].abs().max() > 1e-7
    torch.testing.assert_close(after, expected.rig.to_cameras(there), rtol=0, atol=1e-10)
    torch.testing.assert_close(moved.rig.rotations, expected.rig.rotations, rtol=0, atol=1e-10)


def test_mistakes_are_one_line(scene, body, flow):
    one = scene.problem.select_views(torch.tensor([0]))
    with pytest.raises(InputError, match="at least two views"):
        estimate_rig(one, body, flow)
    alone = scene.problem.without(torch.tensor([[False, True, True]] * 4))
    with pytest.raises(InputError, match="same person in two views"):
        estimate_rig(alone, body, flow)


def test_turning_about_the_centre_by_hand():
    """R' = exp(w) R, t' = exp(w) t + d moves the centre by d, seen from the new camera."""
    rig = make_scene_rig(2)
    turn = axis_angle_to_matrix(torch.tensor([0.1, math.pi / 7, -0.2]).double())
    shift = torch.tensor([0.01, 0.02, 0.03]).double()
    moved = Rig(turn @ rig.rotations, (turn @ rig.translations[..., None])[..., 0] + shift)
    seen = (moved.rotations @ (moved.centres - rig.centres)[..., None])[..., 0]
    torch.testing.assert_close(seen, -shift.expand(2, 3))
