"""Keypoint files of every known format, told by what is in them.

A format is a file beside this one and a line in `READERS`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flowfit.fitting.reading import easymocap, openpose
from flowfit.fitting.reading.detections import Detections, Person, Unusable, checked
from flowfit.fitting.reading.entries import Content, KeypointFile
from flowfit.fitting.reading.json_files import MAX_MEGABYTES, kind, parse_json, read_bytes
from flowfit.fitting.reading.pictures import problem
from flowfit.fitting.reading.schemas import check_count, schema_named, schema_of


class Reader(Protocol):
    """A format's grammar.

    Attributes:
        ABOUT: what the format is called: "OpenPose JSON".
    """

    ABOUT: str

    def recognises(self, content: Content, /) -> bool:
        """Whether a file is of this format, as far as a look tells."""
        ...

    def read(self, content: Content, /) -> KeypointFile:
        """The people of a file that was recognised; InputError when it is broken."""
        ...


READERS: Sequence[Reader] = (openpose, easymocap)  # the first that recognises a file reads it
_WANTED = "a keypoint file, such as the JSON that OpenPose writes (NAME_keypoints.json)"


def read(
    path: str | os.PathLike[str],
    *,
    schema: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """Read a keypoint file of any known format.

    Args:
        path: the file.
        schema: name of the keypoint schema; None tells it from the number of keypoints.
        image_size: width and height in pixels of the picture (turned as its EXIF says). With it
            normalised coordinates are scaled and keypoints far outside are found out. None takes
            what the file says.

    Returns:
        The people; none for a file with an empty list of them.

    Raises:
        InputError: the file cannot be used, or nobody in it.
    """
    if schema is not None:
        schema_named(path, schema)  # a wrong name is told before a wrong file
    return judge(open_file(path), schema=schema, image_size=image_size)


def open_file(path: str | os.PathLike[str]) -> KeypointFile:
    """The people of a file, not yet judged.

    Raises:
        InputError: the file cannot be read, or is of no known format.
    """
    content = Content(Path(path), read_bytes(path, _WANTED, MAX_MEGABYTES))
    for reader in READERS:
        if reader.recognises(content):
            return reader.read(content)
    value = parse_json(path, content.data, _WANTED)  # says why, if it is no JSON at all
    holds = f"it holds {kind(value)}"
    if isinstance(value, dict):
        more = ", ..." if len(value) > 5 else ""
        holds = f"it has {', '.join(str(key)[:20] for key in list(value)[:5]) or 'nothing'}{more}"
    known = ", ".join(reader.ABOUT for reader in READERS)
    raise problem(path, f"not a keypoint file: {holds}; known are {known}")


def judge(
    file: KeypointFile,
    *,
    schema: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Detections:
    """The people of a file who can be used; arguments and errors as in `read`."""
    wanted = None if schema is None else schema_named(file.path, schema)
    counts = [entry.count for entry in file.entries]
    table = wanted or schema_of(file.path, counts)
    persons: list[Person] = []
    skipped: dict[int, str] = {}
    for place, entry in enumerate(file.entries):
        try:
            persons.append(entry.person(place, table))
        except Unusable as reason:
            skipped[place] = str(reason)
    if wanted is not None and skipped and not persons:
        check_count(file.path, counts, wanted)
    return checked(file.path, table, persons, skipped, image_size or file.image_size, file.path)
