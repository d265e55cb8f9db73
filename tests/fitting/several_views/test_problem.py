from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig, camera_rows
from tests.synthetic_views import make_scene_rig, make_views


@pytest.fixture(scope="module")
def scene(body, prior):
    return make_views(body, prior, frames=2, views=3, lens=True)


def parts(problem):
    return {
        "schema": problem.schema,
        "keypoints": problem.keypoints,
        "confidence": problem.confidence,
        "camera": problem.camera,
        "rig": problem.rig,
    }


def test_what_was_not_seen_is_nothing(scene):
    keypoints, confidence = scene.problem.keypoints.clone(), scene.problem.confidence.clone()
    confidence[0, 1] = 0
    confidence[1, 2, 5] = 0
    keypoints[0, 1] = torch.nan
    problem = MultiviewProblem.build(BODY25, keypoints, confidence, scene.problem.camera)
    assert not problem.keypoints[0, 1].any()
    assert not problem.keypoints[1, 2, 5].any()
    assert problem.seen.tolist() == [[True, False, True], [True, True, True]]
    assert problem.rig is None
    assert len(problem) == 2
    assert problem.views == 3


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"keypoints": torch.zeros(2, 25, 2)}, "needs \\(frames, views, 25, 2\\)"),
        ({"keypoints": torch.zeros(0, 3, 25, 2)}, "nothing to fit: 0 frames"),
        ({"confidence": torch.zeros(2, 25)}, "confidence has shape"),
        ({"camera": Camera(torch.ones(2, 2), torch.ones(2, 2))}, "2 cameras and keypoints of 3"),
        ({"camera": Camera(-torch.ones(3, 2), torch.ones(3, 2))}, "must be positive"),
        (
            {"camera": Camera(torch.ones(3, 2), torch.ones(3, 2), torch.ones(3, 4))},
            "distortion has shape",
        ),
        ({"rig": Rig(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3))}, "3 views need"),
        ({"rig": Rig(2 * torch.eye(3).expand(3, 3, 3), torch.zeros(3, 3))}, "view 0: R is not a"),
        ({"rig": Rig(-torch.eye(3).expand(3, 3, 3), torch.zeros(3, 3))}, "left-handed"),
        (
            {"rig": Rig(torch.eye(3).expand(3, 3, 3), torch.full((3, 3), torch.nan))},
            "must be finite",
        ),
    ],
)
def test_mistakes_are_one_line(scene, changed, text):
    with pytest.raises(InputError, match=text) as error:
        MultiviewProblem.build(**{**parts(scene.problem), **changed})
    assert "\n" not in str(error.value)


def test_rounded_rotations_are_made_exact(scene):
    rig = make_scene_rig(3)
    rounded = Rig(rig.rotations.mul(1000).round() / 1000, rig.translations)
    got = MultiviewProblem.build(**{**parts(scene.problem), "rig": rounded}).rig
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(got.rotations @ got.rotations.transpose(-1, -2), eye)
    torch.testing.assert_close(got.rotations, rig.rotations, rtol=0, atol=1e-3)


def test_one_camera_for_all(scene):
    one = Camera(torch.tensor([900.0, 900.0]), torch.tensor([1.0, 2.0]), torch.zeros(5))
    problem = MultiviewProblem.build(**{**parts(scene.problem), "camera": one})
    assert problem.camera.focal.shape == (3, 2)
    assert problem.camera.distortion.shape == (3, 5)
    with_lens = camera_rows([one, Camera(one.focal, one.center)])
    assert not with_lens.distortion.any()


def test_the_lens_is_taken_out(body, prior, scene):
    plain = make_views(body, prior, frames=2, views=3, noise=0.0)
    bent = make_views(body, prior, frames=2, views=3, noise=0.0, lens=True)
    assert (plain.problem.keypoints - bent.problem.keypoints).abs().max() > 0.5
    torch.testing.assert_close(
        bent.problem.without_lens(), plain.problem.keypoints, rtol=0, atol=1e-8
    )


def test_rows_views_and_single_views(scene):
    problem = scene.problem
    some = problem.rows(torch.tensor([1, 0, 1])).select_views(torch.tensor([2, 0]))
    assert torch.equal(some.keypoints[0], problem.keypoints[1, [2, 0]])
    assert torch.equal(some.rig.rotations, problem.rig.rotations[[2, 0]])
    assert torch.equal(some.camera.focal, problem.camera.focal[[2, 0]])
    flat = problem.single_views()
    assert len(flat) == 6
    assert torch.equal(flat.keypoints[4], problem.without_lens()[1, 1])
    assert torch.equal(flat.confidence[5], problem.confidence[1, 2])
    assert flat.camera.distortion is None
    assert problem.evidence().shape == (2, 3, 25)


def test_leaving_views_out(scene):
    problem = scene.problem
    left_out = torch.tensor([[False, True, False], [False, False, False]])
    without = problem.without(left_out)
    assert not without.confidence[0, 1].any()
    assert torch.equal(without.confidence[1], problem.confidence[1])
    assert torch.equal(without.size, problem.size)
    assert problem.confidence[0, 1].all()


def test_points_in_cameras(scene):
    rig = make_scene_rig(3)
    points = torch.randn(2, 4, 3, dtype=torch.float64)
    got = rig.to_cameras(points)
    expected = rig.rotations[1] @ points[0, 2] + rig.translations[1]
    torch.testing.assert_close(got[0, 1, 2], expected)
    at_centres = rig.to_cameras(rig.centres)
    own = at_centres[torch.arange(3), torch.arange(3)]
    torch.testing.assert_close(own, torch.zeros(3, 3).double(), rtol=0, atol=1e-12)
    assert len(replace(scene.problem, rig=None).rows(torch.tensor([0]))) == 1
