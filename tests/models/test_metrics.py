from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial
import torch
from scipy.spatial.transform import Rotation

from flowfit.models.alignment import procrustes
from flowfit.models.metrics import mpjpe, orientation_error, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix


def cloud(*batch, seed=0, joints=14):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, joints, 3, generator=generator, dtype=torch.float64)


def turn(seed=0):
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


def twin_procrustes(source, target):
    """Kabsch through scipy, the scale by least squares; no reflection."""
    a, b = source - source.mean(0), target - target.mean(0)
    rotation = Rotation.align_vectors(b, a)[0].as_matrix()
    turned = a @ rotation.T
    scale = (turned * b).sum() / (a * a).sum()
    return scale * turned + target.mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_a_known_similarity_is_undone(seed):
    source = cloud(seed=seed)
    target = 2.7 * source @ turn(seed).T + torch.tensor([3.0, -4.0, 0.5])
    torch.testing.assert_close(procrustes(source, target), target)
    assert float(pa_mpjpe(source, target)) < 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_twin(seed):
    source, target = cloud(seed=seed), cloud(seed=seed + 100)
    got = procrustes(source, target)
    np.testing.assert_allclose(got, twin_procrustes(source.numpy(), target.numpy()), atol=1e-6)


def test_equals_scipy_where_no_reflection_helps():
    source = cloud()
    target = 0.4 * source @ turn().T + 0.05 * cloud(seed=1)
    got = procrustes(source, target)
    b, aligned, disparity = scipy.spatial.procrustes(target.numpy(), source.numpy())
    size = np.linalg.norm(target - target.mean(0))
    np.testing.assert_allclose((got - target.mean(0)) / size, aligned, atol=1e-9)
    np.testing.assert_allclose((target - target.mean(0)) / size, b, atol=1e-9)
    assert float(((got - target) ** 2).sum()) / size**2 == pytest.approx(disparity)


@pytest.mark.parametrize("axis", range(3))
def test_a_mirror_image_is_not_undone(axis):
    target = cloud()
    source = target.clone()
    source[:, axis] *= -1
    got = procrustes(source, target)
    assert float(pa_mpjpe(source, target)) > 0.1
    # the triple product keeps its sign: a rotation, not a reflection
    before, after = torch.linalg.det(source[1:4] - source[0]), torch.linalg.det(got[1:4] - got[0])
    assert float(before * after) > 0


def test_procrustes_is_the_best_similarity():
    source, target = cloud(seed=1), cloud(seed=2)
    best = ((procrustes(source, target) - target) ** 2).sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        step = 0.1 * torch.randn(7, generator=generator, dtype=torch.float64)
        other = procrustes(source, target)
        middle = other.mean(0)
        other = (other - middle) @ axis_angle_to_matrix(step[:3]).T * step[3].exp() + middle
        assert ((other + step[4:] - target) ** 2).sum() >= best - 1e-12


@pytest.mark.parametrize("flat", [0, 1])
def test_points_in_a_plane_or_on_a_line(flat):
    source = cloud()
    source[:, flat:2] = 0
    target = 1.5 * source @ turn(3).T + 1
    torch.testing.assert_close(procrustes(source, target), target)


def test_a_single_place_is_finite():
    point = torch.ones(14, 3, dtype=torch.float64)
    assert procrustes(point, cloud()).isfinite().all()
    assert procrustes(cloud(), point).isfinite().all()


def test_mpjpe_aligns_the_root():
    truth = cloud(5)
    for root in (0, 3):
        assert float(mpjpe(truth + 7, truth, root).max()) < 1e-12
    predicted = truth.clone()
    predicted[:, 2, 0] += 0.7
    assert mpjpe(predicted, truth, 0).tolist() == pytest.approx([0.05] * 5)
    # moving the root moves everything else
    assert mpjpe(predicted, truth, 2).tolist() == pytest.approx([0.7 * 13 / 14] * 5)


def test_pa_mpjpe_is_not_larger_than_by_hand():
    truth = cloud(6)
    predicted = truth + 0.1 * cloud(6, seed=4)
    for row in range(6):
        aligned = twin_procrustes(predicted[row].numpy(), truth[row].numpy())
        by_hand = np.linalg.norm(aligned - truth[row].numpy(), axis=-1).mean()
        assert float(pa_mpjpe(predicted, truth)[row]) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.5, math.pi / 2, 3.0, math.pi])
def test_orientation_error(angle):
    axis = torch.nn.functional.normalize(cloud(joints=4), dim=-1)
    truth = torch.stack([turn(s) for s in range(4)])
    for predicted in (
        axis_angle_to_matrix(angle * axis) @ truth,
        truth @ axis_angle_to_matrix(angle * axis),
    ):
        got = orientation_error(predicted, truth)
        assert got.tolist() == pytest.approx([math.degrees(angle)] * 4, abs=1e-6)


def test_free_leading_axes_and_rows_alone():
    a, b = cloud(2, 3), cloud(2, 3, seed=1)
    for measure in (pa_mpjpe, lambda p, t: mpjpe(p, t, 0)):
        whole = measure(a, b)
        assert whole.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                assert float(whole[i, j]) == pytest.approx(float(measure(a[i, j], b[i, j])))
