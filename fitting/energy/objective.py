"""The energy of a body given what was seen, and its Gauss-Newton model, person by person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from flowfit.fitting.energy.normal_equations import GaussNewton
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Stage
from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.energy.tangent import Pulled, Tangent, sketch
from flowfit.models.body import Body
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.rows import SHARED, Rows, where
from flowfit.priors.base import Pose, PosePrior, PullBack, Term

TRANSL = "transl"
_TRANSL_SIZE = 3
DEPTH = "depth"
_MANY = 8  # rows; of fewer, one pass through the prior is faster than two


@dataclass(frozen=True, eq=False)
class State(Rows):
    """What is optimised: the prior's latent (B, N) and the translation (B, 3), metres."""

    latent: Tensor
    transl: Tensor


@dataclass(frozen=True, eq=False)
class Evaluation(Rows):
    """The energy at a state and what its quadratic model is made of.

    Attributes:
        energy: (B,). terms: name -> (B,), they add up to the energy.
        gradient: (B, P), exact.
        data: (B, R, T) derivatives of the weighted reprojection errors by the prior's step; or
            (B, R, Q) by the pose, where `pulled` holds the few rows that were pulled back.
        by_transl: (B, R, 3), the same by the translation.
        prior: (B, M, P) Jacobian of the prior's residuals. diagonal: (B, P), of those that are
            numbers of the step themselves.
        pulled: rows for the tangent, or None where `data` is exact.
    """

    energy: Tensor
    terms: dict[str, Tensor]
    gradient: Tensor
    data: Tensor
    by_transl: Tensor
    prior: Tensor
    diagonal: Tensor
    pulled: Pulled | None = None

    def model(self, tangent: Tangent | None = None) -> GaussNewton:
        """The quadratic model; with `pulled` rows it needs the tangent."""
        data = self.data if tangent is None else self.data @ tangent.matrix
        jacobian = torch.cat((data, self.by_transl), -1)
        return GaussNewton(self.gradient, torch.cat((jacobian, self.prior), 1), self.diagonal)

    @property
    def hessian(self) -> Tensor:
        """(B, P, P) of an exact evaluation."""
        return self.model().hessian

    def finite(self) -> Tensor:
        """(B,): nothing that a step needs is infinite or no number."""
        good = self.energy.isfinite() & self.gradient.isfinite().all(-1)
        for part in (self.data, self.by_transl, self.prior):
            good = good & part.isfinite().flatten(1).all(-1)
        return good

    def where(self, mask: Tensor, other: Evaluation) -> Evaluation:
        """The evaluation where the mask (B,) says so, the other elsewhere; without `pulled`."""
        return where(mask, replace(self, pulled=None), replace(other, pulled=None))


