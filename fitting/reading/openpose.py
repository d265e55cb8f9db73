"""OpenPose's JSON, of one picture: an object with a list `people`."""

from __future__ import annotations

from flowfit.fitting.reading.entries import Content, Entry, KeypointFile, listed
from flowfit.fitting.reading.json_files import kind

ABOUT = "OpenPose JSON"
_KEYS = ("pose_keypoints_2d", "pose_keypoints")  # the second in files of OpenPose before 1.3


def recognises(content: Content) -> bool:
    """Whether it has people."""
    return isinstance(content.json, dict) and "people" in content.json


def read(content: Content) -> KeypointFile:
    """The entries of `people`."""
    people = listed(content, "people", ABOUT)
    return KeypointFile(content.path, ABOUT, tuple(map(_entry, people)))


def _entry(person: object) -> Entry:
    if not isinstance(person, dict):
        return Entry(wrong=f"is {kind(person)}, not an object")
    # the newer key's name when neither is there
    key = next((key for key in _KEYS if person.get(key) is not None), _KEYS[0])
    return Entry(person.get(key), key, person.get("person_id"))
