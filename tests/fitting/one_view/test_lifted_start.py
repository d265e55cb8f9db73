"""A body put into a lifted skeleton, and fits that begin there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowfit import fit
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.one_view.lifted_prior import LiftedPrior
from flowfit.fitting.one_view.lifted_start import body_of, lifted_start, lifter_context
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import mpjpe
from flowfit.priors.lifting.files import load_lifter
from flowfit.priors.lifting.input import JOINTS, ROOT
from tests.fitting.verbs.test_lift import KEYPOINTS


@pytest.fixture(scope="module")
def lifter():
    return load_lifter(dtype=torch.float64)[0]


def rooted(points):
    return points - points[:, JOINTS.index(ROOT)][:, None]


def test_a_body_is_put_into_the_skeleton_of_a_body(make_crowd, body, prior):
    crowd = make_crowd(12, seed=3)
    target = body.keypoints(crowd.betas, crowd.rotations, JOINTS)
    pose = body_of(target + 7.0, body, prior)
    found = body.keypoints(pose.betas, pose.rotations, JOINTS)
    error = mpjpe(found, target, JOINTS.index(ROOT))
    assert error.mean() < 0.03  # the prior is worth some centimetres
    assert error.max() < 0.05
    eye = torch.eye(3, dtype=torch.float64)
    turned = pose.rotations @ pose.rotations.transpose(-1, -2)
    torch.testing.assert_close(turned, eye.expand_as(turned), rtol=0, atol=1e-9)
    assert (torch.linalg.det(pose.rotations) > 0).all()


def test_each_persons_start_is_their_own(make_crowd, body, prior, lifter):
    crowd = make_crowd(5, seed=1)
    before = crowd.problem.keypoints.clone()
    pose, transl = lifted_start(crowd.problem, body, prior, lifter)
    assert torch.equal(crowd.problem.keypoints, before)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned, moved = lifted_start(crowd.problem.rows(order), body, prior, lifter)
    torch.testing.assert_close(turned.rotations, pose.rotations[order], rtol=0, atol=1e-8)
    torch.testing.assert_close(moved, transl[order], rtol=0, atol=1e-7)
    one = torch.tensor([2])
    alone, place = lifted_start(crowd.problem.rows(one), body, prior, lifter)
    torch.testing.assert_close(alone.rotations, pose.rotations[one], rtol=0, atol=1e-8)
    torch.testing.assert_close(place, transl[one], rtol=0, atol=1e-7)
    keypoints = crowd.problem.keypoints.clone()
    keypoints[1] = torch.nan
    broken = FitProblem.build(BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera)
    beside, _ = lifted_start(broken, body, prior, lifter)
    kept = torch.tensor([0, 2, 3, 4])
    torch.testing.assert_close(beside.rotations[kept], pose.rotations[kept], rtol=0, atol=1e-8)


def test_fits_from_there_are_near_the_truth(make_crowd, body, prior, lifter):
    crowd = make_crowd(12, seed=5)
    start = lifted_start(crowd.problem, body, prior, lifter)
    result = fit_people(crowd.problem, body, prior, RECIPES["gmm"], start=start)
    error = mpjpe(result.joints3d, crowd.joints3d, 0)
    begun = mpjpe(body.joints(start[0].betas, start[0].rotations), crowd.joints3d, 0)
    assert error.median() < 0.08
    assert error.median() < begun.median()
    assert (sum(result.energy.values()) <= result.start_energy + 1e-9).all()


def test_the_verb_has_it_as_a_prior(tmp_path):
    options = {"image_size": (512, 512), "recipe": "gmm", "body": "open-low"}
    begun = fit(None, KEYPOINTS, prior="lifting", **options)
    assert begun.result.prior == "lifting"
    assert "lifted" in begun.result.energy
    assert begun.result.joints3d.isfinite().all()
    assert begun.result.reprojection_px[0] < 0.05 * begun.result.size[0]
    with pytest.raises(InputError, match="terms of their own"):
        fit(None, KEYPOINTS, prior="lifting", **(options | {"recipe": "smplify"}))


# --- the prior ---


def test_the_term_is_a_quadratic_with_the_samples_covariance(make_crowd, body, prior, lifter):
    problem = make_crowd(3, seed=2).problem
    told = problem.schema, problem.keypoints, problem.confidence, problem.camera
    given = LiftedPrior(prior, lifter).given(*told, body)
    context = lifter_context(problem, lifter)
    latent = given.start().latent
    term = next(t for t in given.terms(latent, jacobian=True) if t.name == "lifted")
    noise = torch.randn(256, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pose = prior.decode(latent)
    points = rooted(body.keypoints(pose.betas, pose.rotations, JOINTS))
    for row in range(3):
        mode = lifter.mode(context[row : row + 1]).joints[0, 0, 1:].reshape(-1).numpy()
        samples = lifter.sample(context[row : row + 1], noise).joints[0, :, 1:].reshape(256, -1)
        off = samples.numpy() - mode
        covariance = off.T @ off / 256 + 0.02**2 * np.eye(48)
        error = points[row, 1:].reshape(-1).numpy() - mode
        expected = error @ np.linalg.solve(covariance, error)
        assert (term.residual[row] ** 2).sum().item() == pytest.approx(expected, rel=1e-6)


def test_the_terms_jacobian_is_its_derivative(make_crowd, body, prior, lifter):
    problem = make_crowd(2, seed=4).problem
    told = problem.schema, problem.keypoints, problem.confidence, problem.camera
    given = LiftedPrior(prior, lifter).given(*told, body)
    latent = given.start().latent

    def residual(step):
        moved = given.move(latent, step)
        return given.terms(moved, jacobian=False)[-1].residual

    slope = given.terms(latent, jacobian=True)[-1].jacobian
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(2, slope.shape[-1], generator=generator, dtype=torch.float64)
    small = 1e-5 * direction
    numeric = (residual(small) - residual(-small)) / 2e-5
    exact = (slope @ direction[..., None])[..., 0]
    torch.testing.assert_close(numeric, exact, rtol=1e-5, atol=1e-4)


def test_fits_with_it_are_each_persons_own(make_crowd, body, prior, lifter):
    problem = make_crowd(4, seed=6).problem
    model, recipe = LiftedPrior(prior, lifter), RECIPES["gmm"]
    whole = fit_seen(problem, body, model, recipe)
    order = torch.tensor([2, 0, 3, 1])
    turned = fit_seen(problem.rows(order), body, model, recipe)
    torch.testing.assert_close(turned.joints3d, whole.joints3d[order], rtol=0, atol=1e-5)
    keypoints = problem.keypoints.clone()
    keypoints[1] = torch.nan
    broken = FitProblem.build(BODY25, keypoints, problem.confidence, problem.camera)
    beside = fit_seen(broken, body, model, recipe)
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(beside.joints3d[kept], whole.joints3d[kept], rtol=0, atol=1e-5)
    assert beside.status[1].name == "INVALID"
