"""Writes a frame of a scene: npz, JSON and meshes of its people, and pictures.

`FRAME.json` is written last: where it is, and what it names, the frame is done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing.render import Shape
from flowfit.fitting.drawing.scene import Stand, in_camera, outside_view
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.pictures import read_picture
from flowfit.fitting.scenes.scene import Scene
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing import meshes as export
from flowfit.models.errors import InputError

_LEAST_HEIGHT = 400  # pixels of an overlay; smaller pictures are enlarged
# one for each person of a frame, by number
_COLORS = (
    overlay.FIT,
    overlay.SAMPLE_PURPLE,
    overlay.SAMPLE_YELLOW,
    overlay.REGRESSION,
    (0.55, 0.74, 0.90),
    overlay.SMPLIFY,
)


@dataclass(frozen=True, eq=False)
class FittedPerson:
    """A person of a frame, ready to be written: number, arrays of the npz, the JSON, warnings."""

    number: int
    arrays: Mapping[str, np.ndarray]
    report: Mapping[str, Any]
    warnings: Sequence[str]


@dataclass(frozen=True)
class Outputs:
    """What to write besides npz and JSON: mesh formats, pictures, and which engine draws them."""

    meshes: tuple[str, ...]
    draw: bool
    renderer: str


def finished(out: Path, frame: str, settings: Mapping[str, Any]) -> bool:
    """Whether a frame has been written whole, with the same settings.

    Raises:
        InputError: it has been written with other settings.
    """
    path = out / f"{frame}.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        made_with, files = report["settings"], [str(name) for name in report["files"]]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    changed = [key for key in settings if made_with.get(key) != settings[key]]
    if changed:
        raise InputError(
            f"{path} was made with another {', '.join(changed)}; give another --out, or --overwrite"
        )
    return all((out / name).is_file() for name in files)


def write_frame(
    out: Path,
    scene: Scene,
    frame: str,
    people: Sequence[FittedPerson],
    settings: Mapping[str, Any],
    how: Outputs,
) -> list[Path]:
    """Write everything of a frame. -> the files."""
    results.make_folder(out)
    files: list[Path] = []
    shapes: list[Shape] = []
    for person in people:
        name = f"{frame}_p{person.number}"
        color = _COLORS[person.number % len(_COLORS)]
        own = [out / f"{name}.npz"]
        results.write_arrays(own[0], person.arrays)
        vertices, faces = person.arrays["vertices_world"], person.arrays["faces"]
        whole = bool(np.isfinite(vertices).all())
        for ending in how.meshes if whole else ():
            own.append(out / f"{name}.{ending}")
            export.write_mesh(own[-1], _upright(vertices, scene, person), faces, color)
        if whole:
            shapes.append(Shape(vertices, faces, color))
        own.append(out / f"{name}.json")
        content = {
            "frame": frame,
            "person": person.number,
            **person.report,
            "warnings": list(person.warnings),
            "files": [path.name for path in own],
        }
        results.write_json(own[-1], content)
        files += own
    if how.draw:
        files += _draw(out, scene, frame, people, shapes, how.renderer)
    report = {
        "frame": frame,
        "people": [_line(person) for person in people],
        "warnings": [f"person {p.number}: {text}" for p in people for text in p.warnings],
        "files": [path.name for path in files],
        "settings": dict(settings),
    }
    results.write_json(out / f"{frame}.json", report)
    files.append(out / f"{frame}.json")
    return files


def _line(person: FittedPerson) -> dict[str, Any]:
    views = person.report["views"]
    return {
        "person": person.number,
        "status": person.report["status"],
        "views_seen": sum(view["keypoints_seen"] > 0 for view in views.values()),
        "reprojection_px": {name: view["reprojection_px"] for name, view in views.items()},
    }


def _up(scene: Scene, person: FittedPerson) -> np.ndarray:
    """Up in the world of a person, told or taken from the cameras: most are held level."""
    given = None if scene.cameras is None else scene.cameras.world_up
    if given is not None and person.report["calibrated"]:
        return given
    turns = person.arrays["camera_rotation"].astype(float)
    ups = -turns[np.isfinite(turns).all((1, 2)), 1]  # the second row is a camera's down
    total = ups.sum(0)
    length = float(np.linalg.norm(total))
    return total / length if length > 1e-6 else ups[0]


def _upright(vertices: np.ndarray, scene: Scene, person: FittedPerson) -> np.ndarray:
    """World points in a frame with y down, as meshes are written from: nearest to the world's."""
    up = _up(scene, person)
    down = -up
    ahead = np.eye(3)[int(np.abs(up).argmin())]
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    return vertices @ np.stack((np.cross(down, ahead), down, ahead), -1)


