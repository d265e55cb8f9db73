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
import torch

from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.sides import SIDES
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.rotations import matrix_to_axis_angle


def check_writable(folder: Path) -> None:
    """Find out before any work whether files can be put into a folder (which may not exist yet).

    Raises:
        InputError: they cannot.
    """
    existing = folder
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


def person_arrays(
    result: FitResult, row: int, body: Body, image_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What a person's npz holds; metres in the camera's frame, pixels, radians.

    Keys: global_orient (3), body_pose (69), betas (S), transl (3), focal (2), center (2),
    image_size (2: width, height), joints3d (24, 3), keypoints3d (K, 3), keypoints2d (K, 2),
    keypoint_names (K), keypoint_sd (K), vertices (V, 3), faces (F, 3).
    """
    one = slice(row, row + 1)
    axis_angle = matrix_to_axis_angle(result.rotations[row]).reshape(-1)
    vertices = body.vertices(result.betas[one], result.rotations[one], result.transl[one])[0]
    camera = result.camera.rows(torch.tensor([row]))

    def floats(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy().astype(np.float32)

    return {
        "global_orient": floats(axis_angle[:3]),
        "body_pose": floats(axis_angle[3:]),
        "betas": floats(result.betas[row]),
        "transl": floats(result.transl[row]),
        "focal": floats(camera.focal.reshape(-1, 2)[0]),
        "center": floats(camera.center.reshape(-1, 2)[0]),
        "image_size": np.array(image_size, dtype=np.int64),
        "joints3d": floats(result.joints3d[row]),
        "keypoints3d": floats(result.keypoints3d[row]),
        "keypoints2d": floats(result.keypoints2d[row]),
        "keypoint_names": np.array(result.schema.names),
        "keypoint_sd": floats(result.keypoint_sd[row]),
        "vertices": floats(vertices),
        "faces": body.faces.cpu().numpy().astype(np.int32),
    }


def person_report(result: FitResult, row: int) -> dict[str, Any]:
    """What a person's JSON holds besides what the caller adds."""
    status = result.status[row]
    energy = {name: float(value[row]) for name, value in result.energy.items()}
    return {
        "status": status.name.lower(),
        "status_text": status.value,
        "recipe": result.recipe,
        "solver": result.solver,
        "prior": result.prior,
        "body": result.body,
        "keypoint_schema": result.schema.name,
        "reprojection_px": float(result.reprojection_px[row]),
        "reprojection_of_box": float(result.reprojection_px[row] / result.size[row]),
        "energy": {"total": sum(energy.values()), **energy},
        "start_energy": float(result.start_energy[row]),
        "iterations": int(result.iterations[row]),
        "quality": float(result.quality[row]),
        "facing": float(result.facing[row]),
        "keypoints_doubted": [
            name
            for name, doubt in zip(result.schema.names, result.doubted[row], strict=True)
            if bool(doubt)
        ],
        "sides_exchanged": SIDES[int(result.exchanged[row])],
        "keypoints_seen": int(result.seen[row]),
    } | _said_of_nobody(result, row)


def _said_of_nobody(result: FitResult, row: int) -> dict[str, str]:
    if int(result.seen[row]):
        return {}
    return {"note": "no keypoint of this person was seen: the body is the prior's own likeliest"}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed npz without pickled objects."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
