"""Pictures and keypoint files for a comparison, matched by name; bad ones are passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.reading.inputs import NAME_ENDINGS, SeenPicture, see, stem_of
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".avif")


@dataclass(frozen=True, eq=False)
class Crowd:
    """All people of one keypoint schema: the problem, and the picture and row of each."""

    problem: FitProblem
    seen: tuple[SeenPicture, ...]
    rows: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """STEM_N of each person."""
        pairs = zip(self.seen, self.rows, strict=True)
        return tuple(f"{s.stem}_{s.detections.indices[row]}" for s, row in pairs)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What can be compared on, and name and reason of what was passed over."""

    pictures: tuple[SeenPicture, ...]
    passed_over: tuple[tuple[str, str], ...]


def read_inputs(
    images: str | os.PathLike[str],
    keypoints: str | os.PathLike[str],
    *,
    schema: str | None = None,
    focal: float | None = None,
) -> Inputs:
    """Read everything; a file that cannot be used is passed over, with the reason.

    Args:
        images: a picture, or a folder of them. keypoints: its keypoint file, or a folder with
            NAME_keypoints.json, NAME_openpose.json or NAME.json for each picture NAME.
        schema, focal: as in `fit`, for all pictures.

    Raises:
        InputError: nothing can be used.
    """
    good: list[SeenPicture] = []
    bad: list[tuple[str, str]] = []
    for picture, file in _pairs(Path(images), Path(keypoints)):
        try:
            if file is None:
                endings = ", ".join(f"{picture.stem}{ending}.json" for ending in NAME_ENDINGS)
                raise InputError(f"{picture.name}: no keypoints; looked for {endings}")
            if any(s.stem == picture.stem for s in good):
                raise InputError(f"{picture.name}: another picture is called {picture.stem}")
            seen = see(picture, file, schema=schema, focal=focal)
        except InputError as error:
            bad.append((picture.name, str(error)))
            continue
        bad += [(picture.name, reason) for _, reason in seen.detections.skipped]
        if len(seen.detections):
            good.append(seen)
        else:
            bad.append((picture.name, f"{picture.name}: nobody in its keypoint file"))
    if not good:
        if len(bad) == 1:
            raise InputError(bad[0][1])
        what = f"none of {len(bad)} pictures can be used; the first: {bad[0][1]}" if bad else ""
        raise InputError(what or f"{images}: no picture in this folder (PNG, JPEG, ...)")
    return Inputs(tuple(good), tuple(bad))


def crowds(inputs: Inputs, *, dtype: torch.dtype, device: str) -> list[Crowd]:
    """The people, together as far as their keypoint schemas allow."""
    found = []
    for name in dict.fromkeys(s.detections.schema.name for s in inputs.pictures):
        pictures = [s for s in inputs.pictures if s.detections.schema.name == name]
        people = [(s, row) for s in pictures for row in range(len(s.detections))]
        keypoints = [torch.tensor(s.detections.keypoints) for s in pictures]
        confidence = [torch.tensor(s.detections.confidence) for s in pictures]
        size = torch.tensor([s.size for s, _ in people], dtype=dtype, device=device)
        focal = torch.tensor([[s.focal] * 2 for s, _ in people], dtype=dtype, device=device)
        problem = FitProblem.build(
            pictures[0].detections.schema,
            torch.cat(keypoints).to(dtype=dtype, device=device),
            torch.cat(confidence).to(dtype=dtype, device=device),
            Camera(focal, size / 2),
        )
        found.append(Crowd(problem, tuple(s for s, _ in people), tuple(row for _, row in people)))
    return found


def _pairs(images: Path, keypoints: Path) -> Iterator[tuple[Path, Path | None]]:
    """Every picture and its keypoint file, None where there is none."""
    for path in (images, keypoints):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    pictures = [images]
    if images.is_dir():
        inside = sorted(images.iterdir())
        pictures = [p for p in inside if p.suffix.lower() in _PICTURES and p.is_file()]
    if not keypoints.is_dir():
        if images.is_dir():
            matching = [p for p in pictures if p.stem == stem_of(keypoints)]
            if not matching:
                raise InputError(f"{keypoints}: no picture called {stem_of(keypoints)} in {images}")
            pictures = matching[:1]
        yield from ((picture, keypoints) for picture in pictures)
        return
    # the first of the usual endings that is there; a bare NAME.json last
    files = {p.name: p for p in sorted(keypoints.glob("*.json"))}
    for picture in pictures:
        wanted = (f"{picture.stem}{ending}.json" for ending in (*NAME_ENDINGS, ""))
        yield picture, next((files[name] for name in wanted if name in files), None)
