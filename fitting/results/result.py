"""What comes of a fit: one row a person."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rows import SHARED, Rows


@dataclass(frozen=True, eq=False)
class FitResult(Rows):
    """Bodies of B people in the camera's frame (x right, y down, z forward; metres).

    Attributes:
        rotations: (B, 24, 3, 3) local, the root's first. betas: (B, S). transl: (B, 3).
        joints3d: (B, 24, 3). keypoints3d: (B, K, 3). keypoints2d: (B, K, 2) pixels.
        keypoint_sd: (B, K) metres, relative to the pelvis.
        camera: as given. schema: what the keypoints are.
        doubted: (B, K) keypoints that the prior was not told of, see `fit_seen`.
        exchanged: (B,) whose left and right were fitted the other way round than they were seen,
            counted in `sides.SIDES`; 0 is nothing.
        energy: name of a term -> (B,); they add up to what was minimised.
        start_energy: (B,) the same sum at the start that led here; never lower.
        reprojection_px: (B,) median error over the seen keypoints. size: (B,) pixels, the box.
        unit: (B,) pixels, of the recipe's noise and outlier scales.
        quality: (B,) chance that PA-MPJPE is below 70 mm. facing: (B,) chance that the body is
            turned the right way, within 45 degrees. seen: (B,) number of keypoints.
        status: a person's ending. iterations: (B,).
        recipe, prior, body: what made it. solver: that of its last stage, or none. seconds: for
            the whole batch.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor
    joints3d: Tensor
    keypoints3d: Tensor
    keypoints2d: Tensor
    keypoint_sd: Tensor
    camera: Camera
    schema: KeypointSchema = field(metadata=SHARED)
    doubted: Tensor
    exchanged: Tensor
    energy: dict[str, Tensor]
    start_energy: Tensor
    reprojection_px: Tensor
    size: Tensor
    unit: Tensor
    quality: Tensor
    facing: Tensor
    seen: Tensor
    status: tuple[Status, ...]
    iterations: Tensor
    recipe: str
    prior: str
    body: str
    seconds: float
    solver: str = "lm"
