"""Known bodies to hold a comparison against, and how far off fits are from them."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.models.metrics import JOINTS, orientation_error, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix

_PELVIS = joint_index("pelvis")
_KEYS = ("joints3d", "global_orient", "names")


@dataclass(frozen=True, eq=False)
class KnownBody:
    """Joints (24, 3) metres in the camera's frame, and the root's rotation (3, 3) where known."""

    joints3d: Tensor
    orientation: Tensor | None


def load_truth(path: str | os.PathLike[str], names: list[str]) -> dict[str, KnownBody]:
    """The known bodies of some people, by name; of some, there may be none.

    Args:
        path: a folder of STEM_N.npz as `flowfit fit` writes them (`joints3d`, `global_orient`); or
            one npz: of one person the same keys, of N people `names` (N) STEM_N, `joints3d`
            (N, 24, 3) metres and, if known, `global_orient` (N, 3) radians.
        names: STEM_N of the people.

    Raises:
        InputError: nothing there, or something else.
    """
    where = Path(path)
    if where.is_dir():
        files = {name: where / f"{name}.npz" for name in names}
        found = {n: _bodies(f, [n])[n] for n, f in files.items() if f.is_file()}
    else:
        found = _bodies(where, names)
    if not found:
        raise InputError(f"{where}: no known body of {names[0]}" + ", ..." * (len(names) > 1))
    return found


def distances(known: KnownBody, joints3d: Tensor, orientation: Tensor) -> dict[str, float]:
    """MPJPE and PA-MPJPE over 14 joints in mm, and degrees between the orientations.

    Args:
        known: the truth. joints3d: (24, 3) metres. orientation: (3, 3) of the root.
    """
    got, truth = joints3d.double().cpu(), known.joints3d
    apart = (got - got[_PELVIS]) - (truth - truth[_PELVIS])
    found = {
        "pa_mpjpe_mm": 1000 * float(pa_mpjpe(got[JOINTS], truth[JOINTS])),
        "mpjpe_mm": 1000 * float(apart[JOINTS].norm(dim=-1).mean()),
    }
    if known.orientation is not None:
        turned = orientation_error(orientation.double().cpu(), known.orientation)
        found["orientation_deg"] = float(turned)
    return found


def _bodies(path: Path, names: list[str]) -> dict[str, KnownBody]:
    arrays = _read(path)
    joints = arrays.get("joints3d")
    if joints is None or joints.shape[-2:] != (NUM_JOINTS, 3) or joints.ndim not in (2, 3):
        raise InputError(f"{path}: needs joints3d, (24, 3) of one person or (N, 24, 3) of N")
    turns = arrays.get("global_orient")
    whose = [str(n) for n in arrays.get("names", np.array(names)).reshape(-1)]
    if joints.ndim == 2:
        joints, turns = joints[None], None if turns is None else turns[None]
    if len(whose) != len(joints) or (turns is not None and turns.shape != (len(joints), 3)):
        raise InputError(
            f"{path}: joints3d is of {len(joints)} people; names and global_orient (N, 3) must "
            f"be, too ({len(whose)} names)"
        )
    found = {}
    for row, name in enumerate(whose):
        if name in names and np.isfinite(joints[row]).all():
            turn = None if turns is None else axis_angle_to_matrix(torch.from_numpy(turns[row]))
            found[name] = KnownBody(torch.from_numpy(joints[row]), turn)
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    """Numbers as float64, texts as they are; nothing pickled is opened."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {
                key: data[key] for key in ("joints3d", "global_orient", "names") if key in data
            }
        return {k: a if k == "names" else a.astype(np.float64) for k, a in arrays.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give an npz of known bodies") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: is no npz of known bodies ({reason[:80]})") from None
