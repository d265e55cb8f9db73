"""Fit one body a frame to what several cameras saw of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import State
from flowfit.fitting.several_views.contradictions import far_off, others_fell, suspects
from flowfit.fitting.several_views.objective import KNOWN, REFINED, UNKNOWN, ViewsObjective
from flowfit.fitting.several_views.placed import Placed
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import VIEWS, ViewsRecipe
from flowfit.fitting.several_views.result import ViewsResult
from flowfit.fitting.several_views.starts import starts
from flowfit.fitting.several_views.told import tell_views
from flowfit.fitting.several_views.triangulate import check_metres, triangulate
from flowfit.fitting.solvers.levenberg_marquardt import Options, minimize
from flowfit.fitting.solvers.solution import STATUSES, Solution
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.kinematics import joint_index
from flowfit.models.rig import Rig
from flowfit.priors.base import PICTURE, PriorModel

FRAMES_AT_ONCE = 32


def fit_views(
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    recipe: ViewsRecipe = VIEWS,
    *,
    refine_cameras: bool = False,
    options: Options | None = None,
    start: Placed | None = None,
    frames_at_once: int = FRAMES_AT_ONCE,
    progress: Callable[[int], object] | None = None,
) -> ViewsResult:
    """Fit every frame; each frame's result is the same alone and in any company.

    Args:
        problem: of F frames; with a rig the body is fitted in the world, without one each view has
            its own root orientation and translation. In the number type to compute in.
        body, prior: in the same; the prior is a posterior that looks at keypoints.
        recipe: the stages. refine_cameras: let each frame move the cameras a little, the first
            held. options: the solver's numbers.
        start: where to begin, instead of at what the posteriors say. frames_at_once: bounds the
            memory. progress: called with the number of frames just done.

    Returns:
        The frames in their order. One whose values are not finite has status INVALID.

    Raises:
        InputError: a prior that does not look at keypoints; cameras to be refined that were not
            given; a rig whose unit is not the metre.
    """
    began = time.perf_counter()
    check_prior(prior)
    if refine_cameras and problem.rig is None:
        raise InputError("there are no cameras to refine: the scene has no calibration")
    if problem.rig is not None:
        check_metres(triangulate(problem))
    mode = UNKNOWN if problem.rig is None else REFINED if refine_cameras else KNOWN
    parts = []
    for first in range(0, len(problem), frames_at_once):
        rows = torch.arange(first, min(first + frames_at_once, len(problem)))
        rows = rows.to(problem.keypoints.device)
        begin = None if start is None else start.rows(rows)
        parts.append(_fit_chunk(problem.rows(rows), body, prior, recipe, mode, options, begin))
        if progress is not None:
            progress(len(rows))
    return replace(ViewsResult.cat(parts), seconds=time.perf_counter() - began)


def check_prior(prior: PriorModel) -> None:
    """InputError where several views cannot use it."""
    if not prior.by_keypoints_alone:
        why = "looks at one picture" if PICTURE in prior.sees else "does not look at keypoints"
        raise InputError(
            f"prior {prior.name!r} {why}; several views need a posterior that is told keypoints "
            "alone, such as keypoint-flow"
        )


def _fit_chunk(
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    recipe: ViewsRecipe,
    mode: str,
    options: Options | None,
    start: Placed | None,
) -> ViewsResult:
    nothing = torch.zeros_like(problem.confidence[..., 0], dtype=torch.bool)
    first = _fit_told(problem, body, prior, recipe, mode, options, start, nothing)
    if recipe.doubt is None:
        return first
    sure = far_off(first, recipe)
    tried = sure
    if mode == UNKNOWN:
        nobody_yet = ~sure.any(-1, keepdim=True)
        tried = sure | (suspects(problem, first, recipe) & nobody_yet)
    rows = tried.any(-1).nonzero()[:, 0]
    if not len(rows):
        return first
    some, left_out = problem.rows(rows), tried[rows]
    again = start if start is None else start.rows(rows)
    second = _fit_told(some, body, prior, recipe, mode, options, again, left_out)
    fall = others_fell(some, first.rows(rows), second, left_out, recipe)
    kept = (sure[rows].any(-1) | (fall > recipe.believed_fall)).nonzero()[:, 0]
    second = replace(second, iterations=second.iterations + first.iterations[rows])
    return first.put(rows[kept], second.rows(kept))


def _fit_told(
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    recipe: ViewsRecipe,
    mode: str,
    options: Options | None,
    start: Placed | None,
    left_out: Tensor,
) -> ViewsResult:
    """Tell the posteriors what was seen and fit, as if the views (F, V) left out saw nothing."""
    believed = problem.without(left_out)
    told = tell_views(believed, body, prior, recipe, mode)
    if start is None:
        found = None if problem.rig is None else triangulate(told.objective.problem)
        start = starts(told.objective.problem, body, told.modes, told.objective.share, found)
    return _describe(*_stages(told.objective, start.state(), options), problem, left_out)


def _stages(
    whole: ViewsObjective, state: State, options: Options | None
) -> tuple[ViewsObjective, Solution, Tensor]:
    """Run the recipe's stages. -> the last objective, where it ended, energy at its beginning."""
    frames = len(whole.problem)
    frame = torch.arange(frames, device=state.transl.device)
    frame = frame.repeat_interleave(len(state.transl) // frames)
    first, spent = state, torch.zeros_like(frame)
    stages = whole.recipe.stages
    for place, stage in enumerate(stages):
        objective = replace(whole, stage=stage).rows(frame)
        for _ in range(stage.rounds):
            ready = objective.freeze(state) if stage.latent else objective
            solution = minimize(ready, state, stage.iterations, options)
            state, spent = solution.state, spent + solution.iterations
        if len(frame) > frames * stage.keep:
            following = replace(whole, stage=stages[min(place + 1, len(stages) - 1)]).rows(frame)
            kept = _best_of_each(following.energy(state), frames, stage.keep)
            frame, spent, first, state = (
                frame[kept],
                spent[kept],
                first.rows(kept),
                state.rows(kept),
            )
            solution = solution.rows(kept)
    final = replace(whole, stage=stages[-1])
    beginning = final.without_model().evaluate(first)
    # the early stages minimised something else: hold the result against its own beginning
    better = beginning.energy < solution.energy
    began = replace(solution, state=first, energy=beginning.energy, terms=beginning.terms)
    solution = replace(began.where(better, solution), iterations=spent)
    return final, solution, beginning.energy


def _best_of_each(energy: Tensor, frames: int, keep: int) -> Tensor:
    """Rows of the `keep` lowest energies of every frame, frame by frame, lowest first."""
    table = energy.nan_to_num(nan=torch.inf).unflatten(0, (frames, -1))
    order = table.argsort(dim=-1, stable=True)[:, :keep]
    first = torch.arange(frames, device=energy.device)[:, None] * table.shape[1]
    return (first + order).flatten()


def _describe(
    objective: ViewsObjective,
    solution: Solution,
    began: Tensor,
    problem: MultiviewProblem,
    left_out: Tensor,
) -> ViewsResult:
    body = objective.body
    placed = objective.place(solution.state)
    pose, rig = placed.pose, placed.rig
    pixels, errors, in_front = objective.errors(placed)
    available = body.keypoint_model(problem.schema).available
    seen = (problem.confidence > 0) & available
    pelvis = body.rest_joints(pose.betas)[:, None, joint_index("pelvis")]
    there = (rig.rotations @ (pelvis + placed.transl[:, None])[..., None])[..., 0]
    view_orient, view_transl = placed.view_roots(), there + rig.translations - pelvis
    if objective.mode == UNKNOWN:  # nothing tells the place of a view that saw nothing
        nothing = torch.where(objective.problem.seen, 0, torch.nan)[..., None]
        view_orient, view_transl = view_orient + nothing[..., None], view_transl + nothing
        rig = Rig(rig.rotations + nothing[..., None], rig.translations + nothing)
        errors = errors + nothing
    known = in_front & available & view_transl.isfinite().all(-1)[..., None]
    return ViewsResult(
        rotations=pose.rotations,
        betas=pose.betas,
        transl=placed.transl,
        joints3d_world=body.joints(pose.betas, pose.rotations, placed.transl),
        keypoints3d_world=body.keypoints(pose.betas, pose.rotations, problem.schema, placed.transl),
        view_orient=view_orient,
        view_transl=view_transl,
        keypoints2d=torch.where(known[..., None], pixels, torch.nan),
        reprojection_px=torch.where(seen, errors, torch.nan).nanmedian(-1).values,
        rig=rig,
        calibrated=problem.rig is not None,
        refined=objective.mode == REFINED,
        doubted=left_out[..., None] & (problem.confidence > 0),
        energy=solution.terms,
        start_energy=began,
        status=tuple(STATUSES[int(c)] for c in solution.status),
        iterations=solution.iterations,
        seen=seen.sum(-1),
        size=problem.size,
        unit=objective.problem.unit,
        camera=problem.camera,
        schema=problem.schema,
        prior=objective.prior.name,
        body=body.name,
        seconds=0.0,
    )
