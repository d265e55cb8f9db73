"""What was seen: keypoints of B people and the camera that saw them, validated once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rows import SHARED, Rows

_LEAST_SIZE = 8.0  # pixels; a person smaller than this is a point


@dataclass(frozen=True, eq=False)
class FitProblem(Rows):
    """Keypoints of B people in one or more pictures.

    Attributes:
        schema: what the K keypoints are.
        keypoints: (B, K, 2) pixels. confidence: (B, K), 0 where not seen.
        camera: one for all, or one a person.
        size: (B,) pixels, the longer side of the box around what was seen of a person.
        unit: (B,) pixels, how large the whole person is in the picture, seen or not: the unit of
            the recipes' noise and outlier scales. `size` until something better is known.
    """

    schema: KeypointSchema = field(metadata=SHARED)
    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    size: Tensor
    unit: Tensor

    @classmethod
    def build(
        cls, schema: KeypointSchema, keypoints: Tensor, confidence: Tensor, camera: Camera
    ) -> FitProblem:
        """Check shapes and make the problem.

        Values are not judged here: a row of NaN is allowed and gives a row with status "invalid".
        What was not seen may be anything; it becomes 0, 0.

        Raises:
            InputError: shapes that do not fit each other or the schema, or a focal length that is
                not positive.
        """
        count = len(schema)
        if keypoints.ndim != 3 or keypoints.shape[1:] != (count, 2):
            raise InputError(
                f"keypoints have shape {tuple(keypoints.shape)}; schema {schema.name} needs "
                f"(people, {count}, 2)"
            )
        if confidence.shape != keypoints.shape[:2]:
            raise InputError(
                f"confidence has shape {tuple(confidence.shape)}; it must be "
                f"{tuple(keypoints.shape[:2])} like the keypoints"
            )
        if not bool((camera.focal > 0).all()):
            raise InputError("the focal length must be positive; give it in pixels")
        seen = (confidence > 0)[..., None]
        low = keypoints.masked_fill(~seen, torch.inf).amin(1)
        high = keypoints.masked_fill(~seen, -torch.inf).amax(1)
        size = (high - low).amax(-1).clamp(min=_LEAST_SIZE)
        size = torch.where(seen.any(1)[:, 0], size, torch.full_like(size, _LEAST_SIZE))
        return cls(schema, keypoints.masked_fill(~seen, 0), confidence, camera, size, size)

    def evidence(self) -> Tensor:
        """Confidence of the keypoints that add evidence (B, K).

        A detector's neck and mid-hip are the midpoints of the shoulders and hips: they say
        nothing new when both are seen, and the body's own joints of that name lie elsewhere.
        """
        evidence = self.confidence.clone()
        for name in self.schema.names:
            pair = self.schema.midpoint_of(name)
            if pair is not None:
                both = (self.confidence[:, self.schema.indices(list(pair))] > 0).all(1)
                place = self.schema.index(name)
                evidence[:, place] = torch.where(both, 0, evidence[:, place])
        return evidence
