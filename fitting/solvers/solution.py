"""How a batched minimisation ends, person by person; shared by all solvers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation, State
from flowfit.models.rows import Rows


class Differentiated(Protocol):
    """How a solver comes by the derivatives of a prior; see `PosePrior`."""

    costly: bool

    def usual_derivatives(self) -> Tensor | None:
        """See `PosePrior`."""
        ...


class Minimizable(Protocol):
    """What a second-order solver asks of an objective; see `Objective`."""

    @property
    def prior(self) -> Differentiated:
        """Whose derivatives may have to be learned."""
        ...

    @property
    def moves_pose(self) -> bool:
        """Whether anything of the prior's moves."""
        ...

    def free_columns(self, device: torch.device | str = "cpu") -> Tensor:
        """Places of a step that move."""
        ...

    def rows(self, index: Tensor) -> Minimizable:
        """The objective of some of the people."""
        ...

    def move(self, state: State, step: Tensor) -> State:
        """The state after a step."""
        ...

    def evaluate(self, state: State, pulled_rows: int | None = None, turn: int = 0) -> Evaluation:
        """Energy, gradient and quadratic model at a state; see `Objective`."""
        ...


class Status(Enum):
    """How a person's minimisation ended: cause, and what to do."""

    CONVERGED = "the energy stopped falling"
    STALLED = "no step lowers the energy any more; usually the minimum, to the number type's digits"
    MAX_ITERATIONS = "still falling at the last iteration; allow more iterations"
    UNFITTED = "nothing was minimised: this is where a fit would begin"
    INVALID = "the problem has values that are not finite; look at this person's keypoints"


STATUSES: tuple[Status, ...] = tuple(Status)
_CODE = {status: i for i, status in enumerate(STATUSES)}


@dataclass(frozen=True, eq=False)
class Solution(Rows):
    """Where each person ended.

    Attributes:
        state: the best state seen. energy: (B,) there. terms: name -> (B,), they add up to it.
        status: (B,) places in `STATUSES`. iterations: (B,).
    """

    state: State
    energy: Tensor
    terms: dict[str, Tensor]
    status: Tensor
    iterations: Tensor

    def unfitted(self) -> Solution:
        """The same, told that no iteration was asked for."""
        never = self.status == _CODE[Status.MAX_ITERATIONS]
        return replace(self, status=self.status.masked_fill(never, _CODE[Status.UNFITTED]))


class Unfinished:
    """Keeps the books of a minimisation: who is still in the batch, and where the others ended.

    People whose start is not finite have ended before the first iteration.

    Attributes:
        active: (A,) rows of the people who are still in the batch.
    """

    def __init__(self, start: State, first: Evaluation) -> None:
        device = start.transl.device
        count = len(start.transl)
        valid = first.finite()
        self.active = valid.nonzero()[:, 0]
        self._latent, self._transl = start.latent.clone(), start.transl.clone()
        self._energy = first.energy.clone()
        self._terms = {n: v.clone() for n, v in first.terms.items()}
        self._status = torch.full((count,), _CODE[Status.MAX_ITERATIONS], device=device)
        self._status[~valid] = _CODE[Status.INVALID]
        self._spent = torch.zeros(count, dtype=torch.long, device=device)

    def __len__(self) -> int:
        return len(self.active)

    def after_iteration(
        self, state: State, now: Evaluation, converged: Tensor, stalled: Tensor
    ) -> Tensor | None:
        """Note who is done. -> which of the active stay, or None when all do."""
        self._spent[self.active] += 1
        done = converged | stalled
        if not bool(done.any()):
            return None
        self._status[self.active[converged]] = _CODE[Status.CONVERGED]
        self._status[self.active[stalled]] = _CODE[Status.STALLED]
        self._write(state, now, done)
        stay = (~done).nonzero()[:, 0]
        self.active = self.active[stay]
        return stay

    def give_up(self, state: State, now: Evaluation) -> None:
        """The iterations are used up."""
        if len(self.active):
            self._write(state, now, torch.ones_like(self.active, dtype=torch.bool))

    def solution(self) -> Solution:
        """Where everybody ended."""
        state = State(self._latent, self._transl)
        return Solution(state, self._energy, self._terms, self._status, self._spent)

    def _write(self, state: State, now: Evaluation, which: Tensor) -> None:
        rows = self.active[which]
        self._latent[rows], self._transl[rows] = state.latent[which], state.transl[which]
        self._energy[rows] = now.energy[which]
        for name, value in now.terms.items():
            self._terms[name][rows] = value[which]
