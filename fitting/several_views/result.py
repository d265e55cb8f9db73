"""What a fit to several views gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rig import Rig
from flowfit.models.rows import SHARED, Rows


@dataclass(frozen=True, eq=False)
class ViewsResult(Rows):
    """Bodies of F frames, one person each, in the world and in V cameras.

    World: the rig's. Where the cameras' places were not known it is the body's own frame: the root
    is not turned and `transl` is 0.

    Attributes:
        rotations: (F, 24, 3, 3) local, the root's first (body to world). betas: (F, S).
        transl: (F, 3) metres, world.
        joints3d_world: (F, 24, 3). keypoints3d_world: (F, K, 3); NaN where the body lacks a point.
        view_orient: (F, V, 3, 3) root rotations, body to each camera. view_transl: (F, V, 3)
            metres, camera frame; with `rotations[:, 1:]` and `betas` they give the body there.
        keypoints2d: (F, V, K, 2) pixels, with the lens' distortion; NaN behind the camera.
        reprojection_px: (F, V) median error over the seen keypoints, NaN where a view saw nothing
            (or has no place: with an unknown rig a view that was left out is not placed).
        rig: rotations (F, V, 3, 3) and translations (F, V, 3), world to camera, of each frame:
            given, refined, or found with an unknown rig.
        calibrated: whether a rig was given. refined: whether its cameras were moved.
        doubted: (F, V, K) keypoints that were left out: all that a view saw where it contradicts
            the others.
        energy: name of a term -> (F,); they add up to what was minimised.
        start_energy: (F,) the same sum at the start that led here; never lower.
        status: a frame's ending. iterations: (F,).
        seen: (F, V) number of keypoints. size, unit: (F, V) pixels, see `MultiviewProblem`.
        camera, schema: as given. prior, body: what made it. seconds: for the whole batch.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor
    joints3d_world: Tensor
    keypoints3d_world: Tensor
    view_orient: Tensor
    view_transl: Tensor
    keypoints2d: Tensor
    reprojection_px: Tensor
    rig: Rig
    calibrated: bool
    refined: bool
    doubted: Tensor
    energy: dict[str, Tensor]
    start_energy: Tensor
    status: tuple[Status, ...]
    iterations: Tensor
    seen: Tensor
    size: Tensor
    unit: Tensor
    camera: Camera = field(metadata=SHARED)
    schema: KeypointSchema = field(metadata=SHARED)
    prior: str
    body: str
    seconds: float
