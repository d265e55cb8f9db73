"""Keypoints that have been checked: the road that files and arrays share.

What is wrong with everything is an InputError; what is wrong with one person leaves that person
out, with a reason, so that the others can still be fitted.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowfit.fitting.reading.pictures import problem
from flowfit.models.keypoints import KeypointSchema

FEW_KEYPOINTS = 3  # fewer than these leave even the body's place open
NORMALISED_LIMIT = 1.0 + 1e-3  # |coordinate|; rounding in the file may pass 1
NOT_PIXELS_LIMIT = 3.0  # nobody is seen within 3 pixels of the corner
OUTSIDE_MARGIN = 0.1  # of the picture's long side; a detector may guess a little way outside
MAX_COORDINATE = 1e6  # pixels; beyond any picture, and squares of it still are exact enough
LOUD_CONFIDENCE = 1.1  # OpenPose exceeds 1 slightly; more than this is another scale


@dataclass(frozen=True, eq=False)
class Detections:
    """The people of one picture, N of them, with keypoints that have been checked.

    Attributes:
        schema: what the K keypoints are.
        keypoints: (N, K, 2) float64 pixels; 0, 0 where not seen. Always finite.
        confidence: (N, K) float64 in [0, 1]; 0 = not seen.
        person_ids: who it is in other frames and views, as the file says (OpenPose's person_id,
            EasyMocap's personID); -1 where it says nothing.
        indices: place of each person in the file (or along the first axis of the arrays).
        skipped: place and reason of everybody left out; a reason is a line that names the person.
        notes: lines about what was changed or is doubtful.
        path: the file, or None for arrays.
        frames: the picture or frame of each person, where the file names it; else "".
    """

    schema: KeypointSchema
    keypoints: np.ndarray
    confidence: np.ndarray
    person_ids: tuple[int, ...]
    indices: tuple[int, ...]
    skipped: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]
    path: Path | None
    frames: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why somebody was left out, a line each."""
        return tuple(reason for _, reason in self.skipped)


@dataclass(frozen=True, eq=False)
class Person:
    """One person as read.

    Attributes:
        place: among the people. triples: (K, 3) x, y, confidence.
        person_id, frame: as in `Detections`.
    """

    place: int
    triples: np.ndarray
    person_id: int = -1
    frame: str = ""


class Unusable(Exception):
    """Why one person is left out; no error yet, the others may do."""


def checked(
    where: str | os.PathLike[str],
    schema: KeypointSchema,
    persons: Sequence[Person],
    skipped: dict[int, str],
    image_size: tuple[int, int] | None,
    path: Path | None,
) -> Detections:
    """Keypoints that can be used, in pixels, and who is left out.

    Args:
        where: what error texts name. schema: of the keypoints. persons: as read.
        skipped: place and reason of those who could not even be read.
        image_size: width and height in pixels, or None. path: the file, or None.

    Raises:
        InputError: nobody can be used.
    """
    size = None if image_size is None else _size(image_size)
    total = len(persons) + len(skipped)
    skipped = dict(skipped)
    notes: list[str] = []
    kept: list[Person] = []
    for person in persons:
        try:
            kept.append(_clean(person, schema, notes))
        except Unusable as reason:
            skipped[person.place] = str(reason)
    kept = _in_pixels(where, kept, size, notes)
    persons, kept = kept, []
    for person in persons:
        try:
            kept.append(_in_picture(person, size, notes))
        except Unusable as reason:
            skipped[person.place] = str(reason)
    if total and not kept:
        first = skipped[min(skipped)]
        raise problem(
            where, first if total == 1 else f"none of the {total} people can be used: {first}"
        )
    triples = np.zeros((len(kept), len(schema), 3))
    for row, person in enumerate(kept):
        triples[row] = person.triples
        seen = np.count_nonzero(person.triples[:, 2])
        if seen < FEW_KEYPOINTS:
            many = "keypoint" if seen == 1 else "keypoints"
            notes.append(f"person {person.place}: only {seen} {many} seen; the result is a guess")
    return Detections(
        schema,
        triples[..., :2].copy(),
        triples[..., 2].copy(),
        tuple(p.person_id for p in kept),
        tuple(p.place for p in kept),
        tuple(sorted(skipped.items())),
        tuple(notes),
        path,
        tuple(p.frame for p in kept),
    )


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in image_size)
    except (TypeError, ValueError):
        width = height = 0
    if min(width, height) < 1:
        raise problem(
            "image size", f"{str(image_size)[:60]} is not a width and a height in whole pixels"
        )
    return width, height


