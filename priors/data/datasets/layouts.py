"""What the field's dataset files call things, brought to one form.

ProHMR's and 4D-Humans' npz, SPIN's npz, and ProHMR's lists of views share most of their names; they
differ in the order of keypoints, in the unit of the box, and in what they leave out. Everything is
checked here; a mistake says which entry of which file, and what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, PROHMR44, SPIN24, KeypointSchema
from flowfit.models.kinematics import NUM_JOINTS
from flowfit.priors.data.datasets.people import BETAS, SCHEMA, PictureSet, build, join

NEEDED = ("imgname", "center", "scale")
UNIT = 200.0  # pixels: what `scale` counts a box's side in
# SPIN and 4D-Humans count boxes in 200 pixels; ProHMR's own files hold pixels. No set of pictures
# has boxes of 15 * 200 pixels for most of its people, and none has boxes of 15 pixels
_LARGEST_SCALE = 15.0
_VIEW_MARGIN = 1.2  # ProHMR enlarges the boxes of its lists of views when it reads them
EXTRA = KeypointSchema("extra19", PROHMR44.names[len(BODY25) :], ())
Arrays = Mapping[str, np.ndarray]


def is_spin(arrays: Arrays) -> bool:
    """Whether the names are those of SPIN's files."""
    return any(key in arrays for key in ("part", "S", "pose", "openpose"))


def from_prohmr(where: str, name: str, root: Path, arrays: Arrays) -> PictureSet:
    """ProHMR's and 4D-Humans' layout.

    Raises:
        InputError: an entry is missing or has another shape; `where` names the file.
    """
    pictures, center, side = _boxes(where, arrays)
    count = len(pictures)
    known = _empty(count)
    for part, schema in (("body", BODY25), ("extra", EXTRA)):
        for dimensions, place, trust in (
            (2, "keypoints", "confidence"),
            (3, "points", "points_confidence"),
        ):
            key = f"{part}_keypoints_{dimensions}d"
            given = _numbers(where, arrays, key, count, (len(schema), dimensions + 1))
            if given is not None:
                _put(known[place], known[trust], schema, given)
    pose = _numbers(where, arrays, "body_pose", count, (NUM_JOINTS * 3,), (NUM_JOINTS, 3))
    _parameters(where, arrays, known, pose, "has_body_pose", "betas", "has_betas")
    for key, place, width in (
        ("focal", "focal", 2),
        ("principal", "principal", 2),
        ("image_size", "size", 2),
        ("transl", "transl", 3),
    ):
        given = _numbers(where, arrays, key, count, (width,))
        if given is not None:
            known[place] = given
    return build(name, root, pictures, center, side, known, _gender(where, arrays, count))


def from_spin(where: str, name: str, root: Path, arrays: Arrays) -> PictureSet:
    """SPIN's layout: `part` and `S` in its order of 24, `openpose` in OpenPose's.

    Raises:
        InputError: as in `from_prohmr`.
    """
    pictures, center, side = _boxes(where, arrays)
    count = len(pictures)
    known = _empty(count)
    part = _numbers(where, arrays, "part", count, (len(SPIN24), 3))
    openpose = _numbers(where, arrays, "openpose", count, (len(BODY25), 3))
    three = _numbers(where, arrays, "S", count, (len(SPIN24), 4))
    if part is not None:
        _put(known["keypoints"], known["confidence"], SPIN24, part)
    if openpose is not None:  # an annotated nose or eye stays where OpenPose found none
        _put(known["keypoints"], known["confidence"], BODY25, openpose, where_seen=True)
    if three is not None:
        _put(known["points"], known["points_confidence"], SPIN24, three)
    pose = _numbers(where, arrays, "pose", count, (NUM_JOINTS * 3,))
    _parameters(where, arrays, known, pose, "has_smpl", "shape", "has_smpl")
    return build(name, root, pictures, center, side, known, _gender(where, arrays, count))


def from_views(where: str, name: str, root: Path, frames: list[Arrays]) -> PictureSet:
    """ProHMR's lists of frames, each with the arrays of its views.

    Raises:
        InputError: as in `from_prohmr`, and a list without frames.
    """
    if not frames:
        raise InputError(f"{where} has no frames")
    found = []
    for number, arrays in enumerate(frames):
        place = f"{where}, frame {number}"
        if not isinstance(arrays, Mapping):
            raise InputError(f"{place}: holds no named arrays; a frame is a dictionary of arrays")
        found.append(from_prohmr(place, name, root, arrays))
        found[-1].frame[:] = number
    joined = join(found)
    joined.side[:] *= _VIEW_MARGIN
    return joined


def _empty(count: int) -> dict[str, np.ndarray]:
    keypoints = len(SCHEMA)
    return {
        "keypoints": np.zeros((count, keypoints, 2)),
        "confidence": np.zeros((count, keypoints)),
        "points": np.zeros((count, keypoints, 3)),
        "points_confidence": np.zeros((count, keypoints)),
    }