@dataclass(frozen=True, eq=False)
class Objective(Rows):
    """Energy of B people: the stage's data term and weighted prior terms.

    A step has the prior's blocks, then three numbers for the translation: sideways and downwards
    in units of the depth, and along the ray in log depth, so that the depth stays positive and
    every number is of the order of an angle. `depth`: (B,) metres, where the term "depth" holds
    the translation, in stages that name it.
    """

    problem: FitProblem
    body: Body = field(metadata=SHARED)
    prior: PosePrior
    stage: Stage = field(metadata=SHARED)
    depth: Tensor | None = None

    @property
    def block_sizes(self) -> dict[str, int]:
        """Named parts of a step, in order."""
        return {**self.prior.step_blocks, TRANSL: _TRANSL_SIZE}

    @property
    def moves_pose(self) -> bool:
        """Whether this stage moves anything of the prior's."""
        free = self.stage.free
        return "all" in free or any(name in free for name in self.prior.step_blocks)

    def free_columns(self, device: torch.device | str = "cpu") -> Tensor:
        """Places of a step that this stage moves."""
        free: list[int] = []
        start = 0
        for name, size in self.block_sizes.items():
            if "all" in self.stage.free or name in self.stage.free:
                free += range(start, start + size)
            start += size
        return torch.tensor(free, device=device)

    @cached_property
    def reprojection(self) -> ReprojectionTerm:
        """The stage's data term."""
        return ReprojectionTerm.of_people(self.stage.reprojection, self.problem, self.body)

    def move(self, state: State, step: Tensor) -> State:
        """The state after a step (B, P)."""
        by_latent, by_transl = step[:, :-_TRANSL_SIZE], step[:, -_TRANSL_SIZE:]
        depth = state.transl[:, 2:]
        aside = torch.nn.functional.pad(depth * by_transl[:, :2], (0, 1))
        scale = by_transl[:, 2:].clamp(-1, 1).exp()
        return State(self.prior.move(state.latent, by_latent), (state.transl + aside) * scale)

    def errors(self, state: State) -> tuple[Tensor, Tensor]:
        """Reprojection error in pixels (B, K) and which keypoints are in front of the camera."""
        pixels, in_front = self._pixels(state, self.prior.decode(state.latent))
        return (pixels - self.problem.keypoints).norm(dim=-1), in_front

    def _pixels(self, state: State, pose: Pose) -> tuple[Tensor, Tensor]:
        """Where the body's keypoints are in the picture (B, K, 2), and which are in front."""
        points = self.body.keypoints(
            pose.betas, pose.rotations, self.problem.schema, state.transl
        ).nan_to_num()
        return self.problem.camera.project(points)

    def energy(self, state: State, pose: Pose) -> Tensor:
        """The energy (B,) of a state and its decoded pose, without derivatives or "depth"."""
        total = self.reprojection.met(*self._pixels(state, pose)).energy
        for term in self.prior.terms(state.latent, jacobian=False):
            factor = self.stage.weights.get(term.name, 1.0)
            total = total + 0.5 * factor * (term.residual * term.residual).sum(-1)
        return total

    def evaluate(self, state: State, pulled_rows: int | None = None, turn: int = 0) -> Evaluation:
        """Energy, gradient and what the Gauss-Newton model is made of, at a state.

        Args:
            state: where. pulled_rows: how many rows of derivatives to pull back through the prior,
                besides the one that the gradient needs; None for all. turn: number of the
                iteration; at each, other mixtures of the rows are pulled back.
        """
        model = self.body.keypoint_model(self.problem.schema)
        pose, pull_back = self.prior.linearize(state.latent)
        moved = keypoints_with_jacobian(self.body, model, pose.betas, pose.rotations)
        by_pose = torch.cat((moved.by_rotation, moved.by_betas), -1)
        depth = state.transl[:, 2]
        eye = torch.eye(3, dtype=depth.dtype, device=depth.device)
        by_transl = torch.cat((depth[:, None, None] * eye[:, :2], state.transl[..., None]), -1)
        pixels, in_front, to_pixels = self.problem.camera.project_with_jacobian(
            moved.points + state.transl[:, None]
        )
        met = self.reprojection.met(pixels, in_front)
        terms = {"reprojection": met.energy}
        error, weighted = met.linearized(to_pixels)
        residual = error.flatten(1)[..., None]
        rows = (weighted @ by_pose).flatten(1, 2)
        rows_by_transl = (weighted @ by_transl[:, None]).flatten(1, 2)
        pulled = None
        if pulled_rows is None:
            rows = pull_back(rows)
            by_latent = (rows.transpose(-1, -2) @ residual)[..., 0]
        else:
            along = rows.transpose(-1, -2) @ residual
            chosen = torch.cat((along.transpose(-1, -2), sketch(rows, pulled_rows, turn)), 1)
            pulled = Pulled(chosen, _gradient_exact(pull_back, chosen))
            by_latent = pulled.by_step[:, 0]
        by_depth = (rows_by_transl.transpose(-1, -2) @ residual)[..., 0]
        gradient = torch.cat((by_latent, by_depth), -1)
        prior, by_prior, diagonal, of_prior = self._prior_terms(state, gradient)
        terms |= of_prior
        return Evaluation(
            torch.stack(list(terms.values())).sum(0),
            terms,
            gradient + by_prior,
            rows,
            rows_by_transl,
            prior,
            diagonal,
            pulled,
        )

    def _prior_terms(
        self, state: State, like: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Of the weighted prior terms: Jacobian, gradient, diagonal, energies."""
        energies: dict[str, Tensor] = {}
        jacobians = [like.new_zeros(len(like), 0, like.shape[-1])]
        gradient, diagonal = torch.zeros_like(like), torch.zeros_like(like)
        for term in self.prior.terms(state.latent, jacobian=True):
            factor = self.stage.weights.get(term.name, 1.0)
            energies[term.name] = 0.5 * factor * (term.residual * term.residual).sum(-1)
            more_gradient, jacobian = _of_term(term, factor, like.shape[-1])
            gradient = gradient + more_gradient
            if jacobian is None:
                diagonal[:, : term.residual.shape[-1]] += factor
            else:
                jacobians.append(jacobian)
        factor = self.stage.weights.get(DEPTH, 0.0)
        if factor and self.depth is not None:
            away = state.transl[:, 2] - self.depth
            energies[DEPTH] = 0.5 * factor * away * away
            # the last number of a step is the logarithm of the depth
            slope = torch.zeros_like(like)
            slope[:, -1] = factor**0.5 * state.transl[:, 2]
            gradient = gradient + factor**0.5 * away[:, None] * slope
            jacobians.append(slope[:, None])
        return torch.cat(jacobians, 1), gradient, diagonal, energies


def _gradient_exact(pull_back: PullBack, rows: Tensor) -> Tensor:
    """Rows pulled back, the first (the gradient's) exact; the others roughly where that pays."""
    if rows.shape[1] < _MANY:
        return pull_back(rows)
    return torch.cat((pull_back(rows[:, :1]), pull_back(rows[:, 1:], rough=True)), 1)


def _of_term(term: Term, factor: float, size: int) -> tuple[Tensor, Tensor | None]:
    """Gradient (B, P) and weighted Jacobian (B, M, P) of a term; None where it is the identity."""
    if term.is_latent:
        missing = size - term.residual.shape[-1]
        return factor * torch.nn.functional.pad(term.residual, (0, missing)), None
    assert term.jacobian is not None
    scale = factor**0.5
    jacobian = torch.nn.functional.pad(scale * term.jacobian, (0, size - term.jacobian.shape[-1]))
    return scale * (jacobian.transpose(-1, -2) @ term.residual[..., None])[..., 0], jacobian
