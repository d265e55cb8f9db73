"""What several test files share: the low body, made-up people, and the development data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.starts import upright_facing_camera
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.classical.prior import RotationPrior
from flowfit.priors.load import load

torch.set_num_threads(1)  # the machine is shared, and repeat runs must agree to the bit

_SHARED = Path(__file__).parents[2] / "shared"


@dataclass(frozen=True, eq=False)
class Crowd:
    """Made-up people in front of a camera, and the truth about them."""

    problem: FitProblem
    rotations: Tensor
    betas: Tensor
    transl: Tensor
    joints3d: Tensor


@pytest.fixture(scope="session")
def body() -> Body:
    return find_body("open-low").to(dtype=torch.float64)


@pytest.fixture(scope="session")
def up() -> Tensor:
    return torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)


@pytest.fixture(scope="session")
def prior(body: Body, up: Tensor) -> RotationPrior:
    return load("gmm", num_betas=body.num_betas, up=up, dtype=torch.float64)


@pytest.fixture(scope="session")
def camera() -> Camera:
    return Camera.from_size(640, 480, 800.0).to(dtype=torch.float64)


@pytest.fixture(scope="session")
def make_crowd(body: Body, prior: RotationPrior, camera: Camera) -> Callable[..., Crowd]:
    """People near the mixture's modes, turned any way about the vertical, 3 to 6 m away."""

    def make(
        count: int,
        *,
        seed: int = 0,
        noise: float = 2.0,
        bend: float = 0.15,
        schema: KeypointSchema = BODY25,
    ) -> Crowd:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

        modes = prior.modes().rotations
        drawn = torch.randint(len(modes), (count,), generator=generator)
        yaw = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        zero = torch.zeros_like(yaw)
        rotations = axis_angle_to_matrix(bend * normal(24, 3)) @ modes[drawn]
        rotations[:, 0] = upright_facing_camera(yaw) @ axis_angle_to_matrix(
            torch.stack((zero, yaw, zero), -1)
        )
        betas = normal(body.num_betas)
        place = torch.rand(count, 3, generator=generator, dtype=torch.float64)
        transl = place * torch.tensor([1.0, 0.4, 3.0]) + torch.tensor([-0.5, 0.0, 3.0])
        points = body.keypoints(betas, rotations, schema, transl)
        pixels = camera.project(points.nan_to_num())[0] + noise * normal(len(schema), 2)
        confidence = torch.rand(count, len(schema), generator=generator, dtype=torch.float64)
        confidence = 0.6 + 0.4 * confidence
        problem = FitProblem.build(schema, pixels, confidence, camera)
        joints = body.joints(betas, rotations, transl)
        return Crowd(problem, rotations, betas, transl, joints)

    return make


@pytest.fixture
def shared() -> Path:
    """The development data; most checkouts do not have it."""
    if not _SHARED.is_dir():
        pytest.skip("no development data beside the checkout (../shared)")
    return _SHARED
