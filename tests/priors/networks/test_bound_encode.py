from __future__ import annotations

import pytest
import torch

from flowfit.models.rotations import axis_angle_to_matrix, retract
from flowfit.priors.base import Pose
from flowfit.priors.keypoints.body_latent import BodyLatent
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.keypoints.prior import FlowGiven
from flowfit.priors.networks.bound_encode import BoundEncode
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.flow import ConditionalFlow


def randomised(module: torch.nn.Module, seed: int, share: float = 0.3) -> None:
    """Weights that do something: freshly made couplings are nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(share * noise / max(parameter.shape[-1:] or (1,)) ** 0.5)


def make_flow(activation="silu", conditional_scale=True, batch_norm=False):
    flow = ConditionalFlow(
        9, 5, hidden=16, steps=3, dropout=0.0, batch_norm=batch_norm,
        conditional_scale=conditional_scale, activation=activation,
    )  # fmt: skip
    flow = flow.double()
    randomised(flow, 1)
    for norm, _, _ in flow.steps:
        norm.initialized.fill_(True)
    return flow.eval()


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(4, 9, generator=generator, dtype=torch.float64),
        torch.randn(4, 5, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("conditional_scale", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_encodes_as_the_flow(given, activation, conditional_scale, batch_norm):
    vectors, context = given
    flow = make_flow(activation, conditional_scale, batch_norm)
    bound = BoundEncode.of(BoundFlow.bind(flow, context))
    expected = flow.encode(vectors, context).latent.detach()
    torch.testing.assert_close(bound.encode(vectors), expected)
    assert (expected - vectors).abs().max() > 0.1
    torch.testing.assert_close(bound.flow.decode(expected), vectors)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_derivatives_are_autograds(given, activation):
    vectors, context = given
    flow = make_flow(activation)
    found = BoundEncode.of(BoundFlow.bind(flow, context)).linearize(vectors)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: flow.encode(x, context).latent.sum(0), vectors
    ).transpose(0, 1)  # (B, latent, vector)
    eye = torch.eye(9, dtype=torch.float64).expand(4, -1, -1)
    torch.testing.assert_close(found.push(eye), jacobian.transpose(-1, -2))
    torch.testing.assert_close(found.pull(eye), jacobian)


def test_rows_are_the_conditions(given):
    vectors, context = given
    bound = BoundEncode.of(BoundFlow.bind(make_flow(), context))
    index = torch.tensor([2, 0, 2])
    torch.testing.assert_close(
        bound.rows(index).encode(vectors[index]), bound.encode(vectors)[index]
    )


@pytest.fixture(scope="module")
def people():
    """A small posterior over bodies that has looked at 3 people."""
    torch.manual_seed(0)
    posterior = KeypointPosterior(
        25, 4, context=8, hidden=24, steps=2, width=16, depth=1, activation="silu"
    ).double()
    randomised(posterior.flow, 2)
    for norm, _, _ in posterior.flow.steps:
        norm.initialized.fill_(True)
    posterior.eval()
    generator = torch.Generator().manual_seed(3)
    context = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    flow = BoundFlow.bind(posterior.flow, context)
    given = FlowGiven("small", posterior, context, flow, None, None)
    rotations = axis_angle_to_matrix(
        torch.randn(3, 24, 3, generator=generator, dtype=torch.float64)
    )
    betas = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    return given, Pose(rotations, betas)


def test_latent_of_a_body(people):
    given, pose = people
    latent = BodyLatent.of(given)
    torch.testing.assert_close(latent.encode(pose), given.encode(pose))
    torch.testing.assert_close(latent.linearize(pose).latent, given.encode(pose))


def test_how_the_latent_moves_with_the_body(people):
    given, pose = people
    latent = BodyLatent.of(given)
    found = latent.linearize(pose)
    jacobian = found.by_pose()
    assert jacobian.shape == (3, 148, 76)
    step = 1e-6

    def moved(place, by):
        change = torch.zeros(3, 76, dtype=torch.float64)
        change[:, place] = by
        turn = change[:, :72].unflatten(-1, (24, 3))
        return Pose(retract(pose.rotations, turn), pose.betas + change[:, 72:])

    for place in (0, 1, 2, 3, 40, 71, 72, 75):
        there, back = moved(place, step), moved(place, -step)
        slope = (latent.encode(there) - latent.encode(back)) / (2 * step)
        torch.testing.assert_close(jacobian[..., place], slope, rtol=1e-5, atol=1e-7)
    rows = torch.randn(3, 5, 148, dtype=torch.float64)
    torch.testing.assert_close(found.pull(rows), rows @ jacobian)
