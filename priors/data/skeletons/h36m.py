"""Human3.6M's skeletons as the lifting literature keeps them: `data_3d_h36m.npz` and
`data_2d_h36m_NAME.npz`, in the layout that VideoPose3D made common.

The 3D file has positions in the world and the 2D files pixels of four cameras; how the cameras
stand is in neither. It is worked out from the two: each camera is the one that takes a recording's
3D joints to its 2D joints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from flowfit.models.errors import InputError
from flowfit.models.keypoints import COCO17, H36M17, KeypointSchema
from flowfit.models.safe_pickle import load_npz_object
from flowfit.priors.data.skeletons.pairs import FilePairs
from flowfit.priors.data.skeletons.resection import resect
from flowfit.priors.lifting.input import JOINTS, ROOT, to_joints

FILE_3D = "data_3d_h36m.npz"
TRAINING = ("S1", "S5", "S6", "S7", "S8")
EVALUATION = ("S9", "S11")
# the recordings' 32 joints; those without a name are ends, thumbs and twins of other joints
_NAMES_32: tuple[str | None, ...] = (
    *("MidHip", "RHip", "RKnee", "RAnkle", None, None),
    *("LHip", "LKnee", "LAnkle", None, None),
    *(None, "Spine", "Thorax", "Jaw", "HeadTop"),
    *(None, "LShoulder", "LElbow", "LWrist", None, None, None, None),
    *(None, "RShoulder", "RElbow", "RWrist", None, None, None, None),
)
_LAYOUTS: dict[str, KeypointSchema] = {"h36m": H36M17, "coco": COCO17}
_MOST_METRES = 10.0  # from the pelvis to any joint; beyond, the file is in other units
_RESECTION_FRAMES = 300
_WRONG_CAMERA = 0.05  # of the person's size: a median error above says the files do not fit


class _Recording(NamedTuple):
    """One action of one subject: (T, 17, 3) metres in the world, and per camera (T, K, 2)."""

    subject: str
    action: str
    joints: np.ndarray
    views: list[np.ndarray]


def read_h36m(
    folder: Path,
    wanted: KeypointSchema,
    *,
    subjects: Collection[str],
    detections: str | None = None,
) -> FilePairs:
    """Pairs of every frame of every camera.

    Args:
        folder: with both files. wanted: what the network is told. subjects: whom to take.
        detections: NAME of the 2D file; None where there is one alone.

    Raises:
        InputError: a file is missing, damaged, asks for code, or the two do not belong together.
    """
    path_2d = _keypoints_file(folder, detections)
    layout = _layout(path_2d)
    keypoints: list[torch.Tensor] = []
    trust: list[torch.Tensor] = []
    joints: list[np.ndarray] = []
    focal: list[torch.Tensor] = []
    center: list[torch.Tensor] = []
    for subject, group in _by_subject(folder / FILE_3D, path_2d, layout, subjects):
        for place in range(min(len(r.views) for r in group)):
            world = np.concatenate([r.joints for r in group])
            seen = np.concatenate([r.views[place][: len(r.joints)] for r in group])
            where = f"{path_2d}, {subject}, camera {place}"
            rotation, matrix = _camera(where, layout, world, seen)
            root = world[:, JOINTS.index(ROOT)][:, None]
            joints.append(((world - root) @ rotation.T).astype(np.float32))
            there = np.isfinite(seen).all(-1)
            moved, told = to_joints(
                layout,
                wanted,
                torch.from_numpy(np.nan_to_num(seen)).float(),
                torch.from_numpy(there).float(),
            )
            keypoints.append(moved)
            trust.append(told)
            for numbers, pair in (
                (focal, (matrix[0, 0], matrix[1, 1])),
                (center, (matrix[0, 2], matrix[1, 2])),
            ):
                numbers.append(torch.tensor(pair).float().expand(len(seen), 2))
    if not joints:
        raise InputError(f"{folder / FILE_3D} has none of the subjects {', '.join(subjects)}")
    return FilePairs(
        torch.cat(keypoints),
        torch.cat(trust),
        torch.cat(focal),
        torch.cat(center),
        torch.from_numpy(np.concatenate(joints)),
    )


def _keypoints_file(folder: Path, detections: str | None) -> Path:
    if not (folder / FILE_3D).is_file():
        raise InputError(f"{folder}: no {FILE_3D} in this folder")
    found = sorted(folder.glob("data_2d_h36m_*.npz"))
    if detections is not None:
        path = folder / f"data_2d_h36m_{detections}.npz"
        if path not in found:
            raise InputError(f"{path}: no such file")
        return path
    if len(found) != 1:
        names = ", ".join(p.stem.removeprefix("data_2d_h36m_") for p in found)
        raise InputError(
            f"{folder}: {'no data_2d_h36m_NAME.npz here' if not found else 'several 2D files'}"
            + (f"; choose with --detections from {names}" if found else "")
        )
    return found[0]


def _layout(path: Path) -> KeypointSchema:
    about = load_npz_object(path, "metadata")
    name = about.get("layout_name") if isinstance(about, dict) else None
    if name not in _LAYOUTS:
        raise InputError(
            f"{path}: its metadata name no layout of {', '.join(_LAYOUTS)}, but {str(name)[:40]!r}"
        )
    return _LAYOUTS[name]


def _by_subject(
    path_3d: Path, path_2d: Path, layout: KeypointSchema, subjects: Collection[str]
) -> Iterator[tuple[str, list[_Recording]]]:
    """Recordings that both files have, subject by subject."""
    in_3d = _tree(path_3d, "positions_3d")
    in_2d = _tree(path_2d, "positions_2d")
    for subject in (s for s in in_3d if s in subjects):
        group = []
        for action, positions in in_3d[subject].items():
            views = in_2d.get(subject, {}).get(action)
            if views is None:
                continue
            where = f"{subject}, {action}"
            joints = _joints(f"{path_3d}, {where}", positions)
            group.append(_Recording(subject, action, joints, _views(
                f"{path_2d}, {where}", views, len(joints), len(layout)
            )))  # fmt: skip
        if not group:
            raise InputError(f"{path_2d} has no action of {subject} that {path_3d.name} has")
        yield subject, group


def _tree(path: Path, name: str) -> dict[str, dict[str, Any]]:
    found = load_npz_object(path, name)
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise InputError(f"{path}: {name} is no table of subjects and their actions")
    return {str(k): v for k, v in found.items()}


def _joints(where: str, positions: Any) -> np.ndarray:
    """(T, 17, 3) of a recording with 32 or 17 joints."""
    array = _numbers(where, positions)
    if array.ndim != 3 or array.shape[1] not in (len(_NAMES_32), len(JOINTS)) or len(array) == 0:
        raise InputError(f"{where}: positions have shape {array.shape}, not (frames, 32 or 17, 3)")
    array = array[..., :3]
    if array.shape[1] == len(_NAMES_32):
        array = array[:, [_NAMES_32.index(name) for name in JOINTS.names]]
    if not np.isfinite(array).all():
        raise InputError(f"{where}: positions have NaN or infinite values")
    if np.abs(array - array[:, :1]).max() > _MOST_METRES:
        raise InputError(f"{where}: joints lie more than {_MOST_METRES:g} m apart; give metres")
    return array


def _views(where: str, views: Any, frames: int, keypoints: int) -> list[np.ndarray]:
    """Per camera (T, K, 2); detectors' files may have more frames than the 3D file, or fewer."""
    if not isinstance(views, (list, np.ndarray)) or not len(views):
        raise InputError(f"{where}: no list of cameras")
    found = []
    for place, view in enumerate(views):
        array = _numbers(f"{where}, camera {place}", view)
        if array.ndim != 3 or array.shape[1] != keypoints or array.shape[2] < 2:
            raise InputError(
                f"{where}, camera {place}: keypoints have shape {array.shape}, "
                f"not (frames, {keypoints}, 2)"
            )
        if len(array) < frames:
            raise InputError(f"{where}, camera {place}: {len(array)} frames, in 3D {frames}")
        found.append(array[:frames, :, :2])
    return found


def _numbers(where: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: not an array of numbers") from None


def _camera(
    where: str, layout: KeypointSchema, world: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) from the world and intrinsic matrix of the camera that saw a person so."""
    source = layout.map_to(JOINTS)
    # limbs: where a detector's trunk and head lie is a matter of its training set
    limbs = [n for n in JOINTS.names if n[0] in "LR" and source[JOINTS.index(n)] >= 0]
    frames = np.unique(np.linspace(0, len(world) - 1, _RESECTION_FRAMES).astype(int))
    points = world[frames][:, JOINTS.indices(limbs)].reshape(-1, 3)
    pixels = seen[frames][:, [source[JOINTS.index(n)] for n in limbs]].reshape(-1, 2)
    good = np.isfinite(pixels).all(-1)
    found = resect(points[good], pixels[good])
    low, high = np.nanmin(seen[frames], 1), np.nanmax(seen[frames], 1)
    size = float(np.nanmedian((high - low).max(-1)))
    if found is None or found.error > _WRONG_CAMERA * size:
        raise InputError(f"{where}: no camera takes the 3D joints to these 2D joints")
    return found.rotation, found.matrix
