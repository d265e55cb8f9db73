"""Keypoints seen by calibrated cameras as points in the world, robust to a view that is wrong.

The plain way is the linear least squares of all views, weighted by confidence. The robust way
begins at the best of the points that pairs of views agree on, which one wrong view (or half of the
views, wrong in different ways) can not spoil, and goes on with Geman-McClure's weights.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.reprojection import geman_mcclure
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.models.cameras import MIN_DEPTH
from flowfit.models.errors import InputError
from flowfit.models.rig import Rig

SCALE = 0.05  # Geman-McClure's, in sizes of the person in the view
_ITERATIONS = 10
_HALF = 0.25  # weight of a view (a robust loss beyond its inflection) that still counts as seeing
_LEAST_ANGLE = 0.03  # radians between two rays that cross; less tells no depth
_MOST_TALL, _LEAST_TALL = 20.0, 0.1  # metres across the triangulated keypoints
_ENOUGH = 5  # keypoints to judge a person's size by


class Triangulated(NamedTuple):
    """Keypoints in the world.

    Attributes:
        points: (F, K, 3) metres, world; NaN where not valid.
        valid: (F, K): two views that agree saw the keypoint, from directions that differ.
        error: (F, K) pixels, weighted mean of the reprojection errors of the views that count.
        weight: (F, V, K): 0 to 1, how far each view counted; 0 where it did not see the keypoint.
    """

    points: Tensor
    valid: Tensor
    error: Tensor
    weight: Tensor


def triangulate(
    problem: MultiviewProblem, *, robust: bool = True, scale: float = SCALE
) -> Triangulated:
    """Triangulate the keypoints of every frame.

    Args:
        problem: with a rig. robust: as above; else every view counts by its confidence.
        scale: Geman-McClure's scale, in sizes of the person in each view.

    Raises:
        ValueError: the problem has no rig.
    """
    rig = problem.rig
    if rig is None:
        raise ValueError("triangulation needs to know where the cameras are")
    given, dtype = problem.keypoints.dtype, torch.float64  # two rays are nearly one equation
    camera, rig = problem.camera.to(dtype=dtype), rig.to(dtype=dtype)
    pixels = problem.without_lens().to(dtype)
    plane = (pixels - camera.center[:, None]) / camera.focal[:, None]
    trust = torch.where(plane.isfinite().all(-1), problem.confidence.to(dtype), 0)
    trust, plane = trust.nan_to_num(), plane.nan_to_num()
    # the scale as a distance in the plane at depth 1
    scales = (scale * problem.unit / camera.focal.mean(-1))[..., None]
    if robust:
        points = _best_of_pairs(plane, trust, rig, scales)
    else:
        points = _least_squares(plane, trust, rig)
    for _ in range(_ITERATIONS):
        error, depth = _errors(points, plane, rig)
        weight = geman_mcclure(error**2, scales)[1] if robust else torch.ones_like(error)
        points = _least_squares(plane, trust * weight / depth.clamp(min=MIN_DEPTH) ** 2, rig)
    error, depth = _errors(points, plane, rig)
    seeing = (trust > 0) & (depth > MIN_DEPTH)
    weight = geman_mcclure(error**2, scales)[1] if robust else torch.ones_like(error)
    weight = torch.where(seeing, weight, 0)
    counts = weight > _HALF
    valid = points.isfinite().all(-1) & (counts.sum(1) >= 2) & _from_two_sides(points, counts, rig)
    shared = torch.where(counts, trust, 0)
    in_pixels = (shared * error * camera.focal.mean(-1)[:, None]).sum(1) / shared.sum(1)
    nothing = torch.where(valid, 0, torch.nan)
    points, in_pixels = points + nothing[..., None], in_pixels + nothing
    return Triangulated(points.to(given), valid, in_pixels.to(given), weight.to(given))


def _errors(points: Tensor, plane: Tensor, rig: Rig) -> tuple[Tensor, Tensor]:
    """Distances in the plane at depth 1 (F, V, K), and depths; far off behind the camera."""
    in_views = rig.to_cameras(points)
    depth = in_views[..., 2]
    front = depth > MIN_DEPTH
    at = in_views[..., :2] / torch.where(front, depth, MIN_DEPTH)[..., None]
    return torch.where(front, (at - plane).norm(dim=-1), 1e3), depth


def _least_squares(plane: Tensor, weight: Tensor, rig: Rig) -> Tensor:
    """Points (F, K, 3) nearest to the rays of the views (direct linear transform).

    (x r3 - r1) X = t1 - x t3 for the rows r of a view's rotation, and the same with y.
    """
    rotations, translations = rig.rotations[:, None], rig.translations[:, None]
    rows = plane[..., None] * rotations[..., 2:, :] - rotations[..., :2, :]  # (F, V, K, 2, 3)
    wanted = translations[..., :2] - plane * translations[..., 2:]
    weighted = rows * weight[..., None, None]
    normal = torch.einsum("fvkai,fvkaj->fkij", weighted, rows)
    side = torch.einsum("fvkai,fvka->fki", weighted, wanted)
    unit = normal.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    eye = torch.eye(3, dtype=normal.dtype, device=normal.device)
    solvable = unit > 0
    normal = torch.where(solvable, normal / unit.clamp(min=1e-30), eye)
    found, failed = torch.linalg.solve_ex(normal, side[..., None] / unit.clamp(min=1e-30))
    good = solvable[..., 0] & (failed == 0)[..., None]
    return torch.where(good, found[..., 0], torch.nan)


def _best_of_pairs(plane: Tensor, trust: Tensor, rig: Rig, scales: Tensor) -> Tensor:
    """The point of whichever two views all views together agree with best: (F, K, 3)."""
    views = plane.shape[1]
    best = plane.new_full((len(plane), plane.shape[2]), torch.inf)
    points = plane.new_full((*best.shape, 3), torch.nan)
    for pair in combinations(range(views), 2):
        two = torch.tensor(pair, device=plane.device)
        seen = (trust[:, two] > 0).all(1)
        found = _least_squares(
            plane[:, two], seen[:, None].to(plane).expand(-1, 2, -1), rig.views(two)
        )
        error, _ = _errors(found, plane, rig)
        loss = (trust * geman_mcclure(error**2, scales)[0] / scales**2).sum(1)
        better = seen & (loss < best)
        best = torch.where(better, loss, best)
        points = torch.where(better[..., None], found, points)
    return points


def _from_two_sides(points: Tensor, counts: Tensor, rig: Rig) -> Tensor:
    """(F, K): whether two of the views that count look from directions that differ."""
    rays = torch.nn.functional.normalize(points[:, None] - rig.centres[:, None], dim=-1)
    cosine = torch.einsum("fvkc,fwkc->fkvw", rays, rays)
    both = counts.transpose(1, 2)[..., None] & counts.transpose(1, 2)[..., None, :]
    # of opposite rays the crossing is as badly known as of equal ones
    least = torch.where(both, cosine.abs(), 1.0).flatten(2).amin(-1)
    return least < 1 - 0.5 * _LEAST_ANGLE**2


def check_metres(found: Triangulated) -> None:
    """Refuse a rig whose unit is not the metre, by the size of the people it sees.

    Raises:
        InputError: people as tall as towers or as small as insects.
    """
    points = found.points.masked_fill(~found.valid[..., None], torch.nan)
    low = points.nan_to_num(nan=torch.inf).amin(1)
    high = points.nan_to_num(nan=-torch.inf).amax(1)
    enough = found.valid.sum(-1) >= _ENOUGH
    if not bool(enough.any()):
        return
    tall = float((high - low).norm(dim=-1)[enough].median())
    if tall > _MOST_TALL:
        unit = "millimetres" if tall > 10 * _MOST_TALL else "centimetres"
        raise InputError(
            f"the triangulated person is {tall:,.0f} m tall; are the translations in {unit}? "
            "they must be in metres"
        )
    if tall < _LEAST_TALL:
        raise InputError(
            f"the triangulated person is {tall:.2g} m tall; the translations must be in metres"
        )
