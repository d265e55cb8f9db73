"""What a fit to several views leaves: the arrays and the report of one person in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowfit.fitting.several_views.result import ViewsResult
from flowfit.fitting.several_views.triangulate import Triangulated
from flowfit.fitting.solvers.solution import Status
from flowfit.fitting.writing.files import floats
from flowfit.models.body import Body
from flowfit.models.rotations import matrix_to_axis_angle

SUSPICIOUS = 0.06  # of the box; a view's median error above this is more than a detector's noise


@dataclass(frozen=True, eq=False)
class InWorld:
    """A person in the world that results are given in.

    Attributes:
        rotations: (24, 3, 3), the root's to the world. transl: (3,) metres.
        view_rotations: (V, 3, 3), view_translations: (V, 3): world to each camera; NaN where
            nothing tells.
        world: what the world is, in words.
    """

    rotations: Tensor
    transl: Tensor
    view_rotations: Tensor
    view_translations: Tensor
    world: str


def in_world(result: ViewsResult, row: int, views: Sequence[str]) -> InWorld:
    """One row of a result; without calibration the world is the first camera that saw them."""
    rotations, transl = result.rotations[row], result.transl[row]
    turns, shifts = result.rig.rotations[row], result.rig.translations[row]
    if result.calibrated:
        return InWorld(rotations, transl, turns, shifts, "the calibration's")
    first = int((result.seen[row] > 0).to(torch.int).argmax())
    back = turns[first].T
    rotations = torch.cat((result.view_orient[row, first][None], rotations[1:]))
    turned = turns @ back
    moved = shifts - (turned @ shifts[first][:, None])[..., 0]
    where = f"the frame of camera {views[first]}, up is about -y"
    return InWorld(rotations, result.view_transl[row, first], turned, moved, where)


def view_arrays(
    result: ViewsResult,
    row: int,
    body: Body,
    views: Sequence[str],
    sizes: Sequence[tuple[int, int]],
) -> dict[str, np.ndarray]:
    """What a person's npz holds; metres, pixels, radians, V views.

    World: joints3d_world (24, 3), keypoints3d_world (K, 3), vertices_world (N, 3),
    global_orient_world (3), transl_world (3). Shared: betas (S), body_pose (69), faces (F, 3),
    keypoint_names (K). Of each view: view_names (V), global_orient (V, 3), transl (V, 3),
    keypoints2d (V, K, 2), camera_rotation (V, 3, 3), camera_translation (V, 3), focal (V, 2),
    center (V, 2), distortion (V, 5), image_size (V, 2). NaN where a view tells nothing.
    """
    person = in_world(result, row, views)
    betas, rotations, transl = result.betas[row][None], person.rotations[None], person.transl[None]
    lens = result.camera
    distortion = lens.distortion
    if distortion is None:
        distortion = torch.zeros(len(views), 5)

    orient = result.view_orient[row]
    known = orient.isfinite().all(-1).all(-1)[:, None]
    eye = torch.eye(3, dtype=orient.dtype, device=orient.device)
    turns = matrix_to_axis_angle(torch.where(known[..., None], orient, eye))
    angles = matrix_to_axis_angle(person.rotations)
    return {
        "joints3d_world": floats(body.joints(betas, rotations, transl)[0]),
        "keypoints3d_world": floats(body.keypoints(betas, rotations, result.schema, transl)[0]),
        "vertices_world": floats(body.vertices(betas, rotations, transl)[0]),
        "faces": body.faces.cpu().numpy().astype(np.int32),
        "betas": floats(betas[0]),
        "body_pose": floats(angles[1:].reshape(-1)),
        "global_orient_world": floats(angles[0]),
        "transl_world": floats(transl[0]),
        "view_names": np.array(views),
        "global_orient": floats(torch.where(known, turns, torch.nan)),
        "transl": floats(result.view_transl[row]),
        "keypoints2d": floats(result.keypoints2d[row]),
        "keypoint_names": np.array(result.schema.names),
        "camera_rotation": floats(person.view_rotations),
        "camera_translation": floats(person.view_translations),
        "focal": floats(lens.focal),
        "center": floats(lens.center),
        "distortion": floats(distortion),
        "image_size": np.array(sizes, dtype=np.int64),
    }


def view_report(
    result: ViewsResult,
    row: int,
    views: Sequence[str],
    triangulated: Triangulated | None,
) -> dict[str, Any]:
    """What a person's JSON holds besides what the caller adds."""
    status = result.status[row]
    energy = {name: float(value[row]) for name, value in result.energy.items()}
    of_views = {}
    for place, view in enumerate(views):
        doubted = result.doubted[row, place]
        error = float(result.reprojection_px[row, place])
        of_views[view] = {
            "keypoints_seen": int(result.seen[row, place]),
            "reprojection_px": error,
            "reprojection_of_box": error / float(result.size[row, place]),
            "contradicts": contradicts(result, row, place),
            "keypoints_doubted": [
                name
                for name, doubt in zip(result.schema.names, doubted, strict=True)
                if bool(doubt)
            ],
        }
    report: dict[str, Any] = {
        "status": status.name.lower(),
        "status_text": status.value,
        "world": in_world(result, row, views).world,
        "calibrated": result.calibrated,
        "prior": result.prior,
        "body": result.body,
        "keypoint_schema": result.schema.name,
        "views": of_views,
        "energy": {"total": sum(energy.values()), **energy},
        "start_energy": float(result.start_energy[row]),
        "iterations": int(result.iterations[row]),
    }
    if triangulated is not None:
        valid = triangulated.valid[row]
        report["triangulation_px"] = float(triangulated.error[row][valid].median())
        report["keypoints_triangulated"] = int(valid.sum())
        apart = (triangulated.points[row] - result.keypoints3d_world[row]).norm(dim=-1)
        report["body_from_triangulation_mm"] = 1000 * float(apart[valid].nanmedian())
    return report


