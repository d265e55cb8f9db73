"""How a pose moves with a prior's latent, learned row by row while fitting.

Differentiating a flow exactly costs more than everything else in an iteration. The gradient needs
one row of derivatives pulled back through it; the Gauss-Newton model needs fifty. So only a few
rows are pulled back at each iteration, and the matrix that remembers them is corrected by the
least change that agrees with the new ones (the adjoint Broyden update of Schlenkrich, Griewank and
Walther 2010, in blocks). The gradient stays exact, and with it the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.rows import Rows

_JITTER = 1e-5  # of the diagonal: rows of a sketch may depend on each other


class Pulled(NamedTuple):
    """Rows (B, M, Q) of derivatives by the pose, and the same by the prior's step (B, M, T)."""

    by_pose: Tensor
    by_step: Tensor


@dataclass(frozen=True, eq=False)
class Tangent(Rows):
    """Approximate derivatives (B, Q, T) of the pose by the prior's step."""

    matrix: Tensor

    @classmethod
    def learned(cls, pulled: Pulled, usual: Tensor | None = None) -> Tangent:
        """The matrix nearest to the usual one (else to zero) that agrees with some rows."""
        by_pose, by_step = pulled
        if usual is None:
            usual = by_pose.new_zeros(len(by_pose), by_pose.shape[-1], by_step.shape[-1])
        return cls(usual).corrected(pulled)

    def corrected(self, pulled: Pulled) -> Tangent:
        """The nearest matrix that agrees with some rows; a row that fails keeps what it had."""
        by_pose, by_step = pulled
        gram = by_pose @ by_pose.transpose(-1, -2)
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        least = 1e-9 * diagonal.amax(-1, keepdim=True) + torch.finfo(gram.dtype).tiny
        factor, info = torch.linalg.cholesky_ex(
            gram + torch.diag_embed(_JITTER * diagonal + least), check_errors=False
        )
        wrong = by_step - by_pose @ self.matrix
        change = by_pose.transpose(-1, -2) @ torch.cholesky_solve(wrong, factor)
        good = (info == 0) & change.isfinite().all(-1).all(-1)
        return Tangent(self.matrix + torch.where(good[:, None, None], change, 0))


def sketch(rows: Tensor, count: int, turn: int = 0) -> Tensor:
    """`count` random mixtures (B, count, Q) of a person's rows (B, R, Q); or all the rows.

    Other mixtures at every `turn`, so that in time all directions are seen; the same for everybody,
    always: no result depends on company or on the order of calls.
    """
    if count >= rows.shape[1]:
        return rows
    return _mixing(count, rows.shape[1], turn).to(rows) @ rows


@lru_cache(maxsize=1024)
def _mixing(count: int, rows: int, turn: int) -> Tensor:
    generator = torch.Generator().manual_seed(turn)
    return torch.randn(count, rows, generator=generator, dtype=torch.float64)
