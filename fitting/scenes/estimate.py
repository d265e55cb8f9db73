"""Where cameras stand that nobody calibrated but that stand still, from the bodies they saw.

A fit with an unknown rig places every view about the body of each frame. The same body seen from
two views says how the views stand to each other: Procrustes over the joints of all frames that both
saw, the frames weighed by how well they agree. Then cameras, which all frames share, and the bodies
are refined together on what was minimised before (bundle adjustment with bodies in place of points;
the bodies are eliminated frame by frame). The scale comes from the body, so it is as uncertain as
how tall people are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowfit.fitting.scenes.align import align_views
from flowfit.fitting.scenes.refine import refine_together
from flowfit.fitting.several_views.fit_views import ViewsResult, fit_views
from flowfit.fitting.several_views.objective import UNKNOWN
from flowfit.fitting.several_views.placed import Placed
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.recipe import VIEWS, ViewsRecipe
from flowfit.fitting.several_views.told import tell_views
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.rig import Rig
from flowfit.priors.base import Pose, PriorModel

MOST_FRAMES = 64  # more say little that is new
_LEAST_SEEN = 6  # keypoints of a person that place a view
_HEIGHT_SD = 0.04  # of people, relative: what pictures alone tell of sizes is a guess at the person


@dataclass(frozen=True, eq=False)
class EstimatedRig:
    """A rig found from bodies.

    Attributes:
        rig: world to camera of V views; the world is the reference view's camera frame.
        reference: that view's place.
        turn_sd: (V,) radians and centre_sd: (V,) metres, standard deviations of each camera's
            orientation and place (root of the summed variances); 0 of the reference.
        covariance: (6 V, 6 V) of each camera's turn (radians, its own frame) and of its centre
            (metres, its own frame): from the normal equations with the bodies eliminated, and
            from the scale, which is as uncertain as one person's height: the frames are taken to
            show the same person, whose size does not average out.
        frames: numbers of the frames used. bodies: where their bodies are.
        reprojection_px: (V,) median over the frames used.
    """

    rig: Rig
    reference: int
    turn_sd: Tensor
    centre_sd: Tensor
    covariance: Tensor
    frames: Tensor
    bodies: Placed
    reprojection_px: Tensor


def estimate_rig(
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    recipe: ViewsRecipe = VIEWS,
    *,
    fitted: ViewsResult | None = None,
    most_frames: int = MOST_FRAMES,
) -> EstimatedRig:
    """Find the rig of cameras that stood still over the frames.

    Args:
        problem: of F frames; its rig, if there is one, is not looked at. body, prior: as for
            `fit_views`. recipe: what is minimised.
        fitted: the fit of all these frames with an unknown rig, if there is one already.
        most_frames: so many of the frames, those that most was seen of, are used.

    Raises:
        InputError: one view only, or views that never saw the same person at the same time.
    """
    if problem.views < 2:
        raise InputError("one view has no rig to estimate; give at least two views")
    problem = replace(problem, rig=None)
    chosen = _best_frames(problem, most_frames)
    some = problem.rows(chosen)
    result = fit_views(some, body, prior, recipe) if fitted is None else fitted.rows(chosen)
    good = torch.tensor([s is not Status.INVALID for s in result.status]).nonzero()[:, 0]
    if not len(good):
        raise InputError("no frame of this scene could be fitted, so no rig can be estimated")
    chosen, some, result = chosen[good], some.rows(good), result.rows(good)
    some = some.without(result.doubted.any(-1))
    seen = (some.confidence > 0).sum(-1) >= _LEAST_SEEN
    first, reference = align_views(result.rig.to_cameras(result.joints3d_world), seen)
    objective = tell_views(some, body, prior, recipe, UNKNOWN).objective
    bodies, covariance = refine_together(objective, _in_world(result, first), reference)
    rig = Rig(*(t[0] for t in bodies.rig))
    covariance = covariance + _of_scale(rig)
    variance = covariance.diagonal().unflatten(0, (-1, 2, 3)).sum(-1)
    _, errors, _ = objective.errors(bodies)
    errors = torch.where(some.confidence > 0, errors, torch.nan)
    return EstimatedRig(
        rig,
        reference,
        variance[:, 0].sqrt(),
        variance[:, 1].sqrt(),
        covariance,
        chosen,
        bodies,
        errors.transpose(0, 1).flatten(1).nanmedian(1).values,
    )


def _best_frames(problem: MultiviewProblem, most: int) -> Tensor:
    """The frames of which two views or more saw most, in their order."""
    seen = (problem.confidence > 0).sum(-1)
    several = (seen >= _LEAST_SEEN).sum(-1) >= 2
    if not bool(several.any()):
        raise InputError(
            f"no frame shows the same person in two views ({_LEAST_SEEN} keypoints each); the rig "
            "can not be estimated"
        )
    evidence = torch.where(several, problem.confidence.flatten(1).sum(-1).nan_to_num(), -1)
    order = evidence.argsort(descending=True, stable=True)[: min(most, int(several.sum()))]
    return order.sort().values


def _of_scale(rig: Rig) -> Tensor:
    """Covariance (6 V, 6 V) of a rig that is too large or too small as a whole."""
    along = torch.cat((torch.zeros_like(rig.translations), rig.translations), -1).flatten()
    return _HEIGHT_SD**2 * along[:, None] * along


def _in_world(result: ViewsResult, rig: Rig) -> Placed:
    """Bodies with the shared rig, each where the view puts it that is nearest to the middle one."""
    frames, views = result.view_orient.shape[:2]
    roots, places = result.rig
    there = roots[..., 0, 0].isfinite() & (result.seen >= _LEAST_SEEN)
    back = rig.rotations.transpose(-1, -2)
    turns = back @ roots
    shifts = (back @ (places - rig.translations)[..., None])[..., 0]
    # a median keeps a wrong view out
    middle = torch.where(there[..., None], shifts, torch.nan).nanmedian(1).values
    off = torch.where(there, (shifts - middle[:, None]).norm(dim=-1), torch.inf)
    frame, best = torch.arange(frames), off.argmin(1)
    turn, shift = turns[frame, best], shifts[frame, best]
    # x_world = turn x_body + shift, and SMPL turns about the pelvis: the root carries it
    pelvis = result.joints3d_world[:, 0] - result.transl
    transl = shift + (turn @ pelvis[..., None])[..., 0] - pelvis
    rotations = torch.cat((turn[:, None], result.rotations[:, 1:]), 1)
    shared = Rig(
        rig.rotations.expand(frames, views, 3, 3), rig.translations.expand(frames, views, 3)
    )
    return Placed(Pose(rotations, result.betas), transl, shared)
