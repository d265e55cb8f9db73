"""Everyone in one keypoint file lifted to 3D skeletons, without a body model: the verb `lift`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing import skeletons as lift_picture
from flowfit.fitting.one_view.lifted_people import LiftedPeople, lift_people
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.inputs import SeenPicture, check_device, see
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing.people import skeleton_arrays
from flowfit.models.errors import InputError
from flowfit.priors.lifting.files import BUILT_IN, load_lifter
from flowfit.priors.lifting.input import JOINTS

DEFAULT_SAMPLES = 100
MOST_SAMPLES = 100_000
SCALE_NOTE = "metres are those of an average adult: a picture does not tell how tall somebody is"
_MOST_SKELETONS = 2_000_000  # of all people together: they are kept, about 1 GB
_MANY = 20  # people


@dataclass(frozen=True, eq=False)
class Lifted:
    """What `lift` gives back.

    Attributes:
        skeletons: everyone's, or None when there was nobody. joint_names: of the 17 joints.
        detections: the people as read; `indices` gives each row's place in the file.
        report: what `STEM_summary.json` holds.
        warnings: lines for the user. files: what was written, in order.
    """

    skeletons: LiftedPeople | None
    joint_names: tuple[str, ...]
    detections: Detections
    report: dict[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...] = field(default=())


def lift(
    keypoints: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    focal: float | None = None,
    samples: int = DEFAULT_SAMPLES,
    schema: str | None = None,
    person: int | None = None,
    lifter: str | os.PathLike[str] = BUILT_IN,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    draw: bool = True,
    progress: bool = False,
) -> Lifted:
    """Lift everyone whose keypoints are in a file, all in one batch.

    Args:
        keypoints: a file such as OpenPose writes. out: folder for the files; None writes none.
        image: the picture, for its size, its EXIF's focal length, and to draw on; or None.
        image_size: width and height in pixels, in place of the picture. With neither, the
            smallest picture is assumed in whose middle the keypoints lie, with a warning.
        focal: pixels; None takes EXIF's, else the picture's diagonal.
        samples: random skeletons of each person. seed: of them.
        schema: keypoint schema; None tells by count. person: place in the file of the only one.
        lifter: built-in name or file. device, dtype: where and in what to compute.
        draw: a picture of each person. progress: show a bar where there are many.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    began = time.perf_counter()
    if not 0 <= samples <= MOST_SAMPLES:
        raise InputError(f"--samples {samples}: give 0 to {MOST_SAMPLES}")
    check_device(device)
    results.check_writable(out)
    seen = see(
        image, keypoints,
        image_size=image_size, schema=schema, focal=focal, person=person, assume_size=True,
    )  # fmt: skip
    detections = seen.detections
    if len(detections) * samples > _MOST_SKELETONS:
        raise InputError(
            f"--samples {samples} of {len(detections)} people are more than {_MOST_SKELETONS:,} "
            "skeletons; give fewer, or --person N"
        )
    network, about = load_lifter(str(lifter), dtype=dtype, device=device)
    report = seen.report(
        image_size_source=seen.size_source,
        keypoint_schema=detections.schema.name,
        lifter=str(lifter),
        trained_on=about.get("trained_on"),
        samples=samples,
        seed=seed,
        scale=SCALE_NOTE,
    )
    skeletons = None
    if len(detections):
        skeletons = lift_people(network, detections, seen.camera(dtype, device), samples, seed)
    files: tuple[Path, ...] = ()
    if out is not None:
        folder = results.Folder(out)
        _write(folder, skeletons, seen, report, began, draw, progress)
        files = tuple(folder.files)
    return Lifted(skeletons, JOINTS.names, detections, report, seen.warnings, files)


def _write(
    folder: results.Folder,
    skeletons: LiftedPeople | None,
    seen: SeenPicture,
    report: dict[str, Any],
    began: float,
    draw: bool,
    progress: bool,
) -> None:
    from tqdm import tqdm

    detections = seen.detections
    places = detections.indices if skeletons is not None else ()
    hidden = not progress or len(places) < _MANY
    for row, place in enumerate(tqdm(places, disable=hidden, unit="person", desc="writing")):
        assert skeletons is not None
        arrays = skeleton_arrays(skeletons, row, seen.focal, seen.size)
        name = f"{seen.stem}_{place}"
        own = [folder.file(f"{name}.npz")]
        results.write_arrays(own[0], arrays)
        if draw:
            own.append(folder.file(f"{name}_lift.png"))
            drawn = lift_picture.person_picture(
                arrays["joints3d"],
                arrays["samples3d"],
                detections.keypoints[row],
                detections.confidence[row],
                detections.schema,
                seen.pixels,
            )
            overlay.write_png(own[1], drawn)
        report["people"].append(
            {
                "person": place,
                "person_id": detections.person_ids[row],
                "joints_told": int(skeletons.told[row]),
                "spread_mm": 1000 * float(np.nanmean(arrays["joint_sd"])),
                "mode_log_prob": float(skeletons.mode_log_prob[row]),
                "files": [path.name for path in own],
            }
        )
    report["seconds"] = time.perf_counter() - began
    results.write_json(folder.file(f"{seen.stem}_summary.json"), report)
