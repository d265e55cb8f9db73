"""The energy of one body a frame given what several cameras saw, and its Gauss-Newton model.

One form serves rigs that are known, to be refined, and unknown. There is one body, with a root in
the world, and every view has a place of its own, x_cam = R x + t. With a known rig the views are
held and the root moves. With an unknown one the world is the body's own frame: the root is held and
each view moves freely, which gives it its own root orientation and translation. With a rig to be
refined both move, and a Gaussian prior ties the views to where they were given.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation, State
from flowfit.fitting.energy.reprojection import ReprojectionTerm
from flowfit.fitting.energy.units import Unit
from flowfit.fitting.several_views.placed import Placed, moved_rig, place_directions
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import ViewsRecipe, ViewsStage
from flowfit.models.body import Body
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.kinematics import NUM_BODY_JOINTS, NUM_JOINTS
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_jacobian, matrix_to_axis_angle, retract, skew
from flowfit.models.rows import SHARED, Rows
from flowfit.priors.base import Pose
from flowfit.priors.keypoints.body_latent import BodyLatent, LatentOfBody

_ROTATION_NUMBERS = NUM_JOINTS * 9
_OF_BODY, _OF_VIEW = NUM_JOINTS * 3, 6
# what moves, by what is known of the rig; "views" are all but the first where it is refined
KNOWN, REFINED, UNKNOWN = "known", "refined", "unknown"
_FREE = {
    KNOWN: ("root", "pose", "shape", "transl"),
    REFINED: ("root", "pose", "shape", "transl", "views"),
    UNKNOWN: ("pose", "shape", "views"),
}


@dataclass(frozen=True, eq=False)
class ViewsObjective(Rows):
    """Energy of B frames: robust reprojection in every view, and the views' posteriors.

    A step has the blocks "root" (3), "pose" (69), "shape" (S), "transl" (3, metres, world) and
    "views" (6 each: a turn about the body's place, then its place in the view as in `Objective`:
    sideways and downwards in units of depth, log depth).

    Attributes:
        problem: of B frames. body: whom. prior: the posteriors of (B V) views, frame after frame.
        share: (B, V) weights of the views' posteriors, sum 1.
        recipe, stage: what is minimised.
        mode: what is known of the rig: `KNOWN`, `REFINED` or `UNKNOWN`.
        frozen: (B, V, D, 72 + S) derivatives of the latents to build the quadratic model with, or
            None for those of the state at hand. The gradient is exact all the same.
    """

    problem: MultiviewProblem
    body: Body = field(metadata=SHARED)
    prior: BodyLatent = field(metadata=SHARED)
    share: Tensor
    recipe: ViewsRecipe = field(metadata=SHARED)
    stage: ViewsStage = field(metadata=SHARED)
    mode: str
    frozen: Tensor | None = None
    moves_pose = True

    @property
    def block_sizes(self) -> dict[str, int]:
        """Named parts of a step, in order."""
        return {
            "root": 3,
            "pose": 3 * NUM_BODY_JOINTS,
            "shape": self.body.num_betas,
            "transl": 3,
            "views": _OF_VIEW * self.problem.views,
        }

    def free_columns(self, device: torch.device | str = "cpu") -> Tensor:
        """Places of a step that move."""
        names = set(_FREE[self.mode])
        if self.stage.place_only:
            names &= {"root", "transl", "views"}
        free: list[int] = []
        start = 0
        for name, size in self.block_sizes.items():
            held = _OF_VIEW if name == "views" and self.mode == REFINED else 0
            if name in names:
                free += range(start + held, start + size)
            start += size
        return torch.tensor(free, device=device)

    def rows(self, index: Tensor) -> ViewsObjective:
        """The objective of some of the frames, repeats allowed."""
        views = torch.arange(self.problem.views, device=index.device)
        flat = (index[:, None] * self.problem.views + views).flatten()
        return replace(super().rows(index), prior=self.prior.rows(flat))

    def place(self, state: State) -> Placed:
        """What a state stands for."""
        views, betas = self.problem.views, self.body.num_betas
        sizes = (_ROTATION_NUMBERS, betas, 9 * views, 3 * views)
        rotations, shape, turns, places = state.latent.split(sizes, -1)
        return Placed(
            Pose(rotations.unflatten(-1, (NUM_JOINTS, 3, 3)), shape),
            state.transl,
            Rig(turns.unflatten(-1, (views, 3, 3)), places.unflatten(-1, (views, 3))),
        )

    def move(self, state: State, step: Tensor) -> State:
        """The state after a step (B, P)."""
        placed = self.place(state)
        turn, shape, shift, of_views = step.split(
            (_OF_BODY, self.body.num_betas, 3, _OF_VIEW * self.problem.views), -1
        )
        pivot = placed.transl
        rig = moved_rig(placed.rig, pivot, of_views.unflatten(-1, (-1, _OF_VIEW)))
        rotations = retract(placed.pose.rotations, turn.unflatten(-1, (NUM_JOINTS, 3)))
        return Placed(Pose(rotations, placed.pose.betas + shape), pivot + shift, rig).state()

    @cached_property
    def reprojection(self) -> ReprojectionTerm:
        """The stage's data term, of every view of every frame."""
        problem = self.problem
        evidence = problem.evidence() * self.body.keypoint_model(problem.schema).available
        unit = Unit(problem.unit, problem.unit)
        return ReprojectionTerm.of(self.stage.reprojection, problem.keypoints, evidence, unit)

    def errors(self, placed: Placed) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (B, V, K, 2), errors in pixels (B, V, K), and which are in front of the camera."""
        pose, problem = placed.pose, self.problem
        points = self.body.keypoints(pose.betas, pose.rotations, problem.schema, placed.transl)
        pixels, in_front = problem.camera.project(placed.rig.to_cameras(points.nan_to_num()))
        return pixels, (pixels - problem.keypoints).norm(dim=-1), in_front

    def energy(self, state: State) -> Tensor:
        """`evaluate`'s energy (B,) without the rest."""
        placed, stage = self.place(state), self.stage
        pixels, _, in_front = self.errors(placed)
        energy = self.reprojection.met(pixels, in_front).energy.sum(-1)
        if stage.latent:
            latent = self._weighed(self._latents(placed).latent)
            energy = energy + 0.5 * stage.latent * (self.share * (latent * latent).sum(-1)).sum(-1)
        if self.mode == REFINED:
            energy = energy + self._cameras(placed)[0]
        return energy

    def freeze(self, state: State) -> ViewsObjective:
        """The same with the posteriors' derivatives as they are at a state."""
        found = self._latents(self.place(state))
        return replace(self, frozen=found.by_pose().unflatten(0, self.share.shape))

    def without_model(self) -> ViewsObjective:
        """The same for energies and gradients only."""
        numbers = _OF_BODY + self.body.num_betas
        return replace(self, frozen=self.share.new_zeros(*self.share.shape, 0, numbers))

    def evaluate(self, state: State, pulled_rows: int | None = None, turn: int = 0) -> Evaluation:
        """Energy, gradient and quadratic model at a state; always with all rows."""
        placed = self.place(state)
        energy, residual, rows = self._linearized(placed)
        terms = {"reprojection": energy}
        gradient = (rows.transpose(-1, -2) @ residual[..., None])[..., 0]
        prior = rows[:, :0]
        if self.stage.latent:
            terms["latent"], more, prior = self._posteriors(placed)
            gradient = gradient + more
        if self.mode == REFINED:
            terms["cameras"], off, slope = self._cameras(placed)
            gradient = gradient + (slope.transpose(-1, -2) @ off[..., None])[..., 0]
            prior = torch.cat((prior, slope), 1)
        return Evaluation(
            torch.stack(list(terms.values())).sum(0),
            terms,
            gradient,
            rows,
            rows[..., :0],
            prior,
            torch.zeros_like(gradient),
        )

    def _linearized(self, placed: Placed) -> tuple[Tensor, Tensor, Tensor]:
        """Of the data term: energy (B,), weighted errors (B, R), their derivatives (B, R, P)."""
        problem, (pose, rig) = self.problem, (placed.pose, placed.rig)
        model = self.body.keypoint_model(problem.schema)
        moved = keypoints_with_jacobian(self.body, model, pose.betas, pose.rotations)
        in_views = rig.to_cameras(moved.points + placed.transl[:, None])
        pixels, in_front, to_pixels = problem.camera.project_with_jacobian(in_views)
        met = self.reprojection.met(pixels, in_front)
        error, weighted = met.linearized(to_pixels)  # (B, V, K, 2), (B, V, K, 2, 3)
        by_world = weighted @ rig.rotations[:, :, None]
        by_pose = torch.cat((moved.by_rotation, moved.by_betas), -1)
        pivot = rig.to_cameras(placed.transl[:, None])  # (B, V, 1, 3)
        arm = -skew(in_views - pivot)
        by_view = torch.cat((arm, place_directions(pivot).expand_as(arm)), -1)
        rows = torch.cat((by_world @ by_pose[:, None], by_world, _own_view(weighted @ by_view)), -1)
        return met.energy.sum(-1), error.flatten(1), rows.flatten(1, 3)

    def _latents(self, placed: Placed) -> LatentOfBody:
        """The posteriors' view of the body: (B V) rows."""
        roots = placed.view_roots()
        views = self.problem.views
        others = placed.pose.rotations[:, None, 1:].expand(-1, views, -1, -1, -1)
        rotations = torch.cat((roots[:, :, None], others), 2).flatten(0, 1)
        return self.prior.linearize(Pose(rotations, placed.pose.betas.repeat_interleave(views, 0)))

    def _weighed(self, latent: Tensor) -> Tensor:
        """Latents (B, V, D) of (B V) rows; 0 where a view does not count (it may be far off)."""
        latent = latent.unflatten(0, self.share.shape)
        return torch.where(self.share[..., None] > 0, latent, 0)

    def _posteriors(self, placed: Placed) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted latent energy (B,), its gradient (B, P), and the residuals' Jacobian."""
        found = self._latents(placed)
        weight = self.stage.latent * self.share
        latent = self._weighed(found.latent)
        energy = 0.5 * (weight * (latent * latent).sum(-1)).sum(-1)
        if self.frozen is None:
            by_pose = found.by_pose().unflatten(0, weight.shape)
            pulled = (weight[..., None] * latent)[..., None, :] @ by_pose
        else:
            by_pose = self.frozen
            pulled = found.pull((weight[..., None] * latent).flatten(0, 1)[:, None])
            pulled = pulled.unflatten(0, weight.shape)
        gradient = self._by_step(placed, pulled).sum((1, 2))
        rows = self._by_step(placed, weight.sqrt()[..., None, None] * by_pose)
        return energy, gradient, rows.flatten(1, 2)

    def _by_step(self, placed: Placed, by_pose: Tensor) -> Tensor:
        """From derivatives by each view's body (B, V, R, 72 + S) to those by a step (..., P)."""
        by_root = by_pose[..., :3]
        of_body = torch.cat((by_root @ placed.rig.rotations, by_pose[..., 3:]), -1)
        by_view = _own_view(torch.nn.functional.pad(by_root, (0, 3))[:, :, None])[:, :, 0]
        return torch.cat((of_body, torch.zeros_like(by_root), by_view), -1)

    def _cameras(self, placed: Placed) -> tuple[Tensor, Tensor, Tensor]:
        """How far the views are from where they were given: energy, residuals, Jacobian."""
        given = self.problem.rig
        assert given is not None
        rig, recipe = placed.rig, self.recipe
        turned = rig.rotations @ given.rotations.transpose(-1, -2)
        angle = matrix_to_axis_angle(turned)
        expected = (turned @ given.translations[..., None])[..., 0]
        residual = torch.cat(
            (angle / recipe.turn_sd, (rig.translations - expected) / recipe.shift_sd), -1
        )
        pivot = rig.to_cameras(placed.transl[:, None])
        arm = (pivot[..., 0, :] - rig.translations) + expected
        by_turn = torch.cat(
            (axis_angle_jacobian(angle) / recipe.turn_sd, skew(arm) / recipe.shift_sd), -2
        )
        by_place = torch.nn.functional.pad(
            place_directions(pivot)[..., 0, :, :] / recipe.shift_sd, (0, 0, 3, 0)
        )
        slope = _own_view(torch.cat((by_turn, by_place), -1)[:, :, None]).flatten(1, 3)
        held = sum(self.block_sizes.values()) - slope.shape[-1]
        residual = residual.flatten(1)
        energy = 0.5 * (residual * residual).sum(-1)
        return energy, residual, torch.nn.functional.pad(slope, (held, 0))


def _own_view(rows: Tensor) -> Tensor:
    """Put each view's rows (B, V, K, R, 6) into its own columns: (B, V, K, R, 6 V)."""
    views = rows.shape[1]
    full = rows.new_zeros(*rows.shape[:-1], views, _OF_VIEW)
    for view in range(views):
        full[:, view, ..., view, :] = rows[:, view]
    return full.flatten(-2)
