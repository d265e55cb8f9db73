"""A scene: what several cameras saw in each frame, and the cameras, as far as files say.

Frames and views that are missing here and there are listed, not refused; a scene in which no frame
is seen by two views is.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.formats import judge, open_file
from flowfit.fitting.reading.inputs import check_size
from flowfit.fitting.reading.pictures import problem, read_picture
from flowfit.fitting.scenes.camera_files import SceneCameras, find_cameras
from flowfit.fitting.scenes.layouts import SceneFiles, find_files
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, KeypointSchema

LEAST_VIEWS = 2
_SHOWN = 6  # names in a note
_FOCAL_RANGE = (0.1, 100.0)  # in picture diagonals; outside it somebody mixed up units
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of a scene, as files say.

    Attributes:
        folder: where it was read from. views: names of the V views; frames: of the frames.
        people: (frame, view) -> who was seen; views that have no file of a frame are missing.
        pictures: (frame, view) -> a picture's file, where there is one.
        schema: what the keypoints are.
        lens: intrinsics of the V views, float64. sizes: width and height of their pictures.
        cameras: with where they stand, or None when that is not known.
        notes: lines about what was left out or assumed.
    """

    folder: Path
    views: tuple[str, ...]
    frames: tuple[str, ...]
    people: dict[tuple[str, str], Detections]
    pictures: dict[tuple[str, str], Path]
    schema: KeypointSchema
    lens: Camera
    sizes: tuple[Size, ...]
    cameras: SceneCameras | None
    notes: tuple[str, ...]


def read_scene(
    folder: str | os.PathLike[str],
    *,
    frames: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    schema: str | None = None,
    image_size: Size | None = None,
    focal: float | None = None,
) -> Scene:
    """Read a scene's keypoints and cameras; `scene_files` has the layouts.

    Args:
        folder: of the scene.
        frames: names, or places as START:END; None takes all. views: names; None takes all.
        schema: keypoint schema; None tells it from the number of keypoints.
        image_size: of the views whose size neither cameras nor pictures say.
        focal: pixels, of views without a camera; None takes EXIF's, else the picture's diagonal.

    Raises:
        InputError: something cannot be used, or no frame is seen by two views.
    """
    root = Path(folder)
    files = find_files(root)
    notes: list[str] = []
    chosen = _chosen(root, "view", files.views, views)
    if len(chosen) < LEAST_VIEWS:
        raise problem(root, "has one view; `flowfit fit` is for single pictures")
    found = find_cameras(root)
    cameras = None
    if found is not None:
        cameras = found[0].take(chosen, found[1])
    names = _frames(root, files, chosen, frames, notes)
    sizes = _Sizes(files, cameras, image_size)
    people = {}
    reasons: list[str] = []
    for frame in names:
        for view in chosen:
            path = files.keypoints.get((frame, view))
            if path is not None:
                seen = _read(path, schema, sizes.of(view), reasons)
                if seen is not None:
                    people[frame, view] = seen
    if not any(len(p) for p in people.values()):
        nobody = "nobody was seen in any view of any frame; check the keypoint files"
        raise InputError(reasons[0]) if reasons else problem(root, nobody)
    notes += reasons
    for seen in people.values():
        notes += [f"{_short(seen.path)}: {text}" for text in (*seen.notes, *seen.reasons)]
    known = tuple(sizes.known(root, view, notes) for view in chosen)
    lens = (
        cameras.camera if cameras is not None else _lens(root, files, chosen, known, focal, notes)
    )
    return Scene(
        root,
        tuple(chosen),
        tuple(names),
        people,
        files.pictures,
        _schema(root, people),
        lens,
        known,
        cameras,
        tuple(notes),
    )


def _short(path: Path | None) -> str:
    return "" if path is None else "/".join(path.parts[-2:])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _chosen(
    where: Path, what: str, there: Sequence[str], wanted: Sequence[str] | None
) -> list[str]:
    if wanted is None:
        return list(there)
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise problem(where, f"no {what} {_listed(unknown)}; there are {_listed(there)}")
    return list(dict.fromkeys(wanted))