def _put(
    places: np.ndarray,
    trust: np.ndarray,
    schema: KeypointSchema,
    given: np.ndarray,
    *,
    where_seen: bool = False,
) -> None:
    """Copy (N, K, dimensions + 1) of a schema to the keypoints of the same names."""
    index = SCHEMA.indices(schema.names)
    confidence = np.where(np.isfinite(given).all(-1), given[..., -1], 0)
    values = np.nan_to_num(given[..., :-1], posinf=0.0, neginf=0.0)
    taken = confidence > 0 if where_seen else np.ones_like(confidence, dtype=bool)
    places[:, index] = np.where(taken[..., None], values, places[:, index])
    trust[:, index] = np.where(taken, confidence, trust[:, index])


def _parameters(
    where: str,
    arrays: Arrays,
    known: dict[str, np.ndarray],
    pose: np.ndarray | None,
    has_pose: str,
    betas: str,
    has_betas: str,
) -> None:
    """The SMPL parameters; as in the field's readers they count where the file says they are."""
    count = len(known["keypoints"])
    if pose is not None:
        flags = _numbers(where, arrays, has_pose, count, ())
        there = np.ones(count, dtype=bool) if flags is None else flags > 0
        pose = pose.reshape(count, NUM_JOINTS, 3)
        known["has_pose"] = there & np.isfinite(pose).all((1, 2))
        known["pose"] = np.nan_to_num(pose, posinf=0.0, neginf=0.0)
    shape = _numbers(where, arrays, betas, count, (BETAS,))
    if shape is not None:
        flags = _numbers(where, arrays, has_betas, count, ())
        there = np.ones(count, dtype=bool) if flags is None else flags > 0
        known["has_betas"] = there & np.isfinite(shape).all(1)
        known["betas"] = np.nan_to_num(shape, posinf=0.0, neginf=0.0)


def _boxes(where: str, arrays: Arrays) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the pictures, centres and sides of the boxes, pixels."""
    for key in NEEDED:
        if key not in arrays:
            raise InputError(
                f"{where} is no dataset file: it has no '{key}' "
                f"(it has {', '.join(sorted(arrays)[:9])})"
            )
    names = np.asarray(arrays["imgname"])
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise InputError(f"{where}: 'imgname' must be a list of texts, one a person")
    pictures = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names]
    for name in dict.fromkeys(pictures):
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(
                f"{where}: 'imgname' has {name[:60]!r}; names lead from the pictures' folder down"
            )
    count = len(pictures)
    center = _numbers(where, arrays, "center", count, (2,))
    scale = np.asarray(arrays["scale"])
    if scale.dtype.kind not in "fiu" or scale.shape[:1] != (count,) or scale.ndim > 2:
        raise InputError(f"{where}: 'scale' has shape {scale.shape}; it must be ({count},)")
    scale = scale.reshape(count, -1).astype(np.float64).max(axis=-1, initial=-np.inf)
    assert center is not None
    good = np.isfinite(scale) & (scale > 0) & np.isfinite(center).all(-1)
    if not good.all():
        bad = int(np.flatnonzero(~good)[0])
        raise InputError(f"{where}: the box of person {bad} is none (center, scale)")
    in_pixels = count > 0 and float(np.median(scale)) > _LARGEST_SCALE
    return pictures, center, scale * (1.0 if in_pixels else UNIT)


def _numbers(
    where: str,
    arrays: Arrays,
    key: str,
    count: int,
    *shapes: tuple[int, ...],
) -> np.ndarray | None:
    """An entry as float64 (N, ...), or None where the file has none."""
    if key not in arrays:
        return None
    values = np.asarray(arrays[key])
    if values.dtype.kind not in "fiub":
        raise InputError(f"{where}: '{key}' holds no numbers")
    if values.shape == (count, 1) and () in shapes:
        values = values[:, 0]
    if values.shape not in [(count, *shape) for shape in shapes]:
        wanted = " or ".join(str((count, *shape)) for shape in shapes)
        raise InputError(f"{where}: '{key}' has shape {values.shape}; it must be {wanted}")
    return values.astype(np.float64)


def _gender(where: str, arrays: Arrays, count: int) -> list[str] | None:
    if "gender" not in arrays:
        return None
    given = np.asarray(arrays["gender"])
    if given.shape != (count,):
        raise InputError(f"{where}: 'gender' has shape {given.shape}; it must be ({count},)")
    if given.dtype.kind not in "US":  # some files say -1 for unknown
        return [""] * count
    texts = (g.decode("utf-8", "replace") if isinstance(g, bytes) else str(g) for g in given)
    return [text[:1].lower() if text[:1].lower() in ("m", "f") else "" for text in texts]
