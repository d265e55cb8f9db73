"""Meshes as files for viewers and modelling programs.

A format is a function and a line in `FORMATS`: the options, errors and `write_mesh` go by that. The
imports are late: the command line asks for the formats' names before anything is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    from trimesh import Trimesh

_DEFAULT_COLOR = (0.75, 0.75, 0.77)
# from the camera's frame (y down, z forward) to the viewers' (y up, z towards the viewer): half a
# turn about x, which keeps left and right and the side that faces look out of
_TO_VIEWER = (1.0, -1.0, -1.0)


class Mesh(NamedTuple):
    """A mesh as files have it: y up, z towards the viewer.

    Attributes:
        vertices: (V, 3) metres. normals: (V, 3) of length 1.
        faces: (F, 3) vertex numbers, counter-clockwise from outside.
        rgb: 0..1, as seen on a screen; (3,) of the mesh or (V, 3) of its vertices.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    rgb: np.ndarray


def _obj(mesh: Mesh) -> bytes:
    return _exported(_colored(mesh, mesh.rgb), "obj", include_normals=True)


def _ply(mesh: Mesh) -> bytes:
    return _exported(_colored(mesh, mesh.rgb), "ply", vertex_normal=True)


def _glb(mesh: Mesh) -> bytes:
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    light = _linear(mesh.rgb)  # glTF mixes light, not screen values
    if light.ndim == 2:
        return _exported(_colored(mesh, light), "glb", include_normals=True)
    shown = _plain(mesh)
    shown.visual = TextureVisuals(
        material=PBRMaterial(
            name="body",
            baseColorFactor=[*light.tolist(), 1.0],
            metallicFactor=0.0,
            roughnessFactor=0.6,
            doubleSided=True,
        )
    )
    return _exported(shown, "glb", include_normals=True)


FORMATS: Mapping[str, Callable[[Mesh], bytes]] = {"obj": _obj, "glb": _glb, "ply": _ply}


def check_formats(names: Sequence[str]) -> None:
    """InputError for the name of a mesh format that there is not."""
    for name in names:
        if name not in FORMATS:
            raise InputError(f"mesh format {name!r}: choose from {', '.join(FORMATS)}")


def write_mesh(
    path: str | os.PathLike[str],
    vertices: np.ndarray,
    faces: np.ndarray,
    color: np.ndarray | Sequence[float] | None = None,
) -> None:
    """Write a mesh; the ending of the name says which of the `FORMATS`.

    Args:
        path: where to. Its folder must exist.
        vertices: (V, 3) metres in the camera's frame (x right, y down, z forward). The file has
            them with y and z negated: y up, z towards the viewer, the origin at the camera.
        faces: (F, 3) vertex numbers, counter-clockwise from outside.
        color: red, green, blue in 0..1, as seen on a screen; (3,) of the mesh, (V, 3) of its
            vertices, or None for light grey.

    Raises:
        InputError: the ending is unknown or the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending[1:] not in FORMATS:
        raise InputError(
            f"cannot write {path}: the format {ending or '(none)'} is unknown; "
            f"end the name with {', '.join('.' + name for name in FORMATS)}"
        )
    import numpy as np

    from flowfit.fitting.drawing.render import vertex_normals

    upright = np.asarray(vertices, float) * _TO_VIEWER
    faces = np.asarray(faces).astype(np.int64)
    rgb = np.asarray(_DEFAULT_COLOR if color is None else color, float)
    mesh = Mesh(upright, vertex_normals(upright, faces), faces, rgb)
    write_whole(path, FORMATS[ending[1:]](mesh))


def _plain(mesh: Mesh) -> Trimesh:
    from trimesh import Trimesh

    return Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)


def _colored(mesh: Mesh, rgb: np.ndarray) -> Trimesh:
    """With a colour at each vertex, RGB in 0..1, (3,) or (V, 3)."""
    import numpy as np
    from trimesh.visual import ColorVisuals

    shown = _plain(mesh)
    rgba = np.ones((len(mesh.vertices), 4))
    rgba[:, :3] = rgb
    colors = np.round(np.clip(rgba, 0, 1) * 255).astype(np.uint8)
    shown.visual = ColorVisuals(shown, vertex_colors=colors)
    return shown


def _exported(shown: Trimesh, ending: str, **options: Any) -> bytes:
    from trimesh.exchange.export import export_mesh

    data = export_mesh(shown, None, file_type=ending, **options)
    return data.encode() if isinstance(data, str) else data


def _linear(rgb: np.ndarray) -> np.ndarray:
    """Screen values (sRGB) to amounts of light."""
    import numpy as np

    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
