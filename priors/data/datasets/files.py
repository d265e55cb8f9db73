"""Reads and writes dataset files: npz of people, and pickled lists of frames with several views.

The pictures lie beside them on the disk; a file names them. Nothing that a file from outside holds
is run: npz is read without pickles, and pickles as `flowfit.models.safe_pickle` does.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.keypoints import BODY25
from flowfit.models.safe_pickle import evaluate, load_records
from flowfit.priors.data.datasets.layouts import (
    NEEDED,
    UNIT,
    Arrays,
    from_prohmr,
    from_spin,
    from_views,
    is_spin,
)
from flowfit.priors.data.datasets.people import SCHEMA, PictureSet

_PICKLES = (".pkl", ".pickle")
_ANSWER = "give an npz in ProHMR's or SPIN's layout, or ProHMR's pickled list of views"


def read_dataset(path: Path, root: Path | None = None, name: str | None = None) -> PictureSet:
    """A dataset file in any of the layouts; which one, its names tell.

    Args:
        path: ends in .npz, .pkl or .pickle. root: folder that the pictures' names start from; None
            takes the file's own. name: what results call it; None takes the file's.

    Raises:
        InputError: no such file, something else, or an entry that is missing or has another shape.
    """
    name, root = name or path.stem, root or path.parent
    if not path.is_file():
        raise InputError(f"{path}: no such dataset file")
    if path.suffix in _PICKLES:
        return from_views(str(path), name, root, _read_frames(path))
    arrays = _read_npz(path)
    if is_spin(arrays):
        return from_spin(str(path), name, root, arrays)
    return from_prohmr(str(path), name, root, arrays)


def write_dataset(path: Path, people: PictureSet) -> None:
    """Write people as an npz in ProHMR's layout, boxes in units of 200 pixels.

    Beside the field's names it has `focal`, `principal`, `image_size` and `transl`, where known.

    Raises:
        InputError: it cannot be written.
    """
    body = len(BODY25)
    two = np.concatenate((people.keypoints, people.confidence[..., None]), -1)
    three = np.concatenate((people.points, people.points_confidence[..., None]), -1)
    assert SCHEMA.names[:body] == BODY25.names
    arrays: dict[str, np.ndarray] = {
        "imgname": np.array(people.pictures, dtype=np.str_),
        "center": people.center,
        "scale": people.side / UNIT,
        "body_pose": people.pose.reshape(len(people), -1),
        "has_body_pose": people.has_pose.astype(np.float32),
        "betas": people.betas,
        "has_betas": people.has_betas.astype(np.float32),
        "body_keypoints_2d": two[:, :body],
        "extra_keypoints_2d": two[:, body:],
        "body_keypoints_3d": three[:, :body],
        "extra_keypoints_3d": three[:, body:],
        "gender": np.array(people.gender, dtype=np.str_),
    }
    extra = {
        "focal": people.focal,
        "principal": people.principal,
        "image_size": people.size,
        "transl": people.transl,
    }
    arrays |= {key: value for key, value in extra.items() if np.isfinite(value).any()}
    file = io.BytesIO()
    small = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()}
    np.savez_compressed(file, **small)  # type: ignore[arg-type]
    write_whole(path, file.getvalue())


def _read_npz(path: Path) -> Arrays:
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise InputError(f"{path} is a single array, not an npz; {_ANSWER}")
        with data:
            found, pickled = {}, []
            for key in data.files:
                try:
                    found[key] = data[key]
                except ValueError:  # an array of objects: pickled, and not opened
                    pickled.append(key)
        needed = [key for key in pickled if key in NEEDED]
        if needed:
            raise InputError(
                f"{path}: '{needed[0]}' is a pickle, which is not opened; save it anew"
            )
        return found
    except InputError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as npz ({reason[:80]}); {_ANSWER}") from None


def _read_frames(path: Path) -> list[Arrays]:
    try:
        with open(path, "rb") as file:
            loaded = load_records(file)
        if not isinstance(loaded, (list, tuple)):
            raise InputError(f"holds no list of frames; {_ANSWER}")
        return [_frame(one) for one in loaded]
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a pickle ({reason[:80]})") from None


def _frame(one: Any) -> Any:
    if not isinstance(one, dict):
        return one
    return {str(key): np.asarray(evaluate(value)) for key, value in one.items()}
