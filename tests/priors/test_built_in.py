"""The built-in posterior: what it must be able to do on people that it was not trained on."""

import pytest
import torch

from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.models.metrics import orientation_error, pa_mpjpe
from flowfit.priors.keypoints.files import read_about
from flowfit.priors.load import load
from flowfit.priors.registry import BUILT_IN


@pytest.fixture(scope="module")
def people(make_crowd):
    return make_crowd(24, seed=5)


def test_every_built_in_opens(up):
    for name in BUILT_IN.keys() - {"lifting"}:  # made around a fit, on the floor above
        assert load(name, up=up.float()).name == name


def test_weights_are_small_and_credited():
    from importlib import resources

    folder = resources.files("flowfit.priors") / "weights"
    size = sum(len(f.read_bytes()) for f in folder.iterdir() if f.is_file())
    assert size < 16 * 2**20
    for name in ("keypoint-flow", "pose-flow"):
        assert "mocap.cs.cmu.edu" in read_about(BUILT_IN[name].path)["trained_on"]["credit"]


def test_the_mode_faces_the_right_way(people, body):
    prior = load("keypoint-flow", dtype=torch.float64)
    problem = people.problem
    told = prior.given(problem.schema, problem.keypoints, problem.confidence, problem.camera, body)
    mode = told.decode(told.start().latent)
    turned = orientation_error(mode.rotations[:, 0], people.rotations[:, 0])
    assert turned.median() < 20
    assert (turned < 60).float().mean() > 0.9
    # the head puts them where they stand
    assert ((told.start().transl - people.transl).norm(dim=-1) < 1.5).float().mean() > 0.9


def test_fitting_improves_on_the_mode(people, body):
    prior = load("keypoint-flow", dtype=torch.float64)
    problem = people.problem
    told = prior.given(problem.schema, problem.keypoints, problem.confidence, problem.camera, body)
    mode = told.decode(told.start().latent)
    before = pa_mpjpe(body.joints(mode.betas, mode.rotations), people.joints3d)
    fitted = fit_seen(problem, body, prior, RECIPES["flow"])
    after = pa_mpjpe(fitted.joints3d, people.joints3d)
    assert after.mean() < before.mean()
    assert (fitted.reprojection_px / problem.size < 0.02).float().mean() > 0.9


def test_nobody_seen_is_the_unconditional_prior(people, body):
    problem = people.problem
    nothing = torch.zeros_like(problem.confidence)
    looking, blind = (load(n, dtype=torch.float64) for n in ("keypoint-flow", "pose-flow"))
    ones = [
        prior.given(problem.schema, problem.keypoints, nothing, problem.camera, body)
        for prior in (looking, blind)
    ]
    latent = torch.randn(24, ones[0].flow.features, dtype=torch.float64)
    first, second = (one.decode(latent) for one in ones)
    torch.testing.assert_close(first.rotations, second.rotations)
    assert bool((ones[0].start().transl[:, 2] > 0.5).all())
