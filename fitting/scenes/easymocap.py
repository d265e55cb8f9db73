"""EasyMocap's cameras: intri.yml and extri.yml.

What the numbers may be is checked where every camera is checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from flowfit.fitting.reading.pictures import existing_file, problem

INTRINSICS, EXTRINSICS = "intri.yml", "extri.yml"
_WANTED = "EasyMocap's intri.yml and extri.yml"


def camera_entries(
    intrinsics: str | os.PathLike[str], extrinsics: str | os.PathLike[str]
) -> dict[str, dict[str, Any]]:
    """K, R, t, dist, width and height of every camera, as a cameras.json has them; not checked.

    Args:
        intrinsics: `K_NAME`, `dist_NAME` and, in newer files, `H_NAME` and `W_NAME`.
        extrinsics: `names`, `T_NAME`, and `Rot_NAME` (3x3) or `R_NAME` (Rodrigues).

    Raises:
        InputError: not such files, or one that lacks something of a camera.
    """
    inside, outside = _Yaml(intrinsics), _Yaml(extrinsics)
    names = outside.names() or inside.names()
    if not names:
        raise problem(extrinsics, 'has no list "names" of its cameras; copy it whole')
    entries: dict[str, dict[str, Any]] = {}
    for name in names:
        rotation = outside.matrix(f"Rot_{name}")
        if rotation is None:
            rotation = outside.turned(f"R_{name}")
        if rotation is None:
            raise problem(extrinsics, f"camera {name} has neither Rot_{name} nor R_{name}")
        found = {
            "K": inside.matrix(f"K_{name}"),
            "R": rotation,
            "t": outside.matrix(f"T_{name}"),
            "dist": inside.matrix(f"dist_{name}"),
            "width": inside.number(f"W_{name}"),
            "height": inside.number(f"H_{name}"),
        }
        for key, entry, path in (("K", "K", intrinsics), ("t", "T", extrinsics)):
            if found[key] is None:
                raise problem(path, f"camera {name} has no {entry}_{name}; calibrate it, too")
        entries[name] = {key: value for key, value in found.items() if value is not None}
    return entries


class _Yaml:
    """An OpenCV FileStorage, read only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import cv2

        self.path = Path(path)
        found = existing_file(path, _WANTED)
        try:
            self.file = cv2.FileStorage(str(found), cv2.FILE_STORAGE_READ)
            usable = self.file.isOpened() and self.file.root().isMap()
        except (cv2.error, SystemError):  # what its parser raises on other YAML
            usable = False
        if not usable:
            raise problem(
                path, 'is not OpenCV\'s YAML (it begins with "%YAML:1.0"); write or copy it again'
            )

    def names(self) -> list[str]:
        """The list `names`."""
        node = self.file.getNode("names")
        found = [node.at(i) for i in range(node.size())] if node.isSeq() else []
        return [n.string() if n.isString() else str(int(n.real())) for n in found]

    def matrix(self, name: str) -> np.ndarray | None:
        """A matrix, or None."""
        node = self.file.getNode(name)
        return None if node.empty() or not node.isMap() else np.asarray(node.mat())

    def turned(self, name: str) -> np.ndarray | None:
        """Rotation matrix of a Rodrigues vector, or None."""
        import cv2

        vector = self.matrix(name)
        if vector is None or vector.size != 3:
            return None
        return np.asarray(cv2.Rodrigues(vector.astype(float))[0])

    def number(self, name: str) -> int | None:
        """A number, or None."""
        node = self.file.getNode(name)
        return int(node.real()) if node.isInt() or node.isReal() else None
