"""Batched Levenberg-Marquardt: every person has their own damping, acceptance and end.

Marquardt's damping is scaled by the Hessian's diagonal (depth is nearly free: an unscaled identity
would freeze it). Steps are accepted on the true robust energy. People who are done leave the batch;
a row with NaN never enters it. Where the prior is costly to differentiate, its derivatives are
learned while fitting (`flowfit.fitting.energy.tangent`); the gradient is exact all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.energy.normal_equations import damped_step
from flowfit.fitting.energy.objective import Evaluation, State
from flowfit.fitting.energy.tangent import Tangent
from flowfit.fitting.solvers.solution import Minimizable, Solution, Unfinished

_GOOD, _POOR = 0.75, 0.25  # shares of the predicted fall that came true
_LESS, _MORE = 1 / 3, 4.0  # what they do to the damping


@dataclass(frozen=True)
class Options:
    """Numbers of the solver.

    Attributes:
        damping: first damping. tolerance: relative fall of the energy that counts as none.
        patience: how many such iterations in a row end the fit; one is enough where the model
            promised no more and the step was hardly damped. largest_damping: beyond it the
            row has stalled. longest_turn: radians (and units of depth) one step may be long.
        rows: how many rows of derivatives, besides the gradient's, to pull back through a costly
            prior at the start and at every `refresh`th iteration (from 1); between these there is
            only the gradient's. None for all of them, always.
    """

    damping: float = 0.1
    tolerance: float = 1e-4
    patience: int = 2
    largest_damping: float = 1e8
    longest_turn: float = 1.0
    rows: int | None = 20
    refresh: int = 4


def minimize(
    objective: Minimizable, start: State, iterations: int, options: Options | None = None
) -> Solution:
    """Lower each person's energy from its start; no row ends above where it began.

    Args:
        objective: of B people. start: their states, not changed.
        iterations: at most, per person. options: the solver's numbers.
    """
    options = options or Options()
    columns = objective.free_columns(start.transl.device)
    schedule = _Schedule.of(objective, options)
    now = objective.evaluate(start, schedule.rows(0))
    open_rows = Unfinished(start, now)
    if not len(open_rows):
        return open_rows.solution()
    active = open_rows.active
    part, state, now = objective.rows(active), start.rows(active), now.rows(active)
    tangent = None
    if now.pulled is not None:
        tangent = Tangent.learned(now.pulled, part.prior.usual_derivatives())
    damping = torch.full_like(now.energy, options.damping)
    quiet = torch.zeros(len(active), dtype=torch.long, device=active.device)

    for iteration in range(1, iterations + 1):
        step, predicted, solved = _step(now, tangent, columns, damping, options.longest_turn)
        trial_state = part.move(state, step)
        trial = part.evaluate(trial_state, schedule.rows(iteration), iteration)
        if tangent is not None and trial.pulled is not None:
            tangent = tangent.corrected(trial.pulled)
        fall = now.energy - trial.energy
        better = solved & (fall > 0) & trial.finite()
        gain = torch.where(better, fall / predicted.clamp(min=torch.finfo(fall.dtype).tiny), -1.0)
        little = options.tolerance * now.energy
        small = better & (fall <= little)
        # a free step that promised as little as it brought: this is the minimum
        there = small & (predicted <= little) & (damping <= options.damping)
        state, now = trial_state.where(better, state), trial.where(better, now)

        change = torch.where(gain > _GOOD, _LESS, torch.where(gain < _POOR, _MORE, 1.0))
        damping = (damping * change).clamp(min=1e-10)
        quiet = torch.where(small, quiet + 1, torch.where(better, 0, quiet))
        quiet = torch.where(there, options.patience, quiet)
        converged = quiet >= options.patience
        stalled = ~converged & (damping > options.largest_damping)
        stay = open_rows.after_iteration(state, now, converged, stalled)
        if stay is not None:
            if not len(stay):
                break
            part, state, now = part.rows(stay), state.rows(stay), now.rows(stay)
            tangent = None if tangent is None else tangent.rows(stay)
            damping, quiet = damping[stay], quiet[stay]
    open_rows.give_up(state, now)
    return open_rows.solution()


@dataclass(frozen=True)
class _Schedule:
    """How many rows of derivatives each iteration pulls back; None for an exact model."""

    count: int | None
    every: int

    @classmethod
    def of(cls, objective: Minimizable, options: Options) -> _Schedule:
        if options.rows is None or not objective.prior.costly:
            return cls(None, 1)
        if not objective.moves_pose:
            return cls(0, 1)
        return cls(options.rows, options.refresh)

    def rows(self, iteration: int) -> int | None:
        return 0 if iteration % self.every else self.count


def _step(
    now: Evaluation, tangent: Tangent | None, columns: Tensor, damping: Tensor, longest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped step (B, P), the fall it predicts (B,), and whether it could be computed."""
    model = now.model(tangent).select(columns)
    short, solved = damped_step(model, damping)
    length = short.abs().amax(-1, keepdim=True)
    short = short * (longest / length.clamp(min=longest))
    step = torch.zeros_like(now.gradient)
    step[:, columns] = short
    return step, model.fall(short), solved
