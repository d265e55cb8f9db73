"""The energy of a body given what was seen, and its Gauss-Newton model, person by person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fitting.problem import FitProblem
from fitting.recipes import Stage
from fitting.robust import geman_mcclure
from models.body import Body
from models.body_jacobian import keypoints_with_jacobian
from priors.base import PosePrior

TRANSL = "transl"
_TRANSL_SIZE = 3


class State(NamedTuple):
    """What is optimised: the prior's latent (B, N) and the translation (B, 3), metres."""

    latent: Tensor
    transl: Tensor

    def rows(self, index: Tensor) -> State:
        """Some of the people."""
        return State(self.latent[index], self.transl[index])

    def where(self, mask: Tensor, other: State) -> State:
        """The state where the mask (B,) says so, the other elsewhere."""
        return State(
            torch.where(mask[:, None], self.latent, other.latent),
            torch.where(mask[:, None], self.transl, other.transl),
        )


class Evaluation(NamedTuple):
    """The energy at a state and its quadratic model there.

    Attributes:
        energy: (B,). terms: name -> (B,), they add up to the energy.
        gradient: (B, P). hessian: (B, P, P), Gauss-Newton with robust weights.
    """

    energy: Tensor
    terms: dict[str, Tensor]
    gradient: Tensor
    hessian: Tensor

    def where(self, mask: Tensor, other: Evaluation) -> Evaluation:
        """The evaluation where the mask (B,) says so, the other elsewhere."""
        return Evaluation(
            torch.where(mask, self.energy, other.energy),
            {n: torch.where(mask, v, other.terms[n]) for n, v in self.terms.items()},
            torch.where(mask[:, None], self.gradient, other.gradient),
            torch.where(mask[:, None, None], self.hessian, other.hessian),
        )

    def rows(self, index: Tensor) -> Evaluation:
        """Some of the people."""
        return Evaluation(
            self.energy[index],
            {n: v[index] for n, v in self.terms.items()},
            self.gradient[index],
            self.hessian[index],
        )


@dataclass(frozen=True, eq=False)
class Objective:
    """Energy of B people: the stage's data term and weighted prior terms.

    A step has the prior's blocks, then three numbers for the translation: sideways and downwards
    in units of the depth, and along the ray in log depth, so that the depth stays positive and
    every number is of the order of an angle.
    """

    problem: FitProblem
    body: Body
    prior: PosePrior
    stage: Stage

    @property
    def block_sizes(self) -> dict[str, int]:
        """Named parts of a step, in order."""
        return {**self.prior.step_blocks, TRANSL: _TRANSL_SIZE}

    def free_columns(self, device: torch.device | str = "cpu") -> Tensor:
        """Places of a step that this stage moves."""
        free: list[int] = []
        start = 0
        for name, size in self.block_sizes.items():
            if "all" in self.stage.free or name in self.stage.free:
                free += range(start, start + size)
            start += size
        return torch.tensor(free, device=device)

    def rows(self, index: Tensor) -> Objective:
        """The objective of some of the people, repeats allowed."""
        return Objective(self.problem.rows(index), self.body, self.prior.rows(index), self.stage)

    def move(self, state: State, step: Tensor) -> State:
        """The state after a step (B, P)."""
        by_latent, by_transl = step[:, :-_TRANSL_SIZE], step[:, -_TRANSL_SIZE:]
        depth = state.transl[:, 2:]
        aside = torch.nn.functional.pad(depth * by_transl[:, :2], (0, 1))
        scale = by_transl[:, 2:].clamp(-1, 1).exp()
        return State(self.prior.move(state.latent, by_latent), (state.transl + aside) * scale)

    def errors(self, state: State) -> tuple[Tensor, Tensor]:
        """Reprojection error in pixels (B, K) and which keypoints are in front of the camera."""
        pose = self.prior.decode(state.latent)
        points = self.body.keypoints(
            pose.betas, pose.rotations, self.problem.schema, state.transl
        ).nan_to_num()
        pixels, in_front = self.problem.camera.project(points)
        return (pixels - self.problem.keypoints).norm(dim=-1), in_front

    def evaluate(self, state: State) -> Evaluation:
        """Energy, gradient and Gauss-Newton Hessian at a state."""
        problem, model = self.problem, self.body.keypoint_model(self.problem.schema)
        pose, pull_back = self.prior.linearize(state.latent)
        moved = keypoints_with_jacobian(self.body, model, pose.betas, pose.rotations)
        by_pose = torch.cat((moved.by_rotation, moved.by_betas), -1)
        depth = state.transl[:, 2]
        eye = torch.eye(3, dtype=depth.dtype, device=depth.device)
        by_transl = torch.cat((depth[:, None, None] * eye[:, :2], state.transl[..., None]), -1)
        pixels, in_front, to_pixels = problem.camera.project_with_jacobian(
            moved.points + state.transl[:, None]
        )

        data = self.stage.reprojection
        size = problem.size[:, None]
        evidence = problem.evidence() * model.available
        seen = evidence > 0
        error = torch.where(seen[..., None], pixels - problem.keypoints, 0)
        squared = (error * error).sum(-1)
        loss, weight = geman_mcclure(squared, data.scale * size)
        # what lies behind the camera is as wrong as can be, in no direction
        loss = torch.where(in_front | ~seen, loss, (data.scale * size) ** 2)
        trust = evidence**data.confidence_power / (data.sigma * size) ** 2
        terms = {"reprojection": 0.5 * (trust * loss).sum(-1)}
        root = (trust * weight * in_front).sqrt()[..., None]
        weighted = root[..., None] * to_pixels
        by_step = pull_back((weighted @ by_pose).flatten(1, 2))
        stacked = torch.cat((by_step, (weighted @ by_transl[:, None]).flatten(1, 2)), -1)
        residual = (root * error).flatten(1)
        size_of_step = stacked.shape[-1]
        rows_j, rows_r = [stacked], [residual]
        for term in self.prior.terms(state.latent, jacobian=True):
            factor = self.stage.weights.get(term.name, 1.0)
            terms[term.name] = 0.5 * factor * (term.residual * term.residual).sum(-1)
            assert term.jacobian is not None
            scale = factor**0.5
            rows_j.append(
                torch.nn.functional.pad(
                    scale * term.jacobian, (0, size_of_step - term.jacobian.shape[-1])
                )
            )
            rows_r.append(scale * term.residual)
        all_j, all_r = torch.cat(rows_j, 1), torch.cat(rows_r, 1)
        transposed = all_j.transpose(-1, -2)
        return Evaluation(
            torch.stack(list(terms.values())).sum(0),
            terms,
            (transposed @ all_r[..., None])[..., 0],
            transposed @ all_j,
        )