def _frames(
    root: Path,
    files: SceneFiles,
    views: Sequence[str],
    wanted: Sequence[str] | None,
    notes: list[str],
) -> list[str]:
    """The frames that two or more views have."""
    there = files.frames
    if wanted is not None and len(wanted) == 1 and ":" in wanted[0]:
        start, _, end = wanted[0].partition(":")
        if not all(part == "" or part.isdecimal() for part in (start, end)):
            raise InputError(f"--frames {wanted[0]}: give names, or START:END counted from 0")
        wanted = there[slice(int(start or 0), int(end) if end else None)]
        if not wanted:
            raise problem(root, f"no frame in {start}:{end}; there are {len(there)}")
    chosen = _chosen(root, "frame", there, wanted)
    count = Counter(frame for frame, view in files.keypoints if view in views)
    common = [frame for frame in chosen if count[frame] >= LEAST_VIEWS]
    alone = [frame for frame in chosen if count[frame] < LEAST_VIEWS]
    if not common:
        example = {view: [f for f, v in files.keypoints if v == view][:2] for view in views}
        shown = "; ".join(f"{view} has {', '.join(has)}" for view, has in example.items())
        raise problem(root, f"no frame is in two views: {shown[:150]}. Name frames alike in all")
    if alone:
        notes.append(f"frames in fewer than {LEAST_VIEWS} views, left out: {_listed(alone)}")
    for view in views:
        lacking = [frame for frame in common if (frame, view) not in files.keypoints]
        if lacking:
            notes.append(f"view {view} lacks frames {_listed(lacking)}; fitted without it there")
    return common


def _read(
    path: Path,
    schema: str | None,
    size: Size | None,
    reasons: list[str],
) -> Detections | None:
    """The people of a file; None, with a reason, when nobody in it can be used."""
    file = open_file(path)
    try:
        return judge(file, schema=schema, image_size=size)
    except InputError as error:
        reasons.append(str(error))
        return None


def _schema(root: Path, people: dict[tuple[str, str], Detections]) -> KeypointSchema:
    """The schema of everybody; an empty file's does not count."""
    found = {p.schema.name: p.schema for p in people.values() if len(p)}
    if len(found) > 1:
        raise problem(
            root, f"its files have different keypoints: {', '.join(found)}; use one detector"
        )
    return next(iter(found.values()), BODY25)


class _Sizes:
    """Width and height of each view's pictures: as its camera says, its picture, or the user."""

    def __init__(self, files: SceneFiles, cameras: SceneCameras | None, given: Size | None) -> None:
        if given is not None:
            check_size(given)
        self.files, self.cameras, self.given = files, cameras, given
        self.found: dict[str, Size | None] = {}

    def of(self, view: str) -> Size | None:
        if view not in self.found:
            self.found[view] = self._look(view)
        return self.found[view]

    def _look(self, view: str) -> Size | None:
        if self.cameras is not None:
            size = self.cameras.sizes[self.cameras.names.index(view)]
            if size is not None:
                return size
        path = first_picture(self.files.pictures, view)
        if path is not None:
            picture = read_picture(path)
            return picture.width, picture.height
        if self.given is None:
            path = next(p for (_, v), p in self.files.keypoints.items() if v == view)
            return open_file(path).image_size
        return self.given

    def known(self, root: Path, view: str, notes: list[str]) -> Size:
        """The size, guessed from the camera where nothing says it."""
        size = self.of(view)
        if size is None and self.cameras is None:
            raise problem(
                root, f"the size of view {view}'s pictures is unknown; give --image-size W H"
            )
        if size is None:
            assert self.cameras is not None
            row = self.cameras.names.index(view)
            size_x, size_y = (round(2 * c) for c in self.cameras.camera.center[row].tolist())
            size = size_x, size_y
            notes.append(f"view {view}: picture taken to be {size_x}x{size_y} px, twice the centre")
        return size


def first_picture(pictures: dict[tuple[str, str], Path], view: str) -> Path | None:
    """Any picture of a view."""
    return next((p for (_, v), p in pictures.items() if v == view), None)


def _lens(
    root: Path,
    files: SceneFiles,
    views: Sequence[str],
    sizes: Sequence[Size],
    focal: float | None,
    notes: list[str],
) -> Camera:
    """Pinholes for views without a camera file."""
    focals, sources = [], set()
    for view, size in zip(views, sizes, strict=True):
        diagonal = math.hypot(*size)
        path = first_picture(files.pictures, view)
        exif = None if path is None or focal is not None else read_picture(path).focal
        if focal is not None and not _FOCAL_RANGE[0] <= focal / diagonal <= _FOCAL_RANGE[1]:
            raise InputError(f"focal length {focal:g}: give pixels; the diagonal is {diagonal:.0f}")
        focals.append(focal or exif or diagonal)
        sources.add("given" if focal else "EXIF's" if exif else "the picture's diagonal (assumed)")
    notes.append(f"{root.name} has no camera file: focal length {', '.join(sorted(sources))}")
    value = torch.tensor(focals, dtype=torch.float64)[:, None].expand(-1, 2)
    return Camera(value.contiguous(), torch.tensor(sizes, dtype=torch.float64) / 2)
