"""The solvers by name; all take the same problem and keep the same promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fitting import adam, lbfgs, levenberg_marquardt
from fitting.objective import Objective, State
from fitting.solution import Solution


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
