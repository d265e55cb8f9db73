"""The damped Gauss-Newton step of every person, by whichever of two systems is smaller."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class GaussNewton(NamedTuple):
    """The quadratic model of each person's energy at a state.

    Attributes:
        gradient: (B, P). jacobian: (B, R, P) of the residuals that mix numbers of a step.
        diagonal: (B, P), what the residuals that depend on one number each add to the Hessian.
    """

    gradient: Tensor
    jacobian: Tensor
    diagonal: Tensor

    @property
    def hessian(self) -> Tensor:
        """(B, P, P)."""
        return self.jacobian.transpose(-1, -2) @ self.jacobian + torch.diag_embed(self.diagonal)

    def hessian_diagonal(self) -> Tensor:
        """(B, P), without the rest."""
        return (self.jacobian * self.jacobian).sum(-2) + self.diagonal

    def select(self, columns: Tensor) -> GaussNewton:
        """The model of some numbers of the step, the others held."""
        return GaussNewton(
            self.gradient[:, columns], self.jacobian[..., columns], self.diagonal[:, columns]
        )

    def fall(self, step: Tensor) -> Tensor:
        """How far the model's energy falls over a step (B, P). -> (B,)."""
        moved = (self.jacobian @ step[..., None])[..., 0]
        curved = (moved * moved).sum(-1) + (self.diagonal * step * step).sum(-1)
        return -(self.gradient * step).sum(-1) - 0.5 * curved


class Step(NamedTuple):
    """A step (B, P) and whether it could be computed (B,)."""

    step: Tensor
    solved: Tensor


def damped_step(model: GaussNewton, damping: Tensor) -> Step:
    """Minimiser of the model with Marquardt's damping (B,), relative to the Hessian's diagonal.

    The numbers that a prior of their own holds (a flow's latent) can be eliminated: what is left
    is a system of the size of the residuals. Where nothing holds most of them, the whole system is
    factored.
    """
    scale = model.hessian_diagonal()
    # a number that nothing depends on still needs a positive diagonal
    floor = 1e-7 * scale.amax(-1, keepdim=True).clamp(min=1e-12)
    added = damping[:, None] * torch.maximum(scale, floor) + floor
    held = (model.diagonal > 0).all(0)  # a property of the prior, not of the people
    rows, columns = model.jacobian.shape[-2:]
    if rows + int((~held).sum()) < columns and bool(held.any()):
        return _dual_step(model, added, held)
    return _primal_step(model, added)


def _primal_step(model: GaussNewton, added: Tensor) -> Step:
    factor, info = torch.linalg.cholesky_ex(model.hessian + torch.diag_embed(added))
    step = -torch.cholesky_solve(model.gradient[..., None], factor)[..., 0]
    return _checked(step, info)


def _dual_step(model: GaussNewton, added: Tensor, held: Tensor) -> Step:
    """With H = diag(held) + J'J (Woodbury), and the free numbers by a Schur complement.

    The free ones are kept out of the small system: with little damping they would spoil its
    condition.
    """
    inverse = 1 / (model.diagonal + added)[:, held]
    of_held, of_free = model.jacobian[..., held], model.jacobian[..., ~held]
    scaled = of_held * inverse[:, None]
    eye = torch.eye(of_held.shape[1], dtype=scaled.dtype, device=scaled.device)
    factor, info = torch.linalg.cholesky_ex(eye + scaled @ of_held.transpose(-1, -2))
    by_held, by_free = model.gradient[:, held], model.gradient[:, ~held]
    # H_hh^-1 applied to the gradient and to the mixed block J_h' J_f
    pushed = (scaled @ by_held[..., None])[..., 0]
    solved = torch.cholesky_solve(torch.cat((of_free, pushed[..., None]), -1), factor)
    through_free, through_gradient = solved[..., :-1], solved[..., -1]
    if of_free.shape[-1]:
        left = of_free.transpose(-1, -2) @ through_free
        schur = left + torch.diag_embed((model.diagonal + added)[:, ~held])
        wanted = by_free - (through_free.transpose(-1, -2) @ pushed[..., None])[..., 0]
        small, bad = torch.linalg.cholesky_ex(schur)
        free = -torch.cholesky_solve(wanted[..., None], small)[..., 0]
        info = info + bad
    else:
        free = by_free
    residual = (through_free @ free[..., None])[..., 0] - through_gradient
    back = (scaled.transpose(-1, -2) @ residual[..., None])[..., 0]
    step = torch.empty_like(model.gradient)
    step[:, held] = -inverse * by_held - back
    step[:, ~held] = free
    return _checked(step, info)


def _checked(step: Tensor, info: Tensor) -> Step:
    solved = (info == 0) & step.isfinite().all(-1)
    return Step(torch.where(solved[:, None], step, 0), solved)
