"""Reads body files in the SMPL format, and finds one: built in, by path, or in a folder.

The official files are pickles; `flowfit.models.safe_pickle` reads them without running what they
name.
"""

from __future__ import annotations

import os
import re
import zipfile
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from flowfit.models.body import Body, landmark_ids
from flowfit.models.errors import InputError
from flowfit.models.keypoints import SMPL_NUM_VERTICES, SMPL_VERTEX_IDS
from flowfit.models.kinematics import NUM_BODY_JOINTS, NUM_JOINTS, PARENTS, joint_index
from flowfit.models.proportions import SUFFIX, with_proportions
from flowfit.models.safe_pickle import evaluate, load_records

ENVIRONMENT_VARIABLE = "FLOWFIT_BODY"
GENDERS = ("neutral", "male", "female")
_BUILT_IN = {"open": "open_body.npz", "open-low": "open_body_low.npz"}
_REQUIRED = ("v_template", "f", "shapedirs", "J_regressor", "weights", "kintree_table")
_WANTED = (*_REQUIRED, "posedirs", "keypoint_names", "keypoint_vertex_ids")
_ADVICE = "give the SMPL .pkl or .npz from smpl.is.tue.mpg.de"
_OTHER_MODELS = {52: "an SMPL+H", 55: "an SMPL-X", 16: "a MANO", 5: "a FLAME"}  # by joints
_SUM_TOLERANCE = 1e-3  # skinning weights may have been stored with few digits
_MIDLINE = 0.03  # metres either side; the top of the head is looked for in this strip