def _draw(
    out: Path,
    scene: Scene,
    frame: str,
    people: Sequence[FittedPerson],
    shapes: Sequence[Shape],
    engine: str,
) -> list[Path]:
    files = []
    for place, view in enumerate(scene.views):
        files.append(out / f"{frame}_{view}_overlay.png")
        overlay.write_png(files[-1], _overlay(scene, frame, place, people, engine))
    if people:
        first = max(people, key=lambda p: int(np.isfinite(p.arrays["transl"]).all(-1).sum()))
        stands = _stands(scene, first)
        shown = shapes
        if not first.report["calibrated"]:  # everybody has a world of their own
            shown = [s for p, s in _by_person(people, shapes) if _world(p) == _world(first)]
        files.append(out / f"{frame}_3d.png")
        drawn = outside_view(shown, stands, _up(scene, first), engine=engine)
        overlay.write_png(files[-1], drawn)
    return files


def _world(person: FittedPerson) -> str:
    return str(person.report["world"])


def _by_person(
    people: Sequence[FittedPerson], shapes: Sequence[Shape]
) -> list[tuple[FittedPerson, Shape]]:
    whole = [p for p in people if np.isfinite(p.arrays["vertices_world"]).all()]
    return list(zip(whole, shapes, strict=True))


def _stands(scene: Scene, person: FittedPerson) -> list[Stand]:
    arrays = person.arrays
    found = []
    for place, name in enumerate(scene.views):
        rotation = arrays["camera_rotation"][place].astype(float)
        translation = arrays["camera_translation"][place].astype(float)
        half = np.array(scene.sizes[place]) / 2 / arrays["focal"][place]
        if np.isfinite(rotation).all():
            found.append(Stand(rotation, translation, name, half))
    return found


def _overlay(
    scene: Scene, frame: str, place: int, people: Sequence[FittedPerson], engine: str
) -> np.ndarray:
    """Everybody over a view's picture, with all keypoints that were seen there."""
    view, (width, height) = scene.views[place], scene.sizes[place]
    canvas = overlay.blank(width, height)
    path = scene.pictures.get((frame, view))
    if path is not None:
        pixels = read_picture(path).pixels
        if pixels.shape[:2] == (height, width):  # a picture of another size shows other pixels
            canvas = pixels
    shapes: list[Shape] = []
    for person in people:
        arrays = person.arrays
        rotation = arrays["camera_rotation"][place].astype(float)
        translation = arrays["camera_translation"][place].astype(float)
        vertices = arrays["vertices_world"]
        if np.isfinite(rotation).all() and np.isfinite(vertices).all():
            color = _COLORS[person.number % len(_COLORS)]
            shape = Shape(vertices, arrays["faces"], color)
            distortion = arrays["distortion"][place].astype(float)
            shapes += in_camera([shape], rotation, translation, distortion)
    lens, seen = scene.lens, scene.people.get((frame, view))
    focal, center = (
        (float(x), float(y)) for x, y in (lens.focal[place].tolist(), lens.center[place].tolist())
    )
    keypoints, confidence = _seen(seen)
    larger = max(1, math.ceil(_LEAST_HEIGHT / height))  # of a small one the dots would hide all
    if larger > 1:
        import cv2

        canvas = cv2.resize(canvas, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
        focal, center = _times(focal, larger), _times(center, larger)
        keypoints = None if keypoints is None else keypoints * larger
    return overlay.overlay(
        canvas, shapes, focal, center, keypoints, confidence, scene.schema.edge_indices,
        engine=engine,
    )  # fmt: skip


def _times(pair: tuple[float, float], factor: int) -> tuple[float, float]:
    return pair[0] * factor, pair[1] * factor


def _seen(seen: Detections | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    return (None, None) if seen is None or not len(seen) else (seen.keypoints, seen.confidence)
