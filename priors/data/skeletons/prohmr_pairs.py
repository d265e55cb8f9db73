"""2D and 3D joints from a data set file of ProHMR and 4D-Humans (npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flowfit.models.errors import InputError
from flowfit.models.keypoints import PROHMR44, KeypointSchema
from flowfit.priors.data.skeletons.pairs import FilePairs
from flowfit.priors.lifting.input import JOINTS, ROOT, to_joints

# the crop camera of the release: 5000 px for a crop of 224
_CROP_FOCAL = 5000 / 224
_SCALE_UNIT = 200.0  # pixels: `scale` is the box's side in these
_PARTS = (("body", 25), ("extra", 19))


def read_prohmr_pairs(path: Path, wanted: KeypointSchema) -> FilePairs:
    """Pairs of everybody of whom all 17 joints are known in 3D.

    The file tells no camera; the release's crop camera stands for it.

    Raises:
        InputError: not such a file, damaged, arrays that do not fit, or nobody to take.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise InputError(f"{path} is a single array, not a data set of ProHMR")
        with data:
            names = ("center", "scale", *(f"{p}_keypoints_{d}d" for p, _ in _PARTS for d in "23"))
            missing = [n for n in names if n not in data]
            if missing:
                raise InputError(f"{path} is no data set of ProHMR: it has no {', '.join(missing)}")
            found = {n: np.asarray(data[n], dtype=np.float64) for n in names}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as npz: {reason}") from None
    count = len(found["scale"])
    for name, array in found.items():
        part, _, kind = name.partition("_keypoints_")
        shape: tuple[int, ...] = {"center": (2,), "scale": ()}.get(name, ())
        if kind:
            shape = dict(_PARTS)[part], 4 if kind == "3d" else 3
        if name == "scale":
            array = found[name] = array.reshape(count, -1).max(1) if count else array
        if array.shape != (count, *shape):
            raise InputError(f"{path}: {name} has shape {array.shape}, not {(count, *shape)}")
    flat, solid = (
        torch.from_numpy(np.concatenate([found[f"{p}_keypoints_{d}d"] for p, _ in _PARTS], 1))
        for d in "23"
    )
    keypoints, confidence = _joined(flat, wanted)
    joints, known = _joined(solid, JOINTS)
    whole = (known > 0).all(-1) & (confidence > 0).any(-1)
    if not bool(whole.any()):
        raise InputError(f"{path}: of none of {count} people are all {len(JOINTS)} joints in 3D")
    side = torch.from_numpy(found["scale"] * _SCALE_UNIT).float()[whole]
    root = JOINTS.index(ROOT)
    return FilePairs(
        keypoints[whole],
        confidence[whole].clamp(0, 1),
        (_CROP_FOCAL * side)[:, None].expand(-1, 2),
        torch.from_numpy(found["center"]).float()[whole],
        joints[whole] - joints[whole][:, root : root + 1],
    )


def _joined(rows: torch.Tensor, wanted: KeypointSchema) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and confidences of (N, 44, 2 or 3 and one) as another schema's."""
    good = rows.isfinite().all(-1)
    points = torch.where(good[..., None], rows[..., :-1], 0).float()
    trust = torch.where(good, rows[..., -1], 0).float()
    return to_joints(PROHMR44, wanted, points, trust)
