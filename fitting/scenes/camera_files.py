"""Cameras of a scene from files: cameras.json, and EasyMocap's intri.yml with extri.yml.

A camera is taken as OpenCV has it: x_cam = R X + t in metres, distorted x / z and y / z, pixels
K [x, y, 1]. What cannot be a camera is an InputError that names the camera.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowfit.fitting.reading.json_files import kind, read_json
from flowfit.fitting.reading.pictures import problem
from flowfit.fitting.scenes import easymocap
from flowfit.models.alignment import nearest_rotation
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.rig import Rig

CAMERAS_JSON = "cameras.json"
CONVENTION = (
    "x_cam = R X + t (metres); x = x_cam/z, y = y_cam/z; distort with dist = [k1,k2,p1,p2,k3] "
    "(OpenCV order); pixel = K [x,y,1]"
)
_WANTED = "a cameras.json with K, R, t, dist, width and height of every camera"
_NUM_DISTORTION = 5
_ROTATION_TOLERANCE = 1e-2  # of R R' from one; calibrations are written with four digits or more
_SKEW_TOLERANCE = 1e-3  # of the focal length: half a pixel at the edge of a picture
_LEAST_FOCAL = 1.0  # pixels; less, and K is as good as singular


@dataclass(frozen=True, eq=False)
class SceneCameras:
    """The cameras of a scene, V of them, in float64.

    Attributes:
        names: of the cameras.
        camera: focal (V, 2), center (V, 2), distortion (V, 5) or None.
        rig: where they stand in the world.
        sizes: (width, height) of each camera's pictures in pixels, or None where no file says.
        world_up: (3,) unit vector of the direction that is up in the world, or None.
    """

    names: tuple[str, ...]
    camera: Camera
    rig: Rig
    sizes: tuple[tuple[int, int] | None, ...]
    world_up: np.ndarray | None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, names: Sequence[str], where: str | os.PathLike[str]) -> SceneCameras:
        """The cameras of these names, in this order.

        Raises:
            InputError: a view has no camera; `where` is the file to name.
        """
        missing = [n for n in names if n not in self.names]
        if missing:
            raise problem(
                where,
                f"has no camera for view {', '.join(missing[:4])}; it has "
                f"{', '.join(self.names[:8])}. Add it, or leave the view out with --views",
            )
        rows = torch.tensor([self.names.index(n) for n in names])
        return SceneCameras(
            tuple(names),
            self.camera.rows(rows),
            self.rig.views(rows),
            tuple(self.sizes[r] for r in rows.tolist()),
            self.world_up,
        )


def find_cameras(folder: Path) -> tuple[SceneCameras, Path] | None:
    """The cameras of a scene's folder and the file they are in; None when there are none.

    Raises:
        InputError: there are files of cameras that cannot be used.
    """
    if (folder / CAMERAS_JSON).exists():
        return read_cameras_json(folder / CAMERAS_JSON), folder / CAMERAS_JSON
    intrinsics, extrinsics = folder / easymocap.INTRINSICS, folder / easymocap.EXTRINSICS
    if extrinsics.exists():
        entries = easymocap.camera_entries(intrinsics, extrinsics)
        return _checked(extrinsics, entries, None), extrinsics
    if intrinsics.exists():
        raise problem(extrinsics, "is missing beside intri.yml; copy it there, too")
    return None


# --- cameras.json -------------------------------------------------------------------------------


def read_cameras_json(path: str | os.PathLike[str]) -> SceneCameras:
    """Read a cameras.json: `cameras` (name -> K, R, t, dist, width, height) and `world_up`.

    Raises:
        InputError: not such a file, or a camera that cannot be.
    """
    content = read_json(path, _WANTED)
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), dict):
        raise problem(path, f'has no object "cameras"; give {_WANTED}')
    if content.get("unit", "metre") not in ("metre", "meter", "m"):
        raise problem(path, f'its unit is {content["unit"]!r}; give t in metres, "unit": "metre"')
    if not content["cameras"]:
        raise problem(path, f'"cameras" is empty; give {_WANTED}')
    entries = {str(name): entry for name, entry in content["cameras"].items()}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise problem(path, f"camera {name} is {kind(entry)}, not an object")
    return _checked(path, entries, _up(path, content.get("world_up")))


def write_cameras_json(
    path: Path, cameras: SceneCameras, more: Mapping[str, Any] | None = None
) -> None:
    """Write cameras in the layout that `read_cameras_json` reads; `more` goes beside them."""
    entries: dict[str, dict[str, Any]] = {}
    lens = cameras.camera
    for row, name in enumerate(cameras.names):
        (fx, fy), (cx, cy) = lens.focal[row].tolist(), lens.center[row].tolist()
        none = [0.0] * _NUM_DISTORTION
        entries[name] = {
            "K": [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]],
            "R": cameras.rig.rotations[row].tolist(),
            "t": cameras.rig.translations[row].tolist(),
            "dist": none if lens.distortion is None else lens.distortion[row].tolist(),
        }
        size = cameras.sizes[row]
        if size is not None:
            entries[name] |= {"width": size[0], "height": size[1]}
    content: dict[str, Any] = {"convention": CONVENTION, "unit": "metre"}
    if cameras.world_up is not None:
        content["world_up"] = [float(v) for v in cameras.world_up]
    content |= {**(more or {}), "cameras": entries}
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


# --- the checks that all share ------------------------------------------------------------------


def _checked(
    path: str | os.PathLike[str],
    entries: Mapping[str, Mapping[str, Any]],
    world_up: np.ndarray | None,
) -> SceneCameras:
    matrices, rotations, translations, distortion, sizes = [], [], [], [], []
    for name, entry in entries.items():
        try:
            matrices.append(_intrinsics(entry))
            rotations.append(_rotation(entry))
            translations.append(_numbers(entry, "t", (3,)))
            distortion.append(_distortion(entry))
            sizes.append(_size(entry))
        except InputError as error:
            raise problem(path, f"camera {name}: {error}") from None
    k = _tensor(matrices)
    camera = Camera(
        k[:, (0, 1), (0, 1)], k[:, :2, 2], _tensor(distortion) if np.any(distortion) else None
    )
    rig = Rig(_tensor(rotations), _tensor(translations))
    return SceneCameras(tuple(entries), camera, rig, tuple(sizes), world_up)


def _tensor(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float64))


def _numbers(entry: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key not in entry:
        raise InputError(f"has no {key}; give {' x '.join(map(str, shape))} numbers")
    try:
        values = np.asarray(entry[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{key} is not made of numbers") from None
    if values.size != np.prod(shape) or (len(shape) > 1 and values.shape != shape):
        found = " x ".join(map(str, values.shape)) or "one"
        raise InputError(f"{key} has {found} numbers; it needs {' x '.join(map(str, shape))}")
    if not np.isfinite(values).all():
        raise InputError(f"{key} has NaN or infinite numbers")
    return values.reshape(shape)


def _intrinsics(entry: Mapping[str, Any]) -> np.ndarray:
    k = _numbers(entry, "K", (3, 3))
    if k[2, 2] != 1 or k[2, 0] or k[2, 1] or k[1, 0]:
        raise InputError("K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; is it transposed?")
    if min(k[0, 0], k[1, 1]) < _LEAST_FOCAL:
        raise InputError(
            f"K is singular or no camera's: focal lengths {k[0, 0]:g} and {k[1, 1]:g} px; "
            "give pixels above 1"
        )
    if abs(k[0, 1]) > _SKEW_TOLERANCE * k[0, 0]:
        raise InputError(
            f"K has a skew of {k[0, 1]:g}, which no camera here has; undistort, or set it to 0"
        )
    return k


def _rotation(entry: Mapping[str, Any]) -> np.ndarray:
    """R with its rounding taken out; InputError when it is no rotation."""
    r = _numbers(entry, "R", (3, 3))
    off = float(np.abs(r @ r.T - np.eye(3)).max())
    if off > _ROTATION_TOLERANCE:
        raise InputError(
            f"R is not orthogonal (R R' is off by {off:.2g}); give a rotation, world to camera"
        )
    if np.linalg.det(r) < 0:
        raise InputError(
            "R is left-handed (its determinant is -1): it mirrors people; negate the axis that "
            "your tool turned round"
        )
    return nearest_rotation(torch.from_numpy(r)).numpy()


def _distortion(entry: Mapping[str, Any]) -> np.ndarray:
    if entry.get("dist") is None:
        return np.zeros(_NUM_DISTORTION)
    size = np.size(entry["dist"])
    if size > _NUM_DISTORTION:
        values = _numbers(entry, "dist", (size,))
        if values[_NUM_DISTORTION:].any():
            raise InputError(
                f"dist has {size} numbers; only k1, k2, p1, p2, k3 are known: calibrate with these"
            )
        return values[:_NUM_DISTORTION]
    values = _numbers(entry, "dist", (size,)) if size else np.zeros(0)
    return np.pad(values, (0, _NUM_DISTORTION - size))


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    if entry.get("width") is None or entry.get("height") is None:
        return None
    size = _numbers({"size": [entry["width"], entry["height"]]}, "size", (2,))
    if size.min() < 1:
        raise InputError(f"width {size[0]:g} and height {size[1]:g} must be positive pixels")
    return int(size[0]), int(size[1])


def _up(path: str | os.PathLike[str], value: object) -> np.ndarray | None:
    if value is None:
        return None
    try:
        up = _numbers({"world_up": value}, "world_up", (3,))
    except InputError as error:
        raise problem(path, str(error)) from None
    length = float(np.linalg.norm(up))
    if length == 0:
        raise problem(path, "world_up is zero; give the direction of up, or leave it out")
    return np.asarray(up / length)
