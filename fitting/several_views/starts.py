"""Where a fit to several views begins: what the single views' posteriors say, put together.

Each view's likeliest body is one hypothesis; so is their mean (of rotations the chordal mean, the
rotation nearest to the mean of the matrices), weighted by confidence. With a known rig a body is
placed by its keypoints' triangulation, else where each view's posterior sees it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.several_views.placed import Placed
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.triangulate import Triangulated
from flowfit.models.alignment import chordal_mean, rigid_alignment
from flowfit.models.body import Body
from flowfit.models.kinematics import joint_index
from flowfit.models.rig import Rig
from flowfit.priors.base import Pose, PosePrior

_ENOUGH = 4  # triangulated keypoints to place a body by


class Modes(NamedTuple):
    """The likeliest body of each view, in that view's frame.

    Attributes:
        rotations: (F, V, 24, 3, 3). betas: (F, V, S). transl: (F, V, 3) metres.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor


def modes_of(given: PosePrior, views: int) -> Modes:
    """The modes of a posterior that was told of (F V) views, frame after frame."""
    start = given.start()
    assert start is not None
    pose = given.decode(start.latent)
    shape = (-1, views)
    return Modes(*(t.unflatten(0, shape) for t in (*pose, start.transl)))


def mean_body(modes: Modes, share: Tensor) -> Pose:
    """Bodies (F, 24, ...) between the views', root unturned; share (F, V), sum 1."""
    rotations = chordal_mean(
        modes.rotations.transpose(1, 2).where(share[:, None, :, None, None] > 0, 0), share[:, None]
    )
    eye = torch.eye(3, dtype=share.dtype, device=share.device).expand(len(share), 1, 3, 3)
    betas = (share[..., None] * modes.betas.where(share[..., None] > 0, 0)).sum(1)
    return Pose(torch.cat((eye, rotations[:, 1:]), 1), betas)


def starts(
    problem: MultiviewProblem,
    body: Body,
    modes: Modes,
    share: Tensor,
    found: Triangulated | None,
) -> Placed:
    """Start hypotheses of every frame: (F H) rows, the same number H for each in turn.

    Args:
        problem: of F frames. body: whom. modes: of its views. share: (F, V) weights, sum 1.
        found: the keypoints' places in the world, for a problem with a rig.
    """
    frames, views = share.shape
    mean = mean_body(modes, share)
    candidates = []
    for view in range(-1, views):
        pose = mean if view < 0 else _body_of(modes, mean, share, view)
        if found is None or problem.rig is None:
            candidates.append(_in_own_frame(body, pose, modes))
            continue
        rig = Rig(*(t.expand(frames, *t.shape) for t in problem.rig))
        best = share.argmax(-1) if view < 0 else torch.full_like(share[:, 0], view).long()
        seen_there = _from_view(body, pose, modes, rig, best)
        placed = _by_keypoints(body, problem, pose, found, rig, seen_there)
        candidates.append(placed)
    return _interleaved(candidates)


def _interleaved(candidates: list[Placed]) -> Placed:
    everyone = Placed.cat(candidates)
    places = torch.arange(len(everyone), device=everyone.transl.device)
    return everyone.rows(places.unflatten(0, (len(candidates), -1)).T.flatten())


def _body_of(modes: Modes, mean: Pose, share: Tensor, view: int) -> Pose:
    """One view's body, root unturned; the mean's where that view does not count."""
    counts = share[:, view] > 0
    rotations = torch.cat((mean.rotations[:, :1], modes.rotations[:, view, 1:]), 1)
    return Pose(
        torch.where(counts[:, None, None, None], rotations, mean.rotations),
        torch.where(counts[:, None], modes.betas[:, view], mean.betas),
    )


def _in_own_frame(body: Body, pose: Pose, modes: Modes) -> Placed:
    """The views placed about the body as each of their posteriors sees it."""
    roots = modes.rotations[:, :, 0]
    pelvis = body.rest_joints(pose.betas)[:, None, joint_index("pelvis")]
    theirs = body.rest_joints(modes.betas)[:, :, joint_index("pelvis")]
    places = modes.transl + theirs - (roots @ pelvis[..., None])[..., 0]
    return Placed(pose, torch.zeros_like(pelvis[:, 0]), Rig(roots, places))


def _from_view(body: Body, pose: Pose, modes: Modes, rig: Rig, view: Tensor) -> Placed:
    """The body in the world where one view (F,) of each frame sees it."""
    frame = torch.arange(len(view), device=view.device)
    turn, shift = (t[frame, view] for t in rig)
    back = turn.transpose(-1, -2)
    root = back @ modes.rotations[frame, view, 0]
    own = body.rest_joints(modes.betas[frame, view])[:, joint_index("pelvis")]
    pelvis = (back @ (modes.transl[frame, view] + own - shift)[..., None])[..., 0]
    rest = body.rest_joints(pose.betas)[:, joint_index("pelvis")]
    rotations = torch.cat((root[:, None], pose.rotations[:, 1:]), 1)
    return Placed(Pose(rotations, pose.betas), pelvis - rest, rig)


def _by_keypoints(
    body: Body,
    problem: MultiviewProblem,
    pose: Pose,
    found: Triangulated,
    rig: Rig,
    otherwise: Placed,
) -> Placed:
    """The body where its keypoints lie nearest to the triangulated ones, if enough of them do."""
    there = body.keypoint_model(problem.schema).available
    weight = (found.valid & there) * (problem.confidence * found.weight).sum(1)
    points = body.keypoints(pose.betas, pose.rotations, problem.schema)
    points = torch.where(weight[..., None] > 0, points, 0)
    target = torch.where(weight[..., None] > 0, found.points, 0)
    turn, shift = rigid_alignment(points, target, weight)
    rest = body.rest_joints(pose.betas)[:, joint_index("pelvis")]
    # the root turns about the pelvis
    transl = shift + (turn @ rest[..., None])[..., 0] - rest
    rotations = torch.cat((turn[:, None], pose.rotations[:, 1:]), 1)
    enough = ((weight > 0).sum(-1) >= _ENOUGH) & turn.isfinite().flatten(1).all(-1)
    return Placed(
        Pose(
            torch.where(enough[:, None, None, None], rotations, otherwise.pose.rotations),
            pose.betas,
        ),
        torch.where(enough[:, None], transl, otherwise.transl),
        rig,
    )
