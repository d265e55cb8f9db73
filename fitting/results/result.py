"""What comes of a fit: one row a person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema


@dataclass(frozen=True, eq=False)
class FitResult:
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
    schema: KeypointSchema
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

    def __len__(self) -> int:
        return len(self.betas)

    def rows(self, index: Tensor) -> FitResult:
        """The result of some of the people."""
        changed: dict[str, Any] = {name: getattr(self, name)[index] for name in _BY_PERSON}
        return replace(
            self,
            **changed,
            camera=self.camera.rows(index),
            energy={name: value[index] for name, value in self.energy.items()},
            status=tuple(self.status[row] for row in index.tolist()),
        )


# what of a result has a row for each person
_BY_PERSON = (
    *("rotations", "betas", "transl", "joints3d", "keypoints3d", "keypoints2d", "doubted"),
    *("keypoint_sd", "start_energy", "reprojection_px", "size", "quality", "facing"),
    *("unit", "seen", "iterations", "exchanged"),
)


def replace_rows(result: FitResult, rows: Tensor, by: FitResult) -> FitResult:
    """The result with some people's rows taken from another; seconds add up."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, rows, new)

    status = list(result.status)
    for row, new in zip(rows.tolist(), by.status, strict=True):
        status[row] = new
    changed: dict[str, Any] = {n: put(getattr(result, n), getattr(by, n)) for n in _BY_PERSON}
    return replace(
        result,
        **changed,
        energy={n: put(v, by.energy[n]) for n, v in result.energy.items()},
        status=tuple(status),
        seconds=result.seconds + by.seconds,
    )


def _join(parts: list[FitResult]) -> FitResult:
    def cat(name: str) -> Tensor:
        return torch.cat([getattr(p, name) for p in parts])

    joined: dict[str, Any] = {name: cat(name) for name in _BY_PERSON}
    return replace(
        parts[0],
        **joined,
        energy={n: torch.cat([p.energy[n] for p in parts]) for n in parts[0].energy},
        status=tuple(s for p in parts for s in p.status),
    )
