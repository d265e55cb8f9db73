"""ProHMR's optimizer, re-stated faithfully to be compared with: ProHMR's fitting (ICCV 2021).

One L-BFGS over the summed energy of the whole batch. What is known to be wrong with it is kept:

- The people of a batch share curvature, step length and stopping: a result depends on company.
- The stopping test compares |max(gradient)|, not max |gradient|, and the relative change has a
  sign: a rise stops the run, and the worse point is kept.
- The whole mesh is skinned at every evaluation, though 25 keypoints are needed.
- The flow is nflows' modules under autograd, the condition's share computed anew each time.

Not kept, for being a mistake of bookkeeping and not of the method: the keypoints of the caller are
not changed in place.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Objective, State
from flowfit.models.rotations import rotation_6d_to_matrix
from flowfit.priors.networks.flow import ConditionalFlow

HISTORY, ITERATIONS_A_STEP = 10, 20  # torch allows 25 evaluations for 20 iterations
STEPS_DEMO, STEPS_EVALUATION = 10, 30
FALL_TOLERANCE = GRADIENT_TOLERANCE = 1e-9
_SIX = 144  # numbers of the 24 rotations


@dataclass(frozen=True, eq=False)
class ProHMRFit:
    """What ProHMR's optimizer did.

    Attributes:
        state: where it ended. evaluations: of energy and gradient. seconds: CPU time.
        curve: after each evaluation: CPU seconds so far and the summed energy.
    """

    state: State
    evaluations: int
    seconds: float
    curve: list[tuple[float, float]]


def fit_like_prohmr(objective: Objective, start: State, steps: int = STEPS_DEMO) -> ProHMRFit:
    """Minimise an objective over (z, translation) as ProHMR does; see `fits_like_prohmr`."""
    return fits_like_prohmr(objective, start, (steps,))[0]


def fits_like_prohmr(
    objective: Objective, start: State, steps: tuple[int, ...] = (STEPS_DEMO, STEPS_EVALUATION)
) -> list[ProHMRFit]:
    """The same run, stopped after several numbers of steps.

    Args:
        objective: with a posterior as prior and the recipe `prohmr`'s stage.
        start: the mode. steps: L-BFGS calls of 20 iterations each, rising.
    """
    latent = start.latent.clone().requires_grad_(True)
    transl = start.transl.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [latent, transl],
        lr=1.0,
        max_iter=ITERATIONS_A_STEP,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )
    began = time.process_time()
    curve: list[tuple[float, float]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        energy = prohmr_energy(objective, latent, transl).sum()
        energy.backward()  # type: ignore[no-untyped-call]
        curve.append((time.process_time() - began, float(energy.detach())))
        return energy

    def so_far() -> ProHMRFit:
        state = State(latent.detach().clone(), transl.detach().clone())
        return ProHMRFit(state, len(curve), time.process_time() - began, list(curve))

    found: list[ProHMRFit] = []
    before: float | None = None
    for done in range(steps[-1]):
        if done in steps:
            found.append(so_far())
        now = float(optimizer.step(closure).detach())  # type: ignore[arg-type]
        if before is not None:
            change = (before - now) / max(abs(before), abs(now), 1.0)
            if change <= FALL_TOLERANCE:
                break
        gradients = [p.grad for p in (latent, transl) if p.grad is not None]
        if all(abs(float(g.max())) < GRADIENT_TOLERANCE for g in gradients):
            break
        before = now
    last = so_far()
    return found + [last] * (len(steps) - len(found))


def prohmr_energy(objective: Objective, latent: Tensor, transl: Tensor) -> Tensor:
    """`Objective.evaluate`'s energy (B,) ProHMR's way: for autograd, over the whole mesh."""
    problem, body = objective.problem, objective.body
    posterior = objective.prior.as_posterior()
    assert posterior is not None
    vectors = decode_with_nflows(posterior.network, latent, posterior.context)
    rotations = rotation_6d_to_matrix(vectors[:, :_SIX].unflatten(-1, (-1, 6)))
    betas = vectors[:, _SIX:]
    model = body.keypoint_model(problem.schema)
    vertices = body.vertices(betas, rotations)
    joints = body.joints(betas, rotations)
    points = model.mixing @ torch.cat((joints, vertices[:, model.ids]), 1)
    pixels, _ = problem.camera.project(points + transl[:, None])

    data = objective.stage.reprojection
    side = 2 * problem.camera.center.amax(-1)
    names = problem.schema.names
    used = torch.tensor([n not in data.ignored for n in names], device=latent.device)
    trust = problem.evidence() * model.available * used
    squared = (pixels - problem.keypoints) ** 2
    robust = data.scale**2 * squared / (data.scale**2 + squared)
    reprojection = (trust[..., None] ** 2 * robust).sum((-1, -2)) * (1000 / side) ** 2
    weight = objective.stage.weights["latent"]
    return 0.5 * (reprojection + weight * (latent * latent).sum(-1))


def decode_with_nflows(flow: ConditionalFlow, latent: Tensor, context: Tensor) -> Tensor:
    """Vectors of latents through nflows' own `inverse`, layer after layer."""
    scale = flow.scales(context)
    scaled = latent if scale is None else latent * scale.exp()
    return flow._transform.inverse(scaled, context)[0]
