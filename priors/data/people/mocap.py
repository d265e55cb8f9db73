"""Poses from motion capture in AMASS's file layout."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowfit.models.errors import InputError
from flowfit.models.kinematics import NUM_JOINTS

# numbers a frame -> what the body model was; the first 22 joints are SMPL's in each of them
_LAYOUTS = {72: "SMPL", 156: "SMPL+H", 165: "SMPL-X"}
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_SHARED_JOINTS = 22  # SMPL's joints before the hands


@dataclass(frozen=True, eq=False)
class Mocap:
    """Frames of many sequences, one after the other.

    Attributes:
        poses: (T, 24, 3) axis-angle, radians, the root's first; y up in the world.
        sequence: (T,) number of the sequence that a frame comes from.
        names: file stem of each sequence. actions: what is done in each.
        kinds: how each was made, as its index says ("" where none does).
    """

    poses: np.ndarray
    sequence: np.ndarray
    names: tuple[str, ...]
    actions: tuple[str, ...]
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.poses)

    def balanced_weights(self) -> np.ndarray:
        """(T,) sampling weights, sum 1: half way (square root) from frames to equal actions."""
        labels = np.array(self.actions)[self.sequence]
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        weight = np.sqrt(counts[place]) / counts[place]
        return weight / weight.sum()


def read_sequence(path: Path) -> np.ndarray:
    """One AMASS file's poses as (T, 24, 3) axis-angle, radians.

    SMPL+H and SMPL-X files give their first 22 joints; the hands stay at rest.

    Raises:
        InputError: no such file, not an AMASS npz, wrong width, no frames, NaN or infinite.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise InputError(f"{path} is not an AMASS file: it is a single array, not an npz")
        with data:
            if "poses" not in data:
                raise InputError(
                    f"{path} is not an AMASS file: it has no 'poses' (it has {sorted(data)})"
                )
            poses = np.asarray(data["poses"], dtype=np.float64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such mocap file") from None
    except InputError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as npz: {reason}") from None
    if poses.ndim != 2 or poses.shape[1] not in _LAYOUTS:
        raise InputError(
            f"{path}: 'poses' has shape {poses.shape}; a frame has "
            f"{', '.join(f'{n} ({m})' for n, m in _LAYOUTS.items())} numbers"
        )
    if not len(poses):
        raise InputError(f"{path}: 'poses' has no frames")
    if not np.isfinite(poses).all():
        bad = int(np.flatnonzero(~np.isfinite(poses).all(1))[0])
        raise InputError(f"{path}: frame {bad} of 'poses' has NaN or infinite values")
    joints = poses.reshape(len(poses), -1, 3)[:, :NUM_JOINTS].copy()
    if poses.shape[1] != NUM_JOINTS * 3:
        joints[:, _SHARED_JOINTS:] = 0
    return joints


def read_mocap(paths: Paths) -> Mocap:
    """All sequences of folders (searched to the bottom) and files, in the order given.

    Files `index.json` or `index_*.json` beside or above the sequences, with records of `file`,
    `action` and `kind`, name the actions; without them every folder is one action.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    files = [file for path in several for file in _files(Path(path))]
    known: dict[str, tuple[str, str]] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        known |= _indexed(folder)
    poses = [read_sequence(p) for p in files]
    names = tuple(p.stem for p in files)
    return Mocap(
        np.concatenate(poses),
        np.repeat(np.arange(len(poses)), [len(p) for p in poses]),
        names,
        tuple(known.get(p.stem, (p.parent.name, ""))[0] for p in files),
        tuple(known.get(p.stem, ("", ""))[1] for p in files),
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.npz"))
    if not found:
        raise InputError(f"{path}: no AMASS files (*.npz) in this folder")
    return found


def _indexed(folder: Path) -> dict[str, tuple[str, str]]:
    """Action and kind by file stem, from the nearest folder upwards that has an index."""
    for place in (folder, *list(folder.parents)[:2]):
        found: dict[str, tuple[str, str]] = {}
        for index in (*sorted(place.glob("index_*.json")), place / "index.json"):
            if not index.is_file():
                continue
            try:
                records = json.loads(index.read_text())
                if isinstance(records, dict):
                    records = records["sequences"]
                found |= {
                    Path(r["file"]).stem: (str(r["action"]), str(r.get("kind") or ""))
                    for r in records
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        if found:
            return found
    return {}
