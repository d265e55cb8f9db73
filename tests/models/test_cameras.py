from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from flowfit.models.cameras import MIN_DEPTH, Camera, distort, undistort
from flowfit.models.rotations import axis_angle_to_matrix

DISTORTIONS = {
    "none": None,
    "mild": (-0.12, 0.05, 0.001, -0.002, -0.01),
    "strong": (-0.3, 0.12, 0.004, 0.003, 0.02),
}


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def camera_of(distortion, rotation=None, translation=None):
    return Camera(
        double(1100.0, 1150.0),
        double(640.5, 350.25),
        None if distortion is None else double(*distortion),
        rotation,
        translation,
    )


def points_in_front(*batch, n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(*batch, n, 3, generator=generator, dtype=torch.float64)
    return (spread - 0.5) * 2 + double(0, 0, 4.0)


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS)
def test_equals_opencv(distortion):
    rodrigues = np.array([0.2, -0.4, 0.1])
    translation = double(0.1, -0.2, 0.7)
    rotation = torch.from_numpy(cv2.Rodrigues(rodrigues)[0])
    torch.testing.assert_close(rotation, axis_angle_to_matrix(torch.from_numpy(rodrigues)))
    camera = camera_of(distortion, rotation, translation)
    points = points_in_front()
    pixels, in_front = camera.project(camera.world_to_camera(points))
    matrix = np.array([[1100.0, 0, 640.5], [0, 1150.0, 350.25], [0, 0, 1]])
    coefficients = None if distortion is None else np.array(distortion)
    expected = cv2.projectPoints(
        points.numpy(), rodrigues, translation.numpy(), matrix, coefficients
    )[0][:, 0]
    assert in_front.all()
    np.testing.assert_allclose(pixels.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS)
def test_jacobian_equals_autograd(distortion):
    camera = camera_of(distortion)
    points = points_in_front(n=6)
    pixels, in_front, jacobian = camera.project_with_jacobian(points)
    torch.testing.assert_close(pixels, camera.project(points)[0])
    assert in_front.all()
    whole = torch.autograd.functional.jacobian(lambda p: camera.project(p)[0], points)
    expected = torch.stack([whole[i, :, i] for i in range(len(points))])
    torch.testing.assert_close(jacobian, expected)


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS)
def test_points_behind_the_camera_are_masked_and_finite(distortion):
    camera = camera_of(distortion)
    depths = double(-3, -MIN_DEPTH, 0, MIN_DEPTH, MIN_DEPTH + 1e-9, 2)
    points = torch.stack((torch.full_like(depths, 0.3), torch.full_like(depths, -0.2), depths), -1)
    points.requires_grad_()
    pixels, in_front, jacobian = camera.project_with_jacobian(points)
    assert in_front.tolist() == [False] * 4 + [True] * 2
    assert pixels.isfinite().all()
    assert jacobian.isfinite().all()
    assert not jacobian[:4].any()
    pixels, in_front = camera.project(points)
    assert in_front.tolist() == [False] * 4 + [True] * 2
    pixels.sum().backward()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mild", "strong"])
def test_undistort_inverts_distort(name):
    coefficients = double(*DISTORTIONS[name])
    line = torch.linspace(-0.5, 0.5, 21, dtype=torch.float64)
    xy = torch.cartesian_prod(line, line)
    back = undistort(distort(xy, coefficients), coefficients)
    torch.testing.assert_close(back, xy, rtol=0, atol=1e-12)


def test_batched_cameras_broadcast_and_rows_pick():
    points = points_in_front(3, n=5)
    coefficients = double(*DISTORTIONS["mild"])
    camera = Camera(
        double(1000, 1000) * double(1, 2, 3)[:, None],
        double(300, 200),
        coefficients * double(1, 2, 3)[:, None],
        axis_angle_to_matrix(0.1 * torch.randn(3, 3, dtype=torch.float64)),
        double(0, 0, 1) * double(1, 2, 3)[:, None],
    )
    pixels, _ = camera.project(camera.world_to_camera(points))
    jacobian = camera.project_with_jacobian(camera.world_to_camera(points))[2]
    assert jacobian.shape == (3, 5, 2, 3)
    index = torch.tensor([2, 0])
    some = camera.rows(index)
    assert torch.equal(some.center, camera.center)  # shared by all rows
    got, _ = some.project(some.world_to_camera(points[index]))
    torch.testing.assert_close(got, pixels[index])
    for i in range(3):
        assert camera.rotation is not None
        assert camera.translation is not None
        one = Camera(
            camera.focal[i],
            camera.center,
            coefficients * (i + 1),
            camera.rotation[i],
            camera.translation[i],
        )
        torch.testing.assert_close(one.project(one.world_to_camera(points[i]))[0], pixels[i])


def test_from_size_and_to():
    camera = Camera.from_size(640, 480, 500).to(dtype=torch.float64)
    pixels, in_front = camera.project(double(0, 0, 3)[None])
    assert pixels.tolist() == [[320, 240]]
    assert in_front.all()
    assert camera.distortion is None
    with_lens = camera_of(DISTORTIONS["mild"]).to(dtype=torch.float32)
    assert with_lens.distortion is not None
    assert with_lens.distortion.dtype == torch.float32


def test_a_row_of_nan_does_not_touch_the_others():
    camera = camera_of(DISTORTIONS["mild"])
    points = points_in_front(3)
    clean = camera.project_with_jacobian(points)
    points = points.clone()
    points[1] = torch.nan
    got = camera.project_with_jacobian(points)
    for a, b in zip(got, clean, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    assert not got[1][1].any()