def _read_npy(file: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:  # the official .npz keep J_regressor as a pickled sparse matrix
        return evaluate(load_records(file))
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _read_values(path: Path) -> dict[str, Any]:
    """The file's keys; the values only of those that make a body (the others' are None)."""
    key = ""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                values = load_records(file)
            if not isinstance(values, dict):
                raise InputError(
                    f"is not an SMPL body file: it holds no table of arrays; {_ADVICE}"
                )
            result = dict.fromkeys(str(k) for k in values)
            for key in (k for k in _WANTED if k in values):
                result[key] = evaluate(values[key])
            return result
        with zipfile.ZipFile(path) as archive:
            names = {n.removesuffix(".npy"): n for n in archive.namelist()}
            result = dict.fromkeys(names)
            for key in (k for k in _WANTED if k in names):
                with archive.open(names[key]) as file:
                    result[key] = _read_npy(file)
            return result
    except InputError as error:
        raise InputError(f"{path}: {key} {error}" if key else f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged file can fail in any way
        part = f"its {key} is damaged" if key else "it is neither a pickle nor an .npz"
        raise InputError(
            f"{path} is not an SMPL body file: {part} ({type(error).__name__}); {_ADVICE}"
        ) from None


def read_body_file(
    path: str | os.PathLike[str],
    *,
    num_betas: int = 10,
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Body:
    """Read an SMPL body file, .npz or .pkl (also the official ones that Python 2 wrote).

    Args:
        path: the file. num_betas: how many shape coefficients to keep.
        name: what to call the body; by default it follows the file's name.
        dtype: number type of the body's arrays.

    Raises:
        InputError: the file is missing, damaged, of another model, or wants to run code.
    """
    path = Path(path)
    values = _read_values(path)
    missing = [key for key in _REQUIRED if key not in values]
    if missing:
        keys = " ".join(", ".join([*values][:12]).split()) or "none"
        raise InputError(
            f"{path} is not an SMPL body file: it has no {', '.join(missing)} "
            f"(keys: {keys}); {_ADVICE}"
        )

    def numbers(key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        try:
            array = np.array(values[key], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{path}: {key} holds something else than numbers; {_ADVICE}"
            ) from None
        fits = len(shape) == array.ndim and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(
                f"{path}: {key} has shape {array.shape}, expected ({expected}); {_ADVICE}"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {key} holds NaN or infinite numbers; {_ADVICE}")
        return array

    def whole_numbers(key: str, shape: tuple[int | None, ...], limit: int) -> np.ndarray:
        array = numbers(key, shape)
        if array.size and (array.min() < 0 or array.max() >= limit or (array % 1).any()):
            raise InputError(f"{path}: {key} names vertices outside 0 to {limit - 1}; {_ADVICE}")
        return array.astype(np.int64)

    tree = numbers("kintree_table", (2, None))
    joints = tree.shape[1]
    if joints != NUM_JOINTS:
        other = _OTHER_MODELS.get(joints, "another")
        raise InputError(
            f"{path} is {other} model of {joints} joints; the body must be SMPL's, "
            f"of {NUM_JOINTS}: {_ADVICE}"
        )
    if tree[0, 1:].tolist() != list(PARENTS[1:]) or tree[0, 0] not in (-1, 2**32 - 1, 2.0**64):
        raise InputError(f"{path}: kintree_table is not the tree of SMPL's joints; {_ADVICE}")
    template = numbers("v_template", (None, 3))
    count = len(template)
    weights = numbers("weights", (count, NUM_JOINTS))
    if np.abs(weights.sum(1) - 1).max(initial=0) > _SUM_TOLERANCE or weights.min(initial=0) < -0.1:
        raise InputError(f"{path}: the rows of weights do not sum to 1; {_ADVICE}")
    regressor = numbers("J_regressor", (NUM_JOINTS, count))
    shapes = numbers("shapedirs", (count, 3, None))
    if not 1 <= num_betas <= shapes.shape[2]:
        raise InputError(
            f"{path} has {shapes.shape[2]} betas; give a number from 1 to that, not {num_betas}"
        )
    pose = None
    if values.get("posedirs") is not None and np.any(values["posedirs"]):
        pose = torch.from_numpy(numbers("posedirs", (count, 3, 9 * NUM_BODY_JOINTS)))

    marks: dict[str, int] = {}
    if values.get("keypoint_names") is not None and values.get("keypoint_vertex_ids") is not None:
        names = np.ravel(values["keypoint_names"]).tolist()
        ids = whole_numbers("keypoint_vertex_ids", (len(names),), count)
        marks = landmark_ids(names, ids.tolist())
    elif count == SMPL_NUM_VERTICES:
        marks = dict(SMPL_VERTEX_IDS)
    if "head_top" not in marks and count != SMPL_NUM_VERTICES:
        middle = regressor[joint_index("head")] @ template[:, 0]
        near = np.abs(template[:, 0] - middle) < _MIDLINE
        if near.any():
            marks["head_top"] = int(np.where(near, template[:, 1], -np.inf).argmax())
    return Body.build(
        _name_of(path) if name is None else name,
        template=torch.from_numpy(template),
        faces=torch.from_numpy(whole_numbers("f", (None, 3), count)),
        shape_directions=torch.from_numpy(shapes[..., :num_betas].copy()),
        pose_directions=pose,
        joint_regressor=torch.from_numpy(regressor),
        skinning=torch.from_numpy(weights),
        vertex_ids=marks,
    ).to(dtype=dtype)


def _name_of(path: Path) -> str:
    stem = path.stem.lower()
    for name, file in _BUILT_IN.items():
        if path.name == file:
            return name
    if found := re.match(r"(?:smpl|basicmodel)_(neutral|male|female|m|f)(?:_|$)", stem):
        return "smpl-" + {"m": "male", "f": "female"}.get(found[1], found[1])
    return path.stem


@lru_cache
def _built_in(name: str) -> Body:
    with as_file(files("flowfit.models") / "data" / _BUILT_IN[name]) as path:
        return read_body_file(path, name=name)


def _official_names(gender: str) -> list[str]:
    """File names of the official downloads, in lower case (their case varies)."""
    letter = {"male": "m", "female": "f"}.get(gender, gender)
    return [
        *(f"smpl_{gender}.pkl", f"smpl_{gender}.npz"),
        *(f"basicmodel_{letter}_lbs_10_207_0_v{v}.pkl" for v in ("1.1.0", "1.0.0")),
    ]


def _search(folder: Path, gender: str) -> Path | None:
    for place in (folder, folder / "smpl", folder / "models", folder / "smpl" / "models"):
        if place.is_dir():
            present = {p.name.lower(): p for p in sorted(place.iterdir())}
            for name in _official_names(gender):
                if name in present:
                    return present[name]
    return None


def find_body(spec: str | os.PathLike[str] | None = None, *, gender: str = "neutral") -> Body:
    """The body to use.

    Args:
        spec: "open" or "open-low" (built in), an SMPL file, or a folder of them (also looked for
            in its smpl/ and models/ subfolders). None: the environment variable FLOWFIT_BODY, or
            else "open". With "+proportions" at its end: see `models.proportions`.
        gender: "neutral", "male" or "female"; which file to take from a folder.

    Raises:
        InputError: there is no such body, or its file cannot be used.
    """
    if gender not in GENDERS:
        raise InputError(f"no gender {gender!r}; give one of {', '.join(GENDERS)}")
    if spec is None:
        from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
        if not from_environment:
            return _built_in("open")
        try:
            return find_body(from_environment, gender=gender)
        except InputError as error:
            raise InputError(f"{error} (asked for by {ENVIRONMENT_VARIABLE})") from None
    if str(spec).endswith(SUFFIX):
        return with_proportions(find_body(str(spec).removesuffix(SUFFIX), gender=gender))
    if str(spec) in _BUILT_IN:
        return _built_in(str(spec))
    path = Path(spec).expanduser()
    if not path.exists():
        raise InputError(
            f"no body {str(spec)!r}: give {', '.join(_BUILT_IN)}, an SMPL .pkl or "
            ".npz file, or a folder that holds one"
        )
    if not path.is_dir():
        return read_body_file(path)
    found = _search(path, gender)
    if found is None:
        raise InputError(
            f"{path} holds no {gender} SMPL file; looked there, in smpl/ and in "
            f"models/ for {', '.join(_official_names(gender))} (in any case)"
        )
    return read_body_file(found)


def available_bodies() -> list[tuple[str, str]]:
    """Names of the bodies at hand and where each is: built in, or set by FLOWFIT_BODY.

    Files are listed by name, not read.
    """
    bodies = [(name, "built in") for name in _BUILT_IN]
    spec = os.environ.get(ENVIRONMENT_VARIABLE)
    if spec and spec not in _BUILT_IN:
        path = Path(spec).expanduser()
        found = [_search(path, g) for g in GENDERS] if path.is_dir() else [path]
        bodies += [(_name_of(p), str(p)) for p in found if p is not None and p.exists()]
    return bodies
