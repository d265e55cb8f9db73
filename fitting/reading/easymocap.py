"""EasyMocap's `annots/CAMERA/FRAME.json`, of one picture: an object with a list `annots`."""

from __future__ import annotations

from pathlib import Path

from flowfit.fitting.reading.entries import Content, Entry, KeypointFile, listed
from flowfit.fitting.reading.json_files import kind

ABOUT = "EasyMocap annots"


def recognises(content: Content) -> bool:
    """Whether it has annots."""
    return isinstance(content.json, dict) and "annots" in content.json


def read(content: Content) -> KeypointFile:
    """The entries of `annots`, the picture's size and its name, the frame's."""
    annots = listed(content, "annots", ABOUT)
    about = content.json
    assert isinstance(about, dict)
    width, height, name = (about.get(key) for key in ("width", "height", "filename"))
    size = None
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        size = width, height
    frame = Path(name).stem if isinstance(name, str) else ""
    entries = tuple(_entry(person, frame) for person in annots)
    return KeypointFile(content.path, ABOUT, entries, size)


def _entry(person: object, frame: str) -> Entry:
    if not isinstance(person, dict):
        return Entry(wrong=f"is {kind(person)}, not an object")
    rows = person.get("keypoints")
    if isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        rows = [value for row in rows for value in row]
    return Entry(rows, "keypoints", person.get("personID"), frame)
