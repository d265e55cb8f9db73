"""The solvers by name; all take the same problem and keep the same promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.solvers import adam, lbfgs, levenberg_marquardt
from flowfit.fitting.solvers.solution import Solution
from flowfit.models.errors import InputError


class Solver(Protocol):
    """Lowers each person's energy from its start; no row ends above where it began."""

    def __call__(self, objective: Objective, start: State, iterations: int, /) -> Solution:
        """At most so many iterations a person."""
        ...


SOLVERS: Mapping[str, Solver] = {
    "lm": levenberg_marquardt.minimize,
    "lbfgs": lbfgs.minimize,
    "adam": adam.minimize,
}


def check_solver(name: str | None) -> None:
    """InputError when a name is no solver's; None is fine."""
    if name is not None and name not in SOLVERS:
        raise InputError(f"solver {name!r}: choose from {', '.join(SOLVERS)}")


def minimize_stage(
    objective: Objective,
    start: State,
    solver: str | None = None,
    options: levenberg_marquardt.Options | None = None,
) -> Solution:
    """Minimise a stage with its own solver, or with another one.

    Args:
        objective: of B people, in the stage. start: their states, not changed.
        solver: a name in `SOLVERS`; None for the stage's own. options: of Levenberg-Marquardt.
    """
    stage = objective.stage
    name = solver or stage.solver
    if not stage.iterations:
        return adam.minimize(objective, start, 0).unfitted()
    if name == "lm":
        return levenberg_marquardt.minimize(objective, start, stage.iterations, options)
    if name == "adam" and stage.rate is not None:
        numbers = replace(adam.Options(), rate=stage.rate)
        return adam.minimize(objective, start, stage.iterations, numbers)
    return SOLVERS[name](objective, start, stage.iterations)
