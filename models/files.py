"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from flowfit.models.errors import InputError


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that it is there whole or not at all; an older one is replaced.

    Raises:
        InputError: the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    # the same folder, because renaming is at once only within one file system
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):  # it may never have come to be
            temporary.unlink()
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write {target}: {reason}; give a path in a folder that exists and is writable"
        ) from error
