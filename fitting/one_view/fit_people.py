"""One loop for every recipe: hypotheses, stages, the best of each person, what is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Recipe
from flowfit.fitting.energy.units import UNITS
from flowfit.fitting.one_view.starts import hypotheses
from flowfit.fitting.one_view.torso_start import torso_start, turned_about
from flowfit.fitting.results.laplace import keypoint_sd
from flowfit.fitting.results.quality import chances, features
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.by_name import check_solver, minimize_stage
from flowfit.fitting.solvers.levenberg_marquardt import Options
from flowfit.fitting.solvers.solution import STATUSES, Solution
from flowfit.models.body import Body
from flowfit.models.rows import take
from flowfit.priors.base import Pose, PosePrior

_MOST_UNSEEN = 8.0  # of the box: somebody of whom only the head is seen
PEOPLE_AT_ONCE = 64  # with their hypotheses they fill about 100 MB


def fit_people(
    problem: FitProblem,
    body: Body,
    prior: PosePrior,
    recipe: Recipe,
    *,
    options: Options | None = None,
    start: tuple[Pose, Tensor] | None = None,
    people_at_once: int = PEOPLE_AT_ONCE,
    progress: Callable[[int], object] | None = None,
    solver: str | None = None,
) -> FitResult:
    """Fit everyone; each person's result is the same alone and in any company.

    Args:
        problem: of B people, in the number type and on the device to compute in.
        body, prior: in the same. recipe: the stages.
        start: bodies and translations (B, 3) to begin at; None lets the prior say, or tries
            orientations all around. people_at_once: bounds the memory.
        progress: called with the number of people just done.
        solver: a name in `SOLVERS`, for every stage; None for each stage's own.

    Returns:
        The people in their order. A person whose values are not finite has status INVALID.

    Raises:
        InputError: there is no such solver.
    """
    began = time.perf_counter()
    check_solver(solver)
    if not len(problem):
        raise ValueError("fit_people needs at least one person")
    parts = []
    for first in range(0, len(problem), people_at_once):
        rows = torch.arange(first, min(first + people_at_once, len(problem)))
        rows = rows.to(problem.keypoints.device)
        given = None
        if start is not None:
            pose, transl = start
            given = take(pose, rows), transl[rows]
        some = problem.rows(rows), body, prior.rows(rows)
        parts.append(_fit_chunk(*some, recipe, options, given, solver))
        if progress is not None:
            progress(len(rows))
    return replace(FitResult.cat(parts), seconds=time.perf_counter() - began)


def _fit_chunk(
    problem: FitProblem,
    body: Body,
    prior: PosePrior,
    recipe: Recipe,
    options: Options | None,
    start: tuple[Pose, Tensor] | None,
    solver: str | None,
) -> FitResult:
    person, state = _starts(problem, body, prior, recipe, start)
    if recipe.whole_person:
        problem = replace(problem, unit=whole_person(problem, body, prior, state, person))
    first = state
    spent = torch.zeros(len(person), dtype=torch.long, device=person.device)
    for stage in recipe.stages:
        if stage.turn_below is not None and start is None:  # a given start says which way
            narrow = stage.turn_below * UNITS[stage.reprojection.unit](problem).scale
            twice, state = turned_about(problem, prior, narrow, person, state)
            person, spent, first = person[twice], spent[twice], first.rows(twice)
        everyone = Objective(problem, body, prior, stage)
        objective = replace(everyone.rows(person), depth=first.transl[:, 2])
        solution = minimize_stage(objective, state, solver, options)
        spent = spent + solution.iterations
        kept = _best_of_each(solution.energy, person, stage.keep)
        person, spent, first = person[kept], spent[kept], first.rows(kept)
        solution = solution.rows(kept)
        state = solution.state
    final = Objective(problem, body, prior, stage, first.transl[:, 2])
    # the early stages minimised something else: hold the result against its own beginning
    beginning = final.evaluate(first, 0 if prior.costly else None)
    better = beginning.energy < solution.energy
    if bool(better.any()):
        began = replace(solution, state=first, energy=beginning.energy, terms=beginning.terms)
        solution = began.where(better, solution)
    found = _describe(final, solution, spent, beginning.energy, recipe)
    return replace(found, solver=(solver or stage.solver) if stage.iterations else "none")


def _starts(
    problem: FitProblem,
    body: Body,
    prior: PosePrior,
    recipe: Recipe,
    start: tuple[Pose, Tensor] | None,
) -> tuple[Tensor, State]:
    """Start states, the same number for every person in turn, and whose each is."""
    everyone = torch.arange(len(problem), device=problem.keypoints.device)
    if start is not None:
        return everyone, State(prior.encode(start[0]), start[1])
    if recipe.start == "torso":
        return everyone, torso_start(problem, body, prior)
    given = prior.start()
    if given is not None:  # the prior has seen the people
        return everyone, State(given.latent, given.transl)
    found = hypotheses(problem, body, prior, prior.modes())
    return found.person, found.state


def whole_person(
    problem: FitProblem, body: Body, prior: PosePrior, state: State, person: Tensor
) -> Tensor:
    """How large people are in the picture, to go by where their fits begin: (B,) pixels.

    Detectors err in proportion to the person, not to the part of them that the frame shows. Not
    less than the box of what was seen, and the median of several starts.
    """
    pose = prior.rows(person).decode(state.latent)
    points = body.keypoints(pose.betas, pose.rotations, problem.schema, state.transl)
    there = body.keypoint_model(problem.schema).available
    points = points[:, there]
    extent = (points.amax(1) - points.amin(1))[:, :2].amax(-1)
    depth = points[..., 2].mean(1).clamp(min=0.1)
    focal = problem.camera.rows(person).focal.mean(-1)
    each = (focal * extent / depth).unflatten(0, (len(problem), -1)).median(1).values
    unit = torch.maximum(problem.size, torch.minimum(each, _MOST_UNSEEN * problem.size))
    return torch.where(each.isfinite(), unit, problem.size)


def _best_of_each(energy: Tensor, person: Tensor, keep: int) -> Tensor:
    """Rows of the `keep` lowest energies of every person, person by person, lowest first.

    `person` (R,) is whose a row is, in order; people may have different numbers of rows.
    """
    order = energy.nan_to_num(nan=torch.inf).argsort(stable=True)
    order = order[person[order].argsort(stable=True)]  # by person, then by energy
    many = torch.bincount(person)
    rank = torch.arange(len(person), device=person.device) - (many.cumsum(0) - many)[person]
    return order[rank < keep]


def _describe(
    objective: Objective,
    solution: Solution,
    spent: Tensor,
    began: Tensor,
    recipe: Recipe,
) -> FitResult:
    problem, body, state = objective.problem, objective.body, solution.state
    pose = objective.prior.decode(state.latent)
    points = body.keypoints(pose.betas, pose.rotations, problem.schema, state.transl)
    pixels, in_front = problem.camera.project(points)
    errors, _ = objective.errors(state)
    available = body.keypoint_model(problem.schema).available
    seen = (problem.confidence > 0) & available
    median = torch.where(seen, errors, torch.nan).nanmedian(-1).values
    spread = keypoint_sd(objective, state, objective.evaluate(state))
    of_prior = torch.stack([e for n, e in solution.terms.items() if n != "reprojection"]).sum(0)
    evidence = features(problem, errors, in_front, spread, of_prior)
    # what the prior itself makes of the fit is asked by who told it what was seen, see `judge`
    trust = chances(problem, evidence, None, recipe.name)
    return FitResult(
        rotations=pose.rotations,
        betas=pose.betas,
        transl=state.transl,
        joints3d=body.joints(pose.betas, pose.rotations, state.transl),
        keypoints3d=points,
        keypoints2d=torch.where(in_front[..., None], pixels, torch.nan),
        keypoint_sd=spread,
        camera=problem.camera,
        schema=problem.schema,
        doubted=torch.zeros_like(problem.confidence, dtype=torch.bool),
        exchanged=torch.zeros_like(spent),
        energy=solution.terms,
        start_energy=began,
        reprojection_px=median,
        size=problem.size,
        unit=problem.unit,
        quality=trust.quality,
        facing=trust.facing,
        seen=seen.sum(-1),
        status=tuple(STATUSES[int(c)] for c in solution.status),
        iterations=spent,
        recipe=recipe.name,
        prior=objective.prior.name,
        body=body.name,
        seconds=0.0,
    )
