"""2D keypoints from outside: OpenPose JSON files, and arrays given from Python.

Both take one road. What is wrong with a whole file is an InputError; what is wrong with one person
leaves that person out, with a reason, so that the others can still be fitted.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flowfit.fitting.reading.detections import Detections, Person, Unusable, checked
from flowfit.fitting.reading.json_files import MAX_MEGABYTES, kind, read_json
from flowfit.fitting.reading.pictures import problem
from flowfit.models.keypoints import (
    BODY25,
    COCO17,
    COCO18,
    HALPE26,
    MEDIAPIPE33,
    SCHEMAS,
    KeypointSchema,
)

# what a number of keypoints means when no schema is named
_BY_COUNT = {len(s): s for s in (BODY25, COCO18, COCO17, HALPE26, MEDIAPIPE33)}
_KEYS = ("pose_keypoints_2d", "pose_keypoints")  # the second in files of OpenPose before 1.3
_WANTED = "the JSON file that OpenPose writes (NAME_keypoints.json)"


def read(
    path: str | os.PathLike[str],
    *,
    schema: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """Read an OpenPose JSON file.

    Args:
        path: the file.
        schema: name of the keypoint schema; None tells it from the number of keypoints.
        image_size: width and height in pixels of the picture (turned as its EXIF says). With it
            normalised coordinates are scaled and keypoints far outside are found out.

    Returns:
        The people; none for a file with an empty `people` list.

    Raises:
        InputError: the file cannot be used, or nobody in it.
    """
    if schema is not None:
        _schema_named(path, schema)  # a wrong name is told before a wrong file
    return read_people(path, entries(path), schema=schema, image_size=image_size)


def entries(path: str | os.PathLike[str]) -> list[object]:
    """The entries of an OpenPose file's `people`, not yet judged.

    Raises:
        InputError: the file cannot be read, or is none of OpenPose's.
    """
    return _people(path, read_json(path, _WANTED, MAX_MEGABYTES))


def read_people(
    path: str | os.PathLike[str],
    people: Sequence[object],
    *,
    schema: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """The entries of an OpenPose file's `people`; `path` is the file that they came from.

    Arguments and errors as in `read`.
    """
    wanted = None if schema is None else _schema_named(path, schema)
    table = wanted or _schema_of(path, people)
    persons: list[Person] = []
    skipped: dict[int, str] = {}
    for place, entry in enumerate(people):
        try:
            persons.append(_person(place, entry, table))
        except Unusable as reason:
            skipped[place] = str(reason)
    if wanted is not None and people and not persons:
        _explain_count(path, people, wanted)
    return checked(path, table, persons, skipped, image_size, Path(path))


def read_arrays(
    keypoints: ArrayLike,
    confidence: ArrayLike,
    schema: str | KeypointSchema,
    *,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """The same checks for arrays; these are copied, never changed.

    Args:
        keypoints: (N, K, 2) pixels, or (K, 2) for one person. May be NaN where not seen.
        confidence: (N, K) or (K,); 0 = not seen.
        schema: a keypoint schema or its name.
        image_size: as in `read`.

    Raises:
        InputError: the arrays do not fit each other or the schema, or nobody can be used.
    """
    table = schema if isinstance(schema, KeypointSchema) else _schema_named("schema", schema)
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
    persons = [Person(place, -1, rows) for place, rows in enumerate(triples)]
    return checked("keypoints", table, persons, {}, image_size, None)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # ragged, strings, a tensor on a GPU
        raise problem(name, "must be an array of numbers in the CPU's memory") from None


def _schema_named(where: str | os.PathLike[str], name: str) -> KeypointSchema:
    try:
        return SCHEMAS[name]
    except (KeyError, TypeError):
        raise problem(
            where, f"no keypoint schema {str(name)[:40]!r}; there are {', '.join(SCHEMAS)}"
        ) from None


# --- the file -----------------------------------------------------------------------------------


def _people(path: str | os.PathLike[str], content: object) -> list[object]:
    if not isinstance(content, dict):
        raise problem(
            path, f"not an OpenPose file: it holds {kind(content)}, not an object with people"
        )
    if "people" not in content:
        keys = ", ".join(str(key)[:20] for key in list(content)[:5]) or "nothing"
        more = ", ..." if len(content) > 5 else ""
        raise problem(path, f'not an OpenPose file: it has no "people" (it has: {keys}{more})')
    people = content["people"]
    if not isinstance(people, list):
        raise problem(path, f'not an OpenPose file: "people" is {kind(people)}, not a list')
    return people


def _count(entry: object) -> int:
    """Number of keypoints of an entry of `people`; 0 when it has no whole number of them."""
    values = _values(entry)[1]
    return len(values) // 3 if isinstance(values, list) and len(values) % 3 == 0 else 0


def _values(entry: object) -> tuple[str, object]:
    """Key and content of a person's keypoints; the newer key's name when neither is there."""
    if isinstance(entry, dict):
        for key in _KEYS:
            if entry.get(key) is not None:
                return key, entry[key]
    return _KEYS[0], None


def _usual_count(people: Sequence[object]) -> int:
    """The number of keypoints that most people of the file have; 0 when nobody has any."""
    counts = Counter(n for n in map(_count, people) if n)
    known = Counter({n: times for n, times in counts.items() if n in _BY_COUNT})
    most = (known or counts).most_common(1)
    return most[0][0] if most else 0


def _schema_of(path: str | os.PathLike[str], people: Sequence[object]) -> KeypointSchema:
    count = _usual_count(people)
    fitting = [s.name for s in SCHEMAS.values() if len(s) == count]
    if count not in _BY_COUNT and fitting:
        raise problem(
            path,
            f"its people have {count} keypoints; if they are {' or '.join(fitting)}, "
            "say so with --schema",
        )
    return _BY_COUNT.get(count, BODY25)


def _explain_count(
    path: str | os.PathLike[str], people: Sequence[object], wanted: KeypointSchema
) -> None:
    """Nobody fits the schema that was named: say so, if they fit another one."""
    count = _usual_count(people)
    if count != len(wanted) and count in _BY_COUNT:
        other = _BY_COUNT[count].name
        raise problem(
            path,
            f"its people have {count} keypoints ({other}), but schema {wanted.name} has "
            f"{len(wanted)}; give schema {other}, or none",
        )


def _person(place: int, entry: object, schema: KeypointSchema) -> Person:
    """One entry of `people`; null becomes NaN."""
    who = f"person {place}"
    if not isinstance(entry, dict):
        raise Unusable(f"{who} is {kind(entry)}, not an object")
    key, values = _values(entry)
    if values is None:
        raise Unusable(f"{who} has no {key}")
    if not isinstance(values, list):
        raise Unusable(f"{who}: {key} is {kind(values)}, not a list")
    if not values:
        raise Unusable(f"{who}: {key} is empty")
    if len(values) != 3 * len(schema):
        raise Unusable(
            f"{who} has {len(values)} values in {key}; {_title(schema)} needs {3 * len(schema)} "
            f"(x, y, confidence of {len(schema)} keypoints)"
        )
    numbers = [math.nan if v is None else v for v in values]
    for at, value in enumerate(numbers):
        if type(value) not in (int, float):  # bool is an int to isinstance
            raise Unusable(f"{who}: value {at} of {key} is {kind(value)}, not a number")
    try:
        triples = np.array(numbers, dtype=np.float64).reshape(-1, 3)
    except OverflowError:
        raise Unusable(f"{who}: {key} holds a number too large for any picture") from None
    return Person(place, _person_id(entry.get("person_id")), triples)


def _title(schema: KeypointSchema) -> str:
    """A schema as its authors write it: BODY_25."""
    name = schema.name.rstrip("0123456789")
    return f"{name.upper()}_{schema.name[len(name) :]}"


def _person_id(value: Any) -> int:
    if isinstance(value, list):  # OpenPose writes [3]
        value = value[0] if value else None
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else -1
