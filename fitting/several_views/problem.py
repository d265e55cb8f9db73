"""What several cameras saw: keypoints of one person a frame, and the cameras, validated once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.models.alignment import nearest_rotation
from flowfit.models.cameras import Camera, undistort
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rig import Rig, camera_rows
from flowfit.models.rows import SHARED, Rows

_NOT_ORTHOGONAL = 1e-2  # largest entry of R R' - I; files have rounded numbers


@dataclass(frozen=True, eq=False)
class MultiviewProblem(Rows):
    """One person a frame, seen by V cameras that stand still; F frames are the batch.

    Several people are several frames: each is fitted on their own.

    Attributes:
        schema: what the K keypoints are.
        keypoints: (F, V, K, 2) pixels. confidence: (F, V, K), 0 where not seen; a view that missed
            the person is all 0.
        camera: V cameras: focal (V, 2), center (V, 2), distortion (V, 5) or None.
        rig: where they stand; None when that is not known.
        size: (F, V) pixels, the longer side of the box around what each view saw of the person.
        unit: (F, V) pixels, how large the whole person is in each view, seen or not: the unit of
            noise and outlier scales. `size` until something better is known.
    """

    schema: KeypointSchema = field(metadata=SHARED)
    keypoints: Tensor
    confidence: Tensor
    camera: Camera = field(metadata=SHARED)
    rig: Rig | None = field(metadata=SHARED)
    size: Tensor
    unit: Tensor

    @classmethod
    def build(
        cls,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        rig: Rig | None = None,
    ) -> MultiviewProblem:
        """Check shapes and cameras and make the problem.

        Args:
            schema, keypoints, confidence, rig: see the class.
            camera: intrinsics of V cameras, or of one for all.

        Keypoints are not judged here: a frame with NaN is allowed and gets the status "invalid".
        What was not seen may be anything; it becomes 0, 0.

        Raises:
            InputError: shapes that do not fit each other or the schema, a focal length that is not
                positive, rotations that are none, no view or no frame.
        """
        count = len(schema)
        if keypoints.ndim != 4 or keypoints.shape[2:] != (count, 2):
            raise InputError(
                f"keypoints have shape {tuple(keypoints.shape)}; schema {schema.name} needs "
                f"(frames, views, {count}, 2)"
            )
        frames, views = keypoints.shape[:2]
        if not frames or not views:
            raise InputError(f"nothing to fit: {frames} frames of {views} views")
        if confidence.shape != keypoints.shape[:3]:
            raise InputError(
                f"confidence has shape {tuple(confidence.shape)}; it must be "
                f"{tuple(keypoints.shape[:3])} like the keypoints"
            )
        camera = _of_views(camera, views)
        if rig is not None:
            rig = _checked(rig, views)
        flat = FitProblem.build(
            schema,
            keypoints.flatten(0, 1),
            confidence.flatten(0, 1),
            camera.rows(_tile(frames, views)),
        )
        size = flat.size.unflatten(0, (frames, views))
        seen = flat.keypoints.unflatten(0, (frames, views))
        return cls(schema, seen, confidence, camera, rig, size, size)

    @property
    def views(self) -> int:
        """Number of cameras V."""
        return self.keypoints.shape[1]

    @property
    def seen(self) -> Tensor:
        """(F, V): whether a view saw anything of the person."""
        return (self.confidence > 0).any(-1)

    def select_views(self, index: Tensor) -> MultiviewProblem:
        """The problem as some of the views saw it, in their order."""
        return replace(
            self,
            keypoints=self.keypoints[:, index],
            confidence=self.confidence[:, index],
            camera=self.camera.rows(index),
            rig=None if self.rig is None else self.rig.views(index),
            size=self.size[:, index],
            unit=self.unit[:, index],
        )

    def without(self, left_out: Tensor) -> MultiviewProblem:
        """The problem as if some views (F, V) had seen nothing; size and unit stay."""
        confidence = self.confidence.masked_fill(left_out[..., None], 0)
        return replace(self, confidence=confidence)

    def without_lens(self) -> Tensor:
        """(F, V, K, 2) the keypoints as pixels of the same cameras without distortion."""
        camera = self.camera
        if camera.distortion is None:
            return self.keypoints
        focal, center = camera.focal[:, None], camera.center[:, None]
        seen = (self.confidence > 0)[..., None]
        plane = torch.where(seen, (self.keypoints - center) / focal, 0)
        flat = undistort(plane, camera.distortion[:, None].expand(*plane.shape[:-1], 5))
        return torch.where(seen, flat * focal + center, 0)

    def single_views(self) -> FitProblem:
        """Every view of every frame as a person of their own, frame after frame: (F V) people.

        Without the lens' distortion, which neither the posterior nor a single view's fit expects.
        """
        index = _tile(len(self), self.views).to(self.keypoints.device)
        camera = replace(self.camera, distortion=None).rows(index)
        pixels, trust = self.without_lens().flatten(0, 1), self.confidence.flatten(0, 1)
        flat = FitProblem.build(self.schema, pixels, trust, camera)
        return replace(flat, unit=self.unit.flatten())

    def evidence(self) -> Tensor:
        """(F, V, K), see `FitProblem.evidence`."""
        return self.single_views().evidence().unflatten(0, (len(self), self.views))


def _tile(frames: int, views: int) -> Tensor:
    return torch.arange(views).repeat(frames)


def _of_views(camera: Camera, views: int) -> Camera:
    """One row for each view.

    Raises:
        InputError: another number of cameras, or a focal length that is not positive.
    """
    if camera.focal.ndim == 1:
        camera = camera_rows([camera] * views)
    if camera.focal.shape != (views, 2) or camera.center.shape != (views, 2):
        raise InputError(
            f"there are {camera.focal.shape[0]} cameras and keypoints of {views} views; "
            "give each view its camera"
        )
    if not bool((camera.focal > 0).all()) or not bool(camera.center.isfinite().all()):
        raise InputError("the focal lengths must be positive and the centres finite; in pixels")
    if camera.distortion is not None and camera.distortion.shape != (views, 5):
        raise InputError(
            f"distortion has shape {tuple(camera.distortion.shape)}; it must be ({views}, 5): "
            "k1, k2, p1, p2, k3 of each view"
        )
    return replace(camera, rotation=None, translation=None)


def _checked(rig: Rig, views: int) -> Rig:
    """The rig with its rotations made exact.

    Raises:
        InputError: wrong shapes, or matrices that are no rotations.
    """
    rotations, translations = rig
    if rotations.shape != (views, 3, 3) or translations.shape != (views, 3):
        raise InputError(
            f"the rig has rotations {tuple(rotations.shape)} and translations "
            f"{tuple(translations.shape)}; {views} views need ({views}, 3, 3) and ({views}, 3)"
        )
    if not bool(rotations.isfinite().all()) or not bool(translations.isfinite().all()):
        raise InputError("the rig's rotations and translations must be finite numbers")
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    off = (rotations @ rotations.transpose(-1, -2) - eye).abs().flatten(1).amax(1)
    for view in range(views):
        if float(off[view]) > _NOT_ORTHOGONAL:
            raise InputError(
                f"view {view}: R is not a rotation: R R' differs from 1 by {float(off[view]):.2g}"
            )
        if float(torch.linalg.det(rotations[view])) < 0:
            raise InputError(
                f"view {view}: R is left-handed (its determinant is -1); "
                "cameras here have x right, y down, z forward"
            )
    return Rig(nearest_rotation(rotations), translations)
