"""Where the files of a scene lie: keypoints and pictures of frames and cameras, in three layouts.

- `keypoints/FRAME/CAMERA_keypoints.json`;
- EasyMocap's: `annots/CAMERA/FRAME.json`, or `openpose/CAMERA/FRAME_keypoints.json`;
- plain OpenPose: `CAMERA/FRAME_keypoints.json`.

Pictures are `images/CAMERA/FRAME.jpg` (or .png), or beside plain keypoints. Frames are told by the
name of the file; of the names that OpenPose gives to a film's frames (NAME_000000000012) by the
number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowfit.fitting.reading.pictures import problem

ENDING = "_keypoints.json"
LAYOUTS = (
    "keypoints/FRAME/CAMERA_keypoints.json, annots/CAMERA/FRAME.json, "
    "openpose/CAMERA/FRAME_keypoints.json or CAMERA/FRAME_keypoints.json"
)
_PICTURES = (".jpg", ".jpeg", ".png")
_FILM = re.compile(r".*_(\d{12})")  # how OpenPose numbers the frames of a film


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene, found but not read.

    Attributes:
        layout: "keypoints", "annots", "openpose" or "plain".
        keypoints: (frame, view) -> file. pictures: the same.
    """

    layout: str
    keypoints: dict[tuple[str, str], Path]
    pictures: dict[tuple[str, str], Path] = field(default_factory=dict)

    @property
    def frames(self) -> list[str]:
        """Every frame's name, in natural order."""
        return sorted({frame for frame, _ in self.keypoints}, key=natural)

    @property
    def views(self) -> list[str]:
        """Every view's name, in natural order."""
        return sorted({view for _, view in self.keypoints}, key=natural)


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which frame 9 comes before frame 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def find_files(folder: Path) -> SceneFiles:
    """Look for keypoints and pictures.

    Raises:
        InputError: no such folder, or no keypoints in any layout.
    """
    if not folder.is_dir():
        raise problem(folder, "no such folder; give a scene: a folder of " + LAYOUTS)
    for layout, files in (
        ("keypoints", dict(_by_frame(folder / "keypoints"))),
        ("annots", dict(_by_view(folder / "annots", ".json"))),
        ("openpose", dict(_by_view(folder / "openpose", ENDING))),
        ("plain", dict(_by_view(folder, ENDING))),
    ):
        if files:
            pictures = dict(_pictures(folder if layout == "plain" else folder / "images"))
            pictures |= dict(_pictures(folder / "images"))
            return SceneFiles(layout, files, pictures)
    raise problem(folder, "no keypoints in it; a scene is a folder of " + LAYOUTS)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _by_frame(folder: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    for frame in _folders(folder):
        for path in sorted(frame.glob("*" + ENDING)):
            yield (frame.name, path.name.removesuffix(ENDING)), path


def _by_view(folder: Path, ending: str) -> Iterator[tuple[tuple[str, str], Path]]:
    for view in _folders(folder):
        for path in sorted(view.glob("*" + ending)):
            yield (_frame(path.name.removesuffix(ending)), view.name), path


def _pictures(folder: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    for view in _folders(folder):
        for path in sorted(view.iterdir()):
            if path.suffix.lower() in _PICTURES:
                yield (_frame(path.stem), view.name), path


def _frame(stem: str) -> str:
    film = _FILM.fullmatch(stem)
    return film[1] if film else stem
