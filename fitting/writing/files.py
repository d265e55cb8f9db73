"""Results as files that open elsewhere, each written whole or not at all."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole


class Folder:
    """A folder of results, made at once, and the files in it, in order."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.files: list[Path] = []
        make_folder(self.path)

    def file(self, name: str) -> Path:
        """Where to write the next file."""
        self.files.append(self.path / name)
        return self.files[-1]


def check_writable(out: str | os.PathLike[str] | None) -> None:
    """Find out before any work whether files can be put into a folder (which may not exist yet).

    Args:
        out: the folder; None for no files.

    Raises:
        InputError: they cannot.
    """
    if out is None:
        return
    folder = existing = Path(out)
    while not existing.exists() and existing.parent != existing:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is a file; give a folder for the results")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {existing} cannot be written; give another folder")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it.

    Raises:
        InputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be created ({error.strerror}); give another folder"
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A readable JSON file; numbers that are not finite become null."""
    write_whole(path, (json.dumps(_plain(content), indent=1) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed npz without pickled objects."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def floats(tensor: Tensor) -> np.ndarray:
    """As float32 on the CPU."""
    return tensor.detach().cpu().numpy().astype(np.float32)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
