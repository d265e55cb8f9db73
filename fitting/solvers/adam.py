"""Adam on each person's own energy, as the SMPLify of SPIN uses it; the best state seen is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.solvers.solution import Solution, Unfinished


@dataclass(frozen=True)
class Options:
    """Numbers of the solver (Kingma and Ba 2015); the rate is SPIN's, in radians."""

    rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


def minimize(
    objective: Objective, start: State, iterations: int, options: Options | None = None
) -> Solution:
    """Lower each person's energy from its start; no row ends above where it began.

    All iterations are run: Adam has no test of convergence.

    Args:
        objective: of B people. start: their states, not changed.
        iterations: for every person. options: the solver's numbers.
    """
    options = options or Options()
    columns = objective.free_columns(start.transl.device)
    now = objective.evaluate(start, 0)
    books = Unfinished(start, now)
    if not len(books):
        return books.solution()
    active = books.active
    part, state, now = objective.rows(active), start.rows(active), now.rows(active)
    best_state, best = state, now
    mean = torch.zeros_like(now.gradient[:, columns])
    square = torch.zeros_like(mean)
    nobody = torch.zeros(len(active), dtype=torch.bool, device=active.device)
    first, second = options.betas

    for iteration in range(1, iterations + 1):
        # somebody whose gradient is no number stays where they are
        gradient = now.gradient[:, columns].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient * gradient
        level = (square / (1 - second**iteration)).sqrt() + options.epsilon
        step = torch.zeros_like(now.gradient)
        step[:, columns] = -options.rate * (mean / (1 - first**iteration)) / level
        state = part.move(state, step)
        now = part.evaluate(state, 0)
        better = now.finite() & (now.energy < best.energy)
        best_state, best = state.where(better, best_state), now.where(better, best)
        books.after_iteration(best_state, best, nobody, nobody)
    books.give_up(best_state, best)
    return books.solution()
