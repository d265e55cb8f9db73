"""Batched L-BFGS with a weak-Wolfe line search, every person on their own.

The two-loop recursion of Nocedal (1980) with the bisection line search of Lewis and Overton (2013),
which brackets and halves and therefore runs for a whole batch at once. For the published baselines
and as a check of the second-order solver.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation, Objective, State
from flowfit.fitting.solvers.solution import Solution, Unfinished
from flowfit.models.rows import Rows


@dataclass(frozen=True)
class Options:
    """Numbers of the solver.

    Attributes:
        history: how many steps it remembers. evaluations: of the energy in one line search.
        tolerance, patience: as in Levenberg-Marquardt. decrease, curvature: Wolfe's constants.
        longest_turn: radians (and units of depth) one step may be long.
    """

    history: int = 10
    evaluations: int = 15
    tolerance: float = 1e-5
    patience: int = 2
    decrease: float = 1e-4
    curvature: float = 0.9
    longest_turn: float = 1.0


@dataclass(eq=False)
class _Memory(Rows):
    """Steps and changes of the gradient (B, M, P), oldest first; unused ones are zero."""

    steps: Tensor
    changes: Tensor

    @classmethod
    def empty(cls, like: Tensor, size: int) -> _Memory:
        zero = like.new_zeros(len(like), size, like.shape[-1])
        return cls(zero, zero.clone())

    def direction(self, gradient: Tensor) -> Tensor:
        """Minus the inverse Hessian's estimate times the gradient."""
        steps, changes = self.steps, self.changes
        curve = (steps * changes).sum(-1)  # (B, M)
        used = curve > 0
        inverse = torch.where(used, 1 / torch.where(used, curve, 1), 0)
        left, shares = gradient, []
        for i in reversed(range(steps.shape[1])):
            share = inverse[:, i] * (steps[:, i] * left).sum(-1)
            left = left - share[:, None] * changes[:, i]
            shares.append(share)
        shares.reverse()
        newest = (changes[:, -1] ** 2).sum(-1)
        scale = torch.where(used[:, -1], curve[:, -1] / newest.clamp(min=1e-30), 1.0)
        # with no memory yet: a step of length one tenth
        first = 0.1 / gradient.norm(dim=-1).clamp(min=0.1)
        left = left * torch.where(used.any(-1), scale, first)[:, None]
        for i in range(steps.shape[1]):
            share = inverse[:, i] * (changes[:, i] * left).sum(-1)
            left = left + (shares[i] - share)[:, None] * steps[:, i]
        return -left

    def learn(self, step: Tensor, change: Tensor, who: Tensor) -> None:
        """Remember a step of those people whose gradient changed along it."""
        positive = (step * change).sum(-1) > 1e-10 * step.norm(dim=-1) * change.norm(dim=-1)
        kept = (who & positive)[:, None, None]
        self.steps = torch.where(kept, _push(self.steps, step), self.steps)
        self.changes = torch.where(kept, _push(self.changes, change), self.changes)


def _push(history: Tensor, newest: Tensor) -> Tensor:
    return torch.cat((history[:, 1:], newest[:, None]), 1)


def minimize(
    objective: Objective, start: State, iterations: int, options: Options | None = None
) -> Solution:
    """Lower each person's energy from its start; no row ends above where it began.

    Args:
        objective: of B people. start: their states, not changed.
        iterations: at most, per person; each evaluates the energy once or more.
        options: the solver's numbers.
    """
    options = options or Options()
    columns = objective.free_columns(start.transl.device)
    now = objective.evaluate(start, 0)
    books = Unfinished(start, now)
    if not len(books):
        return books.solution()
    active = books.active
    part, state, now = objective.rows(active), start.rows(active), now.rows(active)
    memory = _Memory.empty(now.gradient[:, columns], options.history)
    quiet = torch.zeros(len(active), dtype=torch.long, device=active.device)

    for _ in range(iterations):
        gradient = now.gradient[:, columns]
        direction = memory.direction(gradient)
        downhill = (direction * gradient).sum(-1) < 0
        direction = torch.where(downhill[:, None], direction, -gradient)
        longest = direction.abs().amax(-1, keepdim=True)
        direction = direction * (options.longest_turn / longest.clamp(min=options.longest_turn))
        found = _line_search(part, state, now, direction, columns, options)
        better = found.better
        fall = now.energy - found.now.energy
        small = better & (fall <= options.tolerance * now.energy)
        memory.learn(found.step, found.now.gradient[:, columns] - gradient, better)
        state, now = found.state.where(better, state), found.now.where(better, now)
        quiet = torch.where(small, quiet + 1, torch.where(better, 0, quiet))
        converged = better & (quiet >= options.patience)
        stay = books.after_iteration(state, now, converged, ~better)
        if stay is not None:
            if not len(stay):
                break
            part, state, now = part.rows(stay), state.rows(stay), now.rows(stay)
            memory, quiet = memory.rows(stay), quiet[stay]
    books.give_up(state, now)
    return books.solution()


@dataclass(frozen=True, eq=False)
class _Found:
    """Where a line search ended: step (B, F) on the free numbers, and whether it goes down."""

    state: State
    now: Evaluation
    step: Tensor
    better: Tensor


def _line_search(
    part: Objective,
    state: State,
    now: Evaluation,
    direction: Tensor,
    columns: Tensor,
    options: Options,
) -> _Found:
    slope = (now.gradient[:, columns] * direction).sum(-1)
    length, low = torch.ones_like(slope), torch.zeros_like(slope)
    high = torch.full_like(slope, torch.inf)
    best_length = torch.zeros_like(slope)
    best_state, best = state, now
    searching = torch.ones_like(slope, dtype=torch.bool)
    for _ in range(options.evaluations):
        step = torch.zeros_like(now.gradient)
        step[:, columns] = length[:, None] * direction
        trial_state = part.move(state, step)
        trial = part.evaluate(trial_state, 0)
        enough = trial.energy <= now.energy + options.decrease * length * slope
        enough &= trial.finite() & (trial.energy < now.energy)
        flat = (trial.gradient[:, columns] * direction).sum(-1) >= options.curvature * slope
        taken = searching & enough
        best_state, best = trial_state.where(taken, best_state), trial.where(taken, best)
        best_length = torch.where(taken, length, best_length)
        searching = searching & ~(enough & flat)
        if not bool(searching.any()):
            break
        low, high = torch.where(enough, length, low), torch.where(enough, high, length)
        halved = 0.5 * (low + high)
        length = torch.where(searching, torch.where(high.isinf(), 2 * length, halved), length)
    return _Found(best_state, best, best_length[:, None] * direction, best_length > 0)
