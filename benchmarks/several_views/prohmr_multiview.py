"""ProHMR's multi-view refinement, re-stated to be compared with: ProHMR (ICCV 2021).

Every view keeps a latent of its own, z_v, and they are pulled together:

    sum_v |z_v|^2 + 300^2 sum_v |R_v - mean over the views of R|^2

over the 23 body rotation matrices, not the root's. Keypoints and cameras are not looked at beyond
what the posterior was told; betas are the mean over the views. One L-BFGS over the summed energy of
the batch, as in ProHMR's fitting (`benchmarks.solvers.prohmr_optimizer`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.solvers.prohmr_optimizer import (
    FALL_TOLERANCE,
    HISTORY,
    ITERATIONS_A_STEP,
    STEPS_DEMO,
    decode_with_nflows,
)
from flowfit.models.kinematics import NUM_JOINTS
from flowfit.models.rotations import rotation_6d_to_matrix
from flowfit.priors.base import Posterior
from flowfit.priors.keypoints.posterior import ROTATION_NUMBERS

PULL = 300.0**2


class Refined(NamedTuple):
    """Each view's body after the refinement, in that view's frame.

    Attributes:
        rotations: (F, V, 24, 3, 3). betas: (F, S), the views' mean.
        energy: (F,) ProHMR's, halved.
    """

    rotations: Tensor
    betas: Tensor
    energy: Tensor


def refine_like_prohmr(given: Posterior, seen: Tensor, steps: int = STEPS_DEMO) -> Refined:
    """Refine F frames of V views.

    Args:
        given: the posteriors of (F V) views, frame after frame.
        seen: (F, V) views that saw the person; the others are left out, which ProHMR, where all
            views always do, has no need to. steps: L-BFGS calls of 20 iterations each.
    """
    context = given.context
    latent = context.new_zeros(len(context), given.flow.features).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [latent],
        lr=1.0,
        max_iter=ITERATIONS_A_STEP,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        energy = prohmr_energy(given, latent, seen).sum()
        energy.backward()  # type: ignore[no-untyped-call]
        return energy

    before: float | None = None
    for _ in range(steps):
        now = float(optimizer.step(closure).detach())  # type: ignore[arg-type]
        if before is not None:
            change = (before - now) / max(abs(before), abs(now), 1.0)
            if change <= FALL_TOLERANCE:
                break
        before = now
    with torch.no_grad():
        rotations, betas = _bodies(given, latent, seen.shape[1])
        energy = prohmr_energy(given, latent, seen)
    share = (seen / seen.sum(1, keepdim=True))[..., None]
    return Refined(rotations, (share * betas).sum(1), energy)


def prohmr_energy(given: Posterior, latent: Tensor, seen: Tensor) -> Tensor:
    """ProHMR's energy (F,) of latents (F V, D); half of it, as every energy here."""
    views = seen.shape[1]
    rotations, _ = _bodies(given, latent, views)
    counts = seen[..., None, None, None].to(latent)
    of_body = rotations[:, :, 1:]
    mean = (counts * of_body).sum(1, keepdim=True) / counts.sum(1, keepdim=True)
    spread = counts * (of_body - mean)
    squared = seen * (latent * latent).sum(-1).unflatten(0, (-1, views))
    return 0.5 * (squared.sum(1) + PULL * (spread * spread).flatten(1).sum(-1))


def _bodies(given: Posterior, latent: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Rotations (F, V, 24, 3, 3) and betas (F, V, S)."""
    vectors = decode_with_nflows(given.network, latent, given.context)
    six = vectors[:, :ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 6))
    shape = (-1, views)
    return (
        rotation_6d_to_matrix(six).unflatten(0, shape),
        vectors[:, ROTATION_NUMBERS:].unflatten(0, shape),
    )