def _clean(person: Person, schema: KeypointSchema, notes: list[str]) -> Person:
    """A copy with finite numbers, confidence within [0, 1] and zeros where nothing was seen."""
    who = f"person {person.place}"
    triples = person.triples.copy()
    confidence = triples[:, 2]
    # NaN is many tools' way to say "not seen"; only beside a confidence it makes no sense
    triples[confidence == 0] = 0
    bad = np.flatnonzero(~np.isfinite(triples).all(axis=1))
    if bad.size:
        raise Unusable(f"{who}: keypoint {schema.names[bad[0]]} is NaN, infinite or null")
    if confidence.min() < 0:
        name = schema.names[confidence.argmin()]
        raise Unusable(f"{who}: keypoint {name} has a negative confidence")
    if not confidence.any():
        raise Unusable(f"{who}: no keypoint was seen")
    far = np.abs(triples[:, :2]).max(axis=1)
    if far.max() > MAX_COORDINATE:
        name = schema.names[far.argmax()]
        raise Unusable(f"{who}: keypoint {name} lies {far.max():.3g} px from the corner")
    if confidence.max() > LOUD_CONFIDENCE:
        notes.append(f"{who}: confidence up to {confidence.max():.3g}; all above 1 counts as 1")
    np.minimum(confidence, 1, out=confidence)
    return replace(person, triples=triples)


def _in_pixels(
    where: str | os.PathLike[str],
    persons: list[Person],
    size: tuple[int, int] | None,
    notes: list[str],
) -> list[Person]:
    """Scale what OpenPose's --keypoint_scale 3 ([0, 1]) or 4 ([-1, 1]) wrote up to pixels."""
    if not persons:
        return persons
    every = np.concatenate([p.triples for p in persons])
    seen = every[every[:, 2] > 0, :2]
    largest = np.abs(seen).max()
    if len(seen) < FEW_KEYPOINTS or largest > NOT_PIXELS_LIMIT:
        return persons
    if largest > NORMALISED_LIMIT:
        # MediaPipe, too, counts in pictures, and beyond 1 outside of them
        raise problem(
            where,
            f"coordinates of at most {largest:.3g} are neither pixels nor normalised to 1; "
            "multiply x by the picture's width and y by its height",
        )
    signed = bool((seen < 0).any())
    scale = "[-1, 1] (OpenPose's --keypoint_scale 4)" if signed else "[0, 1] (--keypoint_scale 3)"
    if size is None:
        raise problem(
            where,
            f"its coordinates are normalised to {scale}; give the picture, or its size with "
            "--image-size W H",
        )
    notes.append(f"coordinates taken as normalised to {scale}, scaled to {size[0]}x{size[1]} px")
    last = np.array(size, dtype=np.float64) - 1  # OpenPose's 1 is the middle of the last pixel
    scaled = []
    for person in persons:
        triples = person.triples.copy()
        inside = triples[:, 2] > 0
        unit = triples[inside, :2]
        triples[inside, :2] = ((unit + 1) / 2 if signed else unit) * last
        scaled.append(replace(person, triples=triples))
    return scaled


def _in_picture(person: Person, size: tuple[int, int] | None, notes: list[str]) -> Person:
    """Leave out keypoints far outside the picture; refuse the person when they are most."""
    if size is None:
        return person
    seen = person.triples[:, 2] > 0
    margin = OUTSIDE_MARGIN * max(size)
    xy = person.triples[:, :2]
    far = seen & ((xy < -margin) | (xy > np.array(size) + margin)).any(axis=1)
    outside = int(far.sum())
    if not outside:
        return person
    who, picture = f"person {person.place}", f"{size[0]}x{size[1]} picture"
    if 2 * outside > seen.sum():
        raise Unusable(
            f"{who}: most keypoints lie outside the {picture}: is it the picture that these "
            "keypoints were found in? (an EXIF-rotated or rescaled picture is the usual cause)"
        )
    triples = person.triples.copy()
    triples[far] = 0
    many = "keypoint lies" if outside == 1 else "keypoints lie"
    notes.append(f"{who}: {outside} {many} far outside the {picture}; not used")
    return replace(person, triples=triples)
