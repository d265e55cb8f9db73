from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.triangulate import check_metres, triangulate
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix

LENS = torch.tensor([0.2, -0.1, 0.002, -0.001, 0.01], dtype=torch.float64)


def make_rig(views: int) -> Rig:
    """Cameras on a part of a circle of 4.5 m around the origin of a world with y up."""
    angle = 1.0 * torch.arange(views, dtype=torch.float64) + 0.3
    zero = torch.zeros_like(angle)
    upside_down = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    rotations = upside_down @ axis_angle_to_matrix(torch.stack((zero, angle, zero), -1))
    return Rig(rotations, torch.tensor([0.0, 1.0, 4.5], dtype=torch.float64).expand(views, 3))


def make_scene(views=4, frames=3, noise=0.0, lens=False, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    points = normal(frames, 25, 3) * torch.tensor([0.15, 0.3, 0.15]).double()
    points[..., 1] += 1.0
    rig = make_rig(views)
    camera = Camera(
        torch.full((views, 2), 1000.0).double(),
        torch.full((views, 2), 500.0).double(),
        LENS.expand(views, 5) if lens else None,
    )
    pixels, in_front = camera.project(rig.to_cameras(points))
    assert in_front.all()
    pixels = pixels + noise * normal(*pixels.shape)
    seen = torch.ones(pixels.shape[:3], dtype=torch.float64)
    problem = MultiviewProblem.build(BODY25, pixels, seen, camera, rig)
    return problem, points


@pytest.mark.parametrize("robust", [True, False])
@pytest.mark.parametrize("lens", [True, False])
@pytest.mark.parametrize("views", [2, 5])
def test_exact_keypoints_give_exact_points(robust, lens, views):
    problem, points = make_scene(views, lens=lens)
    found = triangulate(problem, robust=robust)
    assert found.valid.all()
    torch.testing.assert_close(found.points, points, rtol=0, atol=1e-6)
    assert found.error.max() < 1e-3
    torch.testing.assert_close(found.weight, torch.ones_like(found.weight))


def test_noise_of_pixels_is_millimetres():
    problem, points = make_scene(noise=2.0)
    off = (triangulate(problem).points - points).norm(dim=-1)
    assert off.mean() < 0.012


@pytest.mark.parametrize("views", [3, 4])
def test_a_wrong_view_is_left_out(views):
    problem, points = make_scene(views, noise=1.0)
    keypoints = problem.keypoints.clone()
    keypoints[:, 1] += 150.0
    wrong = replace(problem, keypoints=keypoints)
    robust, plain = triangulate(wrong), triangulate(wrong, robust=False)
    assert robust.valid.float().mean() > 0.95
    off = (robust.points - points).norm(dim=-1)[robust.valid]
    assert off.mean() < 0.02
    assert (plain.points - points).norm(dim=-1).nanmean() > 0.1
    assert robust.weight[:, 1].max() < 0.1
    assert robust.weight[:, [0, 2]].min() > 0.5


def test_two_views_that_contradict_each_other_are_not_valid():
    problem, _ = make_scene(2)
    keypoints = problem.keypoints.clone()
    keypoints[:, 1, :, 1] += 200.0
    assert not triangulate(replace(problem, keypoints=keypoints)).valid.any()


def test_seen_by_one_view_only():
    problem, points = make_scene(3)
    confidence = problem.confidence.clone()
    confidence[:, 1:, 4] = 0
    confidence[:, :, 5] = 0
    found = triangulate(replace(problem, confidence=confidence))
    assert not found.valid[:, [4, 5]].any()
    assert found.points[:, [4, 5]].isnan().all()
    assert found.error[:, [4, 5]].isnan().all()
    others = [k for k in range(25) if k not in (4, 5)]
    torch.testing.assert_close(found.points[:, others], points[:, others], rtol=0, atol=1e-6)
    assert not found.weight[:, 1:, 4].any()


def test_cameras_at_one_place_tell_no_depth():
    problem, _ = make_scene(2)
    rig = make_rig(2)
    same = Rig(rig.rotations[:1].expand(2, 3, 3), rig.translations)
    pixels = problem.keypoints[:, :1].expand(-1, 2, -1, -1)
    blind = MultiviewProblem.build(BODY25, pixels, problem.confidence, problem.camera, same)
    assert not triangulate(blind).valid.any()


def test_nan_stays_in_its_keypoint():
    problem, points = make_scene(3)
    keypoints = problem.keypoints.clone()
    keypoints[1, 0, 7] = torch.nan
    found = triangulate(replace(problem, keypoints=keypoints))
    torch.testing.assert_close(found.points, points, rtol=0, atol=1e-6)
    assert found.weight[1, 0, 7] == 0


@pytest.mark.parametrize(
    ("factor", "text"),
    [(1000.0, "in millimetres"), (100.0, "in centimetres"), (0.02, "must be in metres")],
)
def test_another_unit_than_the_metre(factor, text):
    problem, _ = make_scene(4, noise=1.0)
    rig = problem.rig
    scaled = replace(problem, rig=Rig(rig.rotations, factor * rig.translations))
    check_metres(triangulate(problem))
    with pytest.raises(InputError, match=text):
        check_metres(triangulate(scaled))


def test_a_rig_is_needed():
    problem, _ = make_scene(2)
    with pytest.raises(ValueError, match="where the cameras are"):
        triangulate(replace(problem, rig=None))
