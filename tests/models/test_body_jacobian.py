from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.models.rotations import axis_angle_to_matrix, retract

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(scope="module")
def bulging(body):
    """The low body with random pose blend shapes (it has none of its own)."""
    generator = torch.Generator().manual_seed(4)
    shape = (body.num_vertices, 3, 207)
    directions = 0.01 * torch.randn(shape, generator=generator, dtype=torch.float64)
    surface = replace(body.surface, pose_directions=directions)
    return replace(body, surface=surface, _keypoint_models={})


def person(angles, seed=0):
    generator = torch.Generator().manual_seed(seed)
    betas = torch.randn(len(angles), 10, generator=generator, dtype=torch.float64)
    return betas, axis_angle_to_matrix(angles)


def random_angles(count, seed=0, size=0.8):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(count, 24, 3, generator=generator, dtype=torch.float64)


def half_turns(count, seed=0):
    """Every joint turned by exactly pi."""
    axes = torch.nn.functional.normalize(random_angles(count, seed), dim=-1)
    return math.pi * axes


POSES = {
    "random": random_angles(2),
    "zero": torch.zeros(1, 24, 3, dtype=torch.float64),
    "pi": half_turns(1),
    "pi about an axis": math.pi * torch.eye(3, dtype=torch.float64)[[1] * 24][None],
}


def points_after(body, schema, rotations, betas, step, more_betas):
    points = body.keypoints(betas + more_betas, retract(rotations, step), schema)
    return points.nan_to_num()


def by_autograd(body, schema, betas, rotations):
    """d points by the 72 left perturbations (B, K, 3, 72) and by the betas (B, K, 3, S)."""
    zero = torch.zeros(len(betas), 24, 3, dtype=torch.float64)

    def points(step, more):  # people do not depend on each other: the sum keeps them apart
        return points_after(body, schema, rotations, betas, step, more).sum(0)

    by_step, by_betas = torch.autograd.functional.jacobian(points, (zero, torch.zeros_like(betas)))
    return by_step.permute(2, 0, 1, 3, 4).flatten(3), by_betas.permute(2, 0, 1, 3)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_equals_autograd_in_every_schema(bulging, schema):
    betas, rotations = person(random_angles(2, seed=1))
    got = keypoints_with_jacobian(bulging, bulging.keypoint_model(schema), betas, rotations)
    points = bulging.keypoints(betas, rotations, schema).nan_to_num()
    torch.testing.assert_close(got.points, points, **EXACT)
    by_step, by_betas = by_autograd(bulging, schema, betas, rotations)
    torch.testing.assert_close(got.by_rotation, by_step, **EXACT)
    torch.testing.assert_close(got.by_betas, by_betas, **EXACT)


@pytest.mark.parametrize("angles", POSES.values(), ids=POSES)
def test_equals_autograd_at_special_poses(bulging, angles):
    betas, rotations = person(angles, seed=2)
    got = keypoints_with_jacobian(bulging, bulging.keypoint_model(BODY25), betas, rotations)
    by_step, by_betas = by_autograd(bulging, BODY25, betas, rotations)
    torch.testing.assert_close(got.by_rotation, by_step, **EXACT)
    torch.testing.assert_close(got.by_betas, by_betas, **EXACT)


@pytest.mark.parametrize("angles", POSES.values(), ids=POSES)
def test_equals_finite_differences(bulging, angles):
    betas, rotations = person(angles[:1], seed=3)
    got = keypoints_with_jacobian(bulging, bulging.keypoint_model(BODY25), betas, rotations)
    small = 1e-5
    steps = small * torch.eye(82, dtype=torch.float64)

    def moved(sign):
        step = sign * steps
        return points_after(
            bulging, BODY25, rotations, betas, step[:, :72].unflatten(-1, (24, 3)), step[:, 72:]
        )

    slope = ((moved(1) - moved(-1)) / (2 * small)).permute(1, 2, 0)
    whole = torch.cat((got.by_rotation, got.by_betas), -1)[0]
    torch.testing.assert_close(whole, slope, rtol=0, atol=1e-8)


def test_pose_blend_shapes_matter_here(body, bulging):
    betas, rotations = person(random_angles(1))
    plain = keypoints_with_jacobian(body, body.keypoint_model(BODY25), betas, rotations)
    other = keypoints_with_jacobian(bulging, bulging.keypoint_model(BODY25), betas, rotations)
    assert (plain.by_rotation - other.by_rotation).abs().max() > 1e-3


def test_keypoints_that_the_body_lacks_are_at_rest_at_the_origin(bulging):
    schema = SCHEMAS["mediapipe33"]
    model = bulging.keypoint_model(schema)
    assert not model.available.all()
    got = keypoints_with_jacobian(bulging, model, *person(random_angles(1)))
    for part in got:
        assert not part[:, ~model.available].any()
        assert part.isfinite().all()
