"""Several pictures of one moment, no cameras: bodies averaged, and ProHMR's refinement.

Every view has a posterior of its own. ProHMR pulls their latents together: it minimises

    sum over v of |z_v|^2 + 300^2 sum over v of |R_v - mean R|^2

over the 23 body rotations (not the root's, which differs from view to view), from all z = 0. Betas
are the views' mean. Neither keypoints nor cameras enter beyond what the posteriors were told.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.models.alignment import nearest_rotation
from flowfit.models.kinematics import NUM_JOINTS
from flowfit.models.rotations import rotation_6d_to_matrix
from flowfit.priors.base import Pose, PosePrior
from flowfit.priors.keypoints.posterior import ROTATION_NUMBERS
from flowfit.priors.networks.bound_flow import BoundFlow

PULL = 300.0**2
_STEPS, _ITERATIONS, _HISTORY = 10, 20, 10
_LEAST_FALL = 1e-6  # of the energy, in a step of 20 iterations


def averaged(pose: Pose) -> Pose:
    """Each view's own root on the views' mean body; V views of one person."""
    body = nearest_rotation(pose.rotations[:, 1:].mean(0))
    rotations = torch.cat((pose.rotations[:, :1], body.expand(len(pose.betas), -1, -1, -1)), 1)
    return Pose(rotations, pose.betas.mean(0, keepdim=True).expand_as(pose.betas))


def refined(given: PosePrior) -> Pose:
    """ProHMR's refinement of V views of one person.

    Its bodies are pulled together and not made equal, as in ProHMR.
    """
    start = given.start()
    flow = given.flow
    assert start is not None
    assert flow is not None
    latent = torch.nn.Parameter(start.latent[:, : flow.features].clone())
    solver = torch.optim.LBFGS(
        [latent], max_iter=_ITERATIONS, history_size=_HISTORY, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        value, latent.grad = energy_and_gradient(flow, latent.detach())
        return value

    before = float("inf")
    for _ in range(_STEPS):
        now = float(solver.step(closure))
        if before - now <= _LEAST_FALL * abs(now):
            break
        before = now
    with torch.no_grad():
        whole = start.latent.clone()
        whole[:, : flow.features] = latent.detach()
        pose = given.decode(whole)
    return Pose(pose.rotations, pose.betas.mean(0, keepdim=True).expand_as(pose.betas))


def energy_and_gradient(flow: BoundFlow, latent: Tensor) -> tuple[Tensor, Tensor]:
    """What ProHMR minimises, halved as every energy here, of V latents (V, D); its gradient."""
    vectors, pull_back = flow.linearize(latent)
    with torch.enable_grad():
        vectors = vectors.requires_grad_(True)
        six = vectors[:, :ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 6))
        rotations = rotation_6d_to_matrix(six)[:, 1:]
        apart = rotations - rotations.mean(0, keepdim=True)
        together = 0.5 * PULL * (apart * apart).sum()
        (by_vectors,) = torch.autograd.grad(together, vectors)
    by_latent = latent + pull_back(by_vectors[:, None])[:, 0]
    return together.detach() + 0.5 * (latent * latent).sum(), by_latent