def contradicts(result: ViewsResult, row: int, view: int) -> bool:
    """Whether a view shows somebody else than the others do: all that it saw is doubted."""
    seen = int(result.seen[row, view])
    return seen > 0 and int(result.doubted[row, view].sum()) >= seen


def doubts(result: ViewsResult, row: int, views: Sequence[str]) -> list[str]:
    """Lines for the user about one person."""
    if result.status[row] is Status.INVALID:
        return [Status.INVALID.value]
    found = []
    seen = [view for place, view in enumerate(views) if int(result.seen[row, place])]
    if len(seen) == 1:
        found.append(f"seen by {seen[0]} alone: depth is a guess")
    for place, view in enumerate(views):
        error = float(result.reprojection_px[row, place])
        if contradicts(result, row, place):
            found.append(
                f"view {view} contradicts the others ({error:.0f} px off) and was not believed: "
                "somebody else, or its camera is wrong"
            )
        elif error > SUSPICIOUS * float(result.size[row, place]):
            found.append(f"view {view} is {error:.0f} px off")
    return found


def suspicious_cameras(result: ViewsResult, views: Sequence[str]) -> list[str]:
    """Cameras that most people contradict: rather the calibration is wrong than all of them."""
    found = []
    for place, view in enumerate(views):
        rows = [row for row in range(len(result)) if int(result.seen[row, place])]
        share = result.reprojection_px[rows, place] / result.size[rows, place]
        bad = [
            row
            for row, error in zip(rows, share.tolist(), strict=True)
            if error > SUSPICIOUS or contradicts(result, row, place)
        ]
        if result.calibrated and len(rows) > 1 and len(bad) > len(rows) / 2:
            found.append(
                f"camera {view} disagrees with the others on {len(bad)} of {len(rows)} people: its "
                "calibration is suspicious (--refine-cameras, or leave it out with --views), or "
                "person_id is not the same person in all views (--match)"
            )
    return found
