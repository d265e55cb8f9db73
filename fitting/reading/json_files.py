"""Reads a JSON file that somebody else wrote."""

from __future__ import annotations

import json
import os

from flowfit.fitting.reading.pictures import existing_file, problem

MAX_MEGABYTES = 64  # of JSON; 100 people with faces and hands are under 1


def read_json(
    path: str | os.PathLike[str], wanted: str, max_megabytes: int = MAX_MEGABYTES
) -> object:
    """What a JSON file holds; arguments and errors as in `read_bytes` and `parse_json`."""
    return parse_json(path, read_bytes(path, wanted, max_megabytes), wanted)


def read_bytes(
    path: str | os.PathLike[str], wanted: str, max_megabytes: int = MAX_MEGABYTES
) -> bytes:
    """A file's bytes.

    Args:
        path: the file. wanted: what the user should give, for the error text.
        max_megabytes: larger files are not read.

    Raises:
        InputError: no such file, or it cannot be read.
    """
    found = existing_file(path, wanted)
    limit = max_megabytes * 1_000_000
    try:
        with found.open("rb") as file:
            data = file.read(limit + 1)  # not by its stated size: pipes have none
    except OSError as error:
        raise problem(path, f"cannot be read ({error.strerror}); check its access rights") from None
    if len(data) > limit:
        raise problem(path, f"is larger than {max_megabytes} MB; give {wanted}")
    return data


def parse_json(path: str | os.PathLike[str], data: bytes, wanted: str) -> object:
    """What the bytes of a JSON file hold.

    Raises:
        InputError: it is not JSON in UTF-8.
    """
    if not data.strip():
        raise problem(path, f"is empty; give {wanted}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise problem(path, "is text in UTF-16, not UTF-8; save it as UTF-8")
    if b"\0" in data:
        raise problem(path, f"is a binary file, not JSON; give {wanted}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise problem(
            path, f"is not text in UTF-8 (byte {error.start} is no character); give {wanted}"
        ) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} (character {error.pos})"
        end = text.rstrip()
        cut = ", it looks cut off" if error.pos >= len(end) or not end.endswith("}") else ""
        raise problem(
            path, f"is not valid JSON{cut}: {error.msg} at {place}; write or copy it again"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 1,000 deep
        raise problem(
            path, f"is JSON that no program writes ({type(error).__name__}); give {wanted}"
        ) from None


def kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(value), "a number")
