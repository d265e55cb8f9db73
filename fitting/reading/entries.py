"""A keypoint file before its people are judged: its bytes, and the entries that a reader found.

A reader knows a format's grammar and nothing else. What numbers may be, which schema they are of
and whether they lie in the picture is checked in one place, for every format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from flowfit.fitting.reading.detections import Person, Unusable
from flowfit.fitting.reading.json_files import kind, parse_json
from flowfit.fitting.reading.pictures import problem
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema


@dataclass(frozen=True, eq=False)
class Content:
    """What a file holds, not yet told which format it is. path: of the file. data: its bytes."""

    path: Path
    data: bytes

    @cached_property
    def json(self) -> object:
        """As JSON; None where it is none."""
        try:
            return parse_json(self.path, self.data, "")
        except InputError:
            return None


@dataclass(frozen=True, eq=False)
class Entry:
    """One person as the file has them, not judged.

    Attributes:
        values: should be a list of x, y, confidence of one keypoint after the other; None in it
            counts as NaN. key: what the file calls them.
        person_id: who it is in other frames and views, as the file says (a number, or [number]).
        frame: the picture or frame that they are seen in, where the file names it.
        wrong: why there are no values at all: "is a list, not an object".
    """

    values: object = None
    key: str = ""
    person_id: object = None
    frame: str = ""
    wrong: str = ""

    @property
    def count(self) -> int:
        """Number of keypoints; 0 where the values are no whole number of them."""
        values = self.values
        return len(values) // 3 if isinstance(values, list) and len(values) % 3 == 0 else 0

    def person(self, place: int, schema: KeypointSchema) -> Person:
        """The person at a place in the file; null becomes NaN.

        Raises:
            Unusable: these are not the numbers of so many keypoints.
        """
        who, key, values = f"person {place}", self.key, self.values
        if self.wrong:
            raise Unusable(f"{who} {self.wrong}")
        if values is None:
            raise Unusable(f"{who} has no {key}")
        if not isinstance(values, list):
            raise Unusable(f"{who}: {key} is {kind(values)}, not a list")
        if not values:
            raise Unusable(f"{who}: {key} is empty")
        if len(values) != 3 * len(schema):
            raise Unusable(
                f"{who} has {len(values)} values in {key}; {_title(schema)} needs "
                f"{3 * len(schema)} (x, y, confidence of {len(schema)} keypoints)"
            )
        numbers = [math.nan if v is None else v for v in values]
        for at, value in enumerate(numbers):
            if type(value) not in (int, float):  # bool is an int to isinstance
                raise Unusable(f"{who}: value {at} of {key} is {kind(value)}, not a number")
        try:
            triples = np.array(numbers, dtype=np.float64).reshape(-1, 3)
        except OverflowError:
            raise Unusable(f"{who}: {key} holds a number too large for any picture") from None
        return Person(place, triples, _number(self.person_id), self.frame)


@dataclass(frozen=True, eq=False)
class KeypointFile:
    """What a reader found in a file.

    Attributes:
        path: the file. about: the format, as its reader calls it. entries: of the people.
        image_size: width and height of the picture in pixels, where the file says them.
    """

    path: Path
    about: str
    entries: tuple[Entry, ...]
    image_size: tuple[int, int] | None = None


def listed(content: Content, key: str, about: str) -> list[object]:
    """The list that a JSON object has under a key; `about` is the format.

    Raises:
        InputError: it is no list.
    """
    assert isinstance(content.json, dict)
    found = content.json[key]
    if not isinstance(found, list):
        raise problem(content.path, f'not {about}: "{key}" is {kind(found)}, not a list')
    return found


def _title(schema: KeypointSchema) -> str:
    """A schema as its authors write it: BODY_25."""
    name = schema.name.rstrip("0123456789")
    return f"{name.upper()}_{schema.name[len(name) :]}"


def _number(value: object) -> int:
    """A person's number; -1 where there is none."""
    if isinstance(value, list):  # OpenPose writes [3]
        value = value[0] if value else None
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else -1
