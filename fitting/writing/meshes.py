"""Meshes as files for viewers and modelling programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowfit.fitting.drawing.render import vertex_normals
from flowfit.models.errors import InputError
from flowfit.models.files import write_whole

FORMATS = (".obj", ".glb", ".ply")
_DEFAULT_COLOR = (0.75, 0.75, 0.77)
# from the camera's frame (y down, z forward) to the viewers' (y up, z towards the viewer): half a
# turn about x, which keeps left and right and the side that faces look out of
_TO_VIEWER = np.array([1.0, -1.0, -1.0])


def write_mesh(
    path: str | os.PathLike[str],
    vertices: np.ndarray,
    faces: np.ndarray,
    color: np.ndarray | Sequence[float] | None = None,
) -> None:
    """Write a mesh; the ending of the name says the format: .obj, .glb or .ply.

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
    if ending not in FORMATS:
        raise InputError(
            f"cannot write {path}: the format {ending or '(none)'} is unknown; "
            f"end the name with {', '.join(FORMATS)}"
        )
    from trimesh import Trimesh  # half a second, which a wrong name need not wait for
    from trimesh.exchange.export import export_mesh
    from trimesh.visual import ColorVisuals, TextureVisuals
    from trimesh.visual.material import PBRMaterial

    upright = np.asarray(vertices, float) * _TO_VIEWER
    faces = np.asarray(faces).astype(np.int64)
    rgb = np.asarray(_DEFAULT_COLOR if color is None else color, float)
    mesh = Trimesh(upright, faces, vertex_normals=vertex_normals(upright, faces), process=False)
    if ending == ".glb":
        rgb = _linear(rgb)  # glTF mixes light, not screen values
    if ending == ".glb" and rgb.ndim == 1:
        mesh.visual = TextureVisuals(
            material=PBRMaterial(
                name="body",
                baseColorFactor=[*rgb.tolist(), 1.0],
                metallicFactor=0.0,
                roughnessFactor=0.6,
                doubleSided=True,
            )
        )
    else:
        rgba = np.ones((len(upright), 4))
        rgba[:, :3] = rgb
        mesh.visual = ColorVisuals(
            mesh, vertex_colors=np.round(np.clip(rgba, 0, 1) * 255).astype(np.uint8)
        )
    options = {"vertex_normal": True} if ending == ".ply" else {"include_normals": True}
    data = export_mesh(mesh, None, file_type=ending[1:], **options)
    write_whole(path, data.encode() if isinstance(data, str) else data)


def _linear(rgb: np.ndarray) -> np.ndarray:
    """Screen values (sRGB) to amounts of light."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
