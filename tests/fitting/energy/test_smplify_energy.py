"""What the recipes of the SMPLify family minimise is what the publications minimise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.torso_start import torso_start
from flowfit.models.body_files import read_body_file
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.classical.densities import MaxMixturePose
from flowfit.priors.classical.joint_limits import ExponentialBending
from flowfit.priors.classical.prior import RotationPrior
from tests.fitting.energy.test_objective import gradient_by_differences, small_mixture
from tests.references import priors_twin
from tests.references import smplify_twin as twin
from tests.synthetic_smpl import dense, synthetic_smpl, write_npz

PEOPLE = 3
HEIGHT = 510.0


class Scene:
    """Random people of a small made-up body, for the recipes and for the twin."""

    def __init__(self, folder):
        self.model = dense(synthetic_smpl(60, seed=2))
        self.body = read_body_file(write_npz(folder / "a.npz", self.model), dtype=torch.float64)
        self.mixture = small_mixture()
        density = MaxMixturePose(*(torch.from_numpy(a) for a in self.mixture))
        self.prior = RotationPrior("m", [density, ExponentialBending()])
        generator = torch.Generator().manual_seed(1)

        def normal(*shape):
            return torch.randn(PEOPLE, *shape, generator=generator, dtype=torch.float64)

        self.rotations = axis_angle_to_matrix(0.5 * normal(24, 3))
        self.betas, self.transl = normal(10), 0.2 * normal(3)
        self.transl[:, 2] += 4
        self.focal, self.center = (700.0, 650.0), (310.0, HEIGHT / 2)
        camera = Camera(*(torch.tensor(p, dtype=torch.float64) for p in (self.focal, self.center)))
        points = self.body.keypoints(self.betas, self.rotations, BODY25, self.transl)
        assert (points[..., 2] > 0.1).all()
        self.keypoints = camera.project(points)[0] + 30 * normal(25, 2)
        self.confidence = torch.rand(PEOPLE, 25, generator=generator, dtype=torch.float64)
        self.confidence[1, [4, 7, 20]] = 0
        self.problem = FitProblem.build(BODY25, self.keypoints, self.confidence, camera)
        latent = self.prior.encode(Pose(self.rotations, self.betas))
        self.state = State(latent, self.transl)

    def twins(self, row):
        seen = (self.keypoints[row].numpy(), self.confidence[row].numpy())
        parts = (x[row].numpy() for x in (self.betas, self.rotations, self.transl))
        return (
            twin.Candidate(self.model, self.body.vertex_ids, *parts),
            twin.Seen(*seen, np.array(self.focal), np.array(self.center)),
        )

    def objective(self, name, stage, depth=None):
        return Objective(self.problem, self.body, self.prior, RECIPES[name].stages[stage], depth)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))


def published(scene, name, stage, row):
    body, seen = scene.twins(row)
    if name == "smplify":
        return twin.smplify_energy(body, seen, scene.mixture, stage)
    if name == "spin":
        return twin.spin_energy(body, seen, scene.mixture)
    return twin.smplifyx_energy(body, seen, scene.mixture, stage, HEIGHT)


BODY_STAGES = [("spin", 0), *((n, s) for n in ("smplify", "smplifyx") for s in range(4))]


@pytest.mark.parametrize(("name", "stage"), BODY_STAGES)
def test_body_stages_equal_the_published_energy(scene, name, stage):
    objective = scene.objective(name, 1 + stage)
    got = objective.evaluate(scene.state)
    # the mixture's constant: its energy is counted here from the best component's mode
    least = priors_twin.least_constant(*scene.mixture[1:])
    for row in range(PEOPLE):
        expected = published(scene, name, stage, row)
        expected["pose"] -= objective.stage.weights["pose"] * least
        assert got.terms.keys() == expected.keys()
        for term, value in expected.items():
            assert float(got.terms[term][row]) == pytest.approx(value, rel=1e-6), term
        assert float(got.energy[row]) == pytest.approx(sum(expected.values()), rel=1e-6)


@pytest.mark.parametrize("name", ["smplify", "spin", "smplifyx"])
def test_camera_stages_equal_the_published_energy(scene, name):
    depth = scene.transl[:, 2] + torch.tensor([0.3, -0.2, 0.0], dtype=torch.float64)
    got = scene.objective(name, 0, depth).evaluate(scene.state).energy
    for row in range(PEOPLE):
        body, seen = scene.twins(row)
        if name == "smplifyx":
            value = twin.camera_energy(body, seen, float(depth[row]), 1000 / HEIGHT)
        else:
            resize = twin.smplify_pictures if name == "smplify" else twin.spin_pictures
            value = twin.camera_energy(body, resize(seen), float(depth[row]))
        assert float(got[row]) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", ["smplify", "spin", "smplifyx"])
@pytest.mark.parametrize("stage", [0, -1])
def test_gradients_are_those_of_the_energies(scene, name, stage):
    objective = scene.objective(name, stage, scene.transl[:, 2] + 0.3)
    got = objective.evaluate(scene.state).gradient
    expected = gradient_by_differences(objective, scene.state)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_the_depth_estimate_equals_the_published_one(scene):
    mean = scene.prior.mean()
    start = torso_start(scene.problem, scene.body, scene.prior)
    weighted = np.einsum("m,mi->i", scene.mixture[2], scene.mixture[0])
    pose = axis_angle_to_matrix(torch.from_numpy(weighted).unflatten(0, (23, 3)))
    torch.testing.assert_close(mean.rotations[0, 1:], pose)
    for row in range(PEOPLE):
        body, seen = scene.twins(row)
        rotations = scene.prior.decode(start.latent).rotations[row].numpy()
        rest = twin.Candidate(body.model, body.vertex_ids, np.zeros(10), rotations, np.zeros(3))
        assert float(start.transl[row, 2]) == pytest.approx(twin.torso_depth(rest, seen), rel=1e-9)
