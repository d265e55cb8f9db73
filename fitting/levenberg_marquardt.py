"""Batched Levenberg-Marquardt: every person has their own damping, acceptance and end.

Marquardt's damping is scaled by the Hessian's diagonal (depth is nearly free: an unscaled identity
would freeze it); gain-ratio control of the damping follows Nielsen (1999). Steps are accepted on
the true robust energy. People who are done leave the batch; a row with NaN never enters it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from fitting.objective import Evaluation, Objective, State


class Status(Enum):
    """How a person's minimisation ended: cause, and what to do."""

    CONVERGED = "the energy stopped falling"
    STALLED = "no step lowers the energy any more; usually the minimum, to the number type's digits"
    MAX_ITERATIONS = "still falling at the last iteration; allow more iterations"
    INVALID = "the problem has values that are not finite; look at this person's keypoints"


STATUSES: tuple[Status, ...] = tuple(Status)
_CODE = {status: i for i, status in enumerate(STATUSES)}


@dataclass(frozen=True)
class Options:
    """Numbers of the solver.

    Attributes:
        damping: first damping. tolerance: relative fall of the energy that counts as none.
        patience: how many such iterations in a row end the fit. largest_damping: beyond it the
            row has stalled. longest_turn: radians (and units of depth) one step may be long.
    """

    damping: float = 1e-2
    tolerance: float = 1e-5
    patience: int = 2
    largest_damping: float = 1e8
    longest_turn: float = 1.0


@dataclass(frozen=True, eq=False)
class Solution:
    """Where each person ended.

    Attributes:
        state: the best state seen. evaluation: the energy and its model there.
        status: (B,) places in `STATUSES`. iterations: (B,).
    """

    state: State
    evaluation: Evaluation
    status: Tensor
    iterations: Tensor


def minimize(
    objective: Objective, start: State, iterations: int, options: Options | None = None
) -> Solution:
    """Lower each person's energy from its start; no row ends above where it began.

    Args:
        objective: of B people. start: their states, not changed.
        iterations: at most, per person. options: the solver's numbers.
    """
    options = options or Options()
    device = start.transl.device
    columns = objective.free_columns(device)
    evaluation = objective.evaluate(start)
    count = len(start.transl)
    status = torch.full((count,), _CODE[Status.MAX_ITERATIONS], device=device)
    spent = torch.zeros(count, dtype=torch.long, device=device)
    valid = (
        evaluation.energy.isfinite()
        & evaluation.gradient.isfinite().all(-1)
        & evaluation.hessian.isfinite().all(-1).all(-1)
    )
    status[~valid] = _CODE[Status.INVALID]
    active = valid.nonzero()[:, 0]
    if not len(active):
        return Solution(start, evaluation, status, spent)
    final_state = State(start.latent.clone(), start.transl.clone())
    final = Evaluation(
        evaluation.energy.clone(),
        {n: v.clone() for n, v in evaluation.terms.items()},
        evaluation.gradient.clone(),
        evaluation.hessian.clone(),
    )
    part, state, now = objective.rows(active), start.rows(active), evaluation.rows(active)
    damping = torch.full_like(now.energy, options.damping)
    growth = torch.full_like(now.energy, 2.0)
    quiet = torch.zeros(len(active), dtype=torch.long, device=device)

    for _ in range(iterations):
        step, predicted, solved = _step(now, columns, damping, options.longest_turn)
        trial_state = part.move(state, step)
        trial = part.evaluate(trial_state)
        fall = now.energy - trial.energy
        better = solved & trial.energy.isfinite() & (fall > 0)
        better &= trial.hessian.isfinite().all(-1).all(-1)
        state = trial_state.where(better, state)
        small = better & (fall <= options.tolerance * now.energy)
        now = trial.where(better, now)
        spent[active] += 1

        gain = (fall / predicted.clamp(min=torch.finfo(fall.dtype).tiny)).clamp(0, 1)
        shrink = (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3)
        damping = torch.where(better, damping * shrink, damping * growth).clamp(min=1e-10)
        growth = torch.where(better, torch.full_like(growth, 2.0), growth * 2)
        quiet = torch.where(small, quiet + 1, torch.where(better, 0, quiet))
        converged = quiet >= options.patience
        stalled = ~converged & (damping > options.largest_damping)
        done = converged | stalled
        if bool(done.any()):
            status[active[converged]] = _CODE[Status.CONVERGED]
            status[active[stalled]] = _CODE[Status.STALLED]
            _write(final_state, final, active[done], state, now, done)
            stay = (~done).nonzero()[:, 0]
            active = active[stay]
            if not len(active):
                break
            part, state, now = part.rows(stay), state.rows(stay), now.rows(stay)
            damping, growth, quiet = damping[stay], growth[stay], quiet[stay]
    if len(active):
        everyone = torch.ones(len(active), dtype=torch.bool, device=device)
        _write(final_state, final, active, state, now, everyone)
    return Solution(final_state, final, status, spent)


def _write(
    to_state: State, to: Evaluation, rows: Tensor, state: State, now: Evaluation, which: Tensor
) -> None:
    """Put the rows that are done where they belong (into buffers that this file made)."""
    to_state.latent[rows] = state.latent[which]
    to_state.transl[rows] = state.transl[which]
    to.energy[rows] = now.energy[which]
    for name, value in now.terms.items():
        to.terms[name][rows] = value[which]
    to.gradient[rows] = now.gradient[which]
    to.hessian[rows] = now.hessian[which]


def _step(
    now: Evaluation, columns: Tensor, damping: Tensor, longest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped Newton step (B, P), the fall it predicts (B,), and whether it could be computed."""
    gradient = now.gradient[:, columns]
    hessian = now.hessian[:, columns[:, None], columns]
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    # a number that nothing depends on still needs a positive diagonal
    floor = 1e-7 * diagonal.amax(-1, keepdim=True).clamp(min=1e-12)
    damped = hessian + torch.diag_embed(damping[:, None] * diagonal.clamp(min=floor) + floor)
    factor, info = torch.linalg.cholesky_ex(damped)
    solved = info == 0
    eye = torch.eye(len(columns), dtype=factor.dtype, device=factor.device)
    factor = torch.where(solved[:, None, None], factor, eye)  # a failure stays in its row
    short = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    length = short.abs().amax(-1, keepdim=True)
    short = short * (longest / length.clamp(min=longest))
    predicted = -(gradient * short).sum(-1) - 0.5 * (
        short * (hessian @ short[..., None])[..., 0]
    ).sum(-1)
    step = torch.zeros_like(now.gradient)
    step[:, columns] = short
    return step, predicted, solved & short.isfinite().all(-1)
