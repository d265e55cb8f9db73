"""Keypoints given from Python as arrays: the same checks as those of files."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flowfit.fitting.reading.detections import Detections, Person, checked
from flowfit.fitting.reading.pictures import problem
from flowfit.fitting.reading.schemas import schema_named
from flowfit.models.keypoints import KeypointSchema


def read_arrays(
    keypoints: ArrayLike,
    confidence: ArrayLike,
    schema: str | KeypointSchema,
    *,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """People from arrays; these are copied, never changed.

    Args:
        keypoints: (N, K, 2) pixels, or (K, 2) for one person. May be NaN where not seen.
        confidence: (N, K) or (K,); 0 = not seen.
        schema: a keypoint schema or its name.
        image_size: as in `formats.read`.

    Raises:
        InputError: the arrays do not fit each other or the schema, or nobody can be used.
    """
    table = schema if isinstance(schema, KeypointSchema) else schema_named("schema", schema)
    xy, c = _numbers("keypoints", keypoints), _numbers("confidence", confidence)
    if xy.ndim == 2 and c.ndim == 1:
        xy, c = xy[None], c[None]
    if xy.ndim != 3 or xy.shape[1:] != (len(table), 2):
        raise problem(
            "keypoints",
            f"have shape {xy.shape}; {table.name} needs (people, {len(table)}, 2)",
        )
    if c.shape != xy.shape[:2]:
        raise problem(
            "confidence", f"has shape {c.shape}; keypoints {xy.shape} need {xy.shape[:2]}"
        )
    triples = np.concatenate((xy, c[..., None]), axis=-1)
    persons = [Person(place, rows) for place, rows in enumerate(triples)]
    return checked("keypoints", table, persons, {}, image_size, None)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # ragged, strings, a tensor on a GPU
        raise problem(name, "must be an array of numbers in the CPU's memory") from None
