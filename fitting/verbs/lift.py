"""Everyone in one keypoint file lifted to 3D skeletons, without a body model: the verb `lift`."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing import skeletons as lift_picture
from flowfit.fitting.reading import formats
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.inputs import check_device, focal_length, only_person, stem_of, version
from flowfit.fitting.reading.pictures import MIN_SIDE, Picture, read_picture
from flowfit.fitting.writing import files as results
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.priors.lifting.files import BUILT_IN, load_lifter
from flowfit.priors.lifting.input import JOINTS, to_joints
from flowfit.priors.lifting.lifter import NUMBERS, Lifter

DEFAULT_SAMPLES = 100
MOST_SAMPLES = 100_000
SCALE_NOTE = "metres are those of an average adult: a picture does not tell how tall somebody is"
_ROWS_AT_ONCE = 16_384  # skeletons decoded together, about 100 MB
_MOST_SKELETONS = 2_000_000  # of all people together: they are kept, about 1 GB
_MANY = 20  # people


class Skeletons(NamedTuple):
    """Lifted skeletons of B people, camera axes, the pelvis at the origin.

    Attributes:
        joints: (B, 17, 3) metres, the mode. samples: (B, n, 17, 3) metres.
        log_prob: (B, n) nats, of the samples; mode_log_prob: (B) of the mode. Densities over the
            48 numbers of the 16 joints besides the pelvis, in metres.
        told: (B) how many of the joints that the lifter knows were seen.
    """

    joints: Tensor
    samples: Tensor
    log_prob: Tensor
    mode_log_prob: Tensor
    told: Tensor


@dataclass(frozen=True, eq=False)
class Lifted:
    """What `lift` gives back.

    Attributes:
        skeletons: everyone's, or None when there was nobody. joint_names: of the 17 joints.
        detections: the people as read; `indices` gives each row's place in the file.
        report: what `STEM_summary.json` holds.
        warnings: lines for the user. files: what was written, in order.
    """

    skeletons: Skeletons | None
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
    """Lift everyone whose keypoints are in an OpenPose file, all in one batch.

    Args:
        keypoints: OpenPose JSON. out: folder for the files; None writes none.
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
    if out is not None:
        results.check_writable(Path(out))
    if image is not None and image_size is not None:
        raise InputError("give the picture or --image-size, not both")
    if image_size is not None and min(image_size) < 1:
        raise InputError(f"image size {image_size[0]} x {image_size[1]}: both must be positive")
    picture = None if image is None else read_picture(image)
    size = image_size if picture is None else (picture.width, picture.height)
    everyone = formats.read(keypoints, schema=schema, image_size=size)
    detections = only_person(everyone, person)
    if len(detections) * samples > _MOST_SKELETONS:
        raise InputError(
            f"--samples {samples} of {len(detections)} people are more than {_MOST_SKELETONS:,} "
            "skeletons; give fewer, or --person N"
        )
    warnings = [*(r for _, r in detections.skipped), *detections.notes]
    size_source = "image" if picture is not None else "given"
    if size is None:
        size, size_source = size_of(everyone), "keypoints (assumed)"
        if len(detections):
            warnings.append(
                f"no picture size given: {size[0]}x{size[1]} px assumed from where the keypoints "
                "lie; give --image-size W H"
            )
    focal_px, focal_source = focal_length(focal, picture, size)
    stem = Path(image).stem if image is not None else stem_of(Path(keypoints))
    network, about = load_lifter(str(lifter), dtype=dtype, device=device)
    report: dict[str, Any] = {
        "keypoints": str(keypoints),
        "image": None if image is None else str(image),
        "image_size": list(size),
        "image_size_source": size_source,
        "focal_px": focal_px,
        "focal_source": focal_source,
        "keypoint_schema": detections.schema.name,
        "lifter": str(lifter),
        "trained_on": about.get("trained_on"),
        "samples": samples,
        "seed": seed,
        "scale": SCALE_NOTE,
        "version": version(),
        "people": [],
        "skipped": [{"index": i, "reason": r} for i, r in detections.skipped],
        "notes": list(detections.notes),
    }
    skeletons = None
    if len(detections):
        camera = Camera.from_size(*size, focal_px).to(dtype=dtype, device=device)
        skeletons = lift_people(network, detections, camera, samples, seed)
    files: tuple[Path, ...] = ()
    if out is not None:
        files = _write(
            Path(out), stem, skeletons, detections, picture, report, began, draw, progress
        )
    return Lifted(skeletons, JOINTS.names, detections, report, tuple(warnings), files)


@torch.no_grad()
def lift_people(
    lifter: Lifter, detections: Detections, camera: Camera, samples: int, seed: int = 0
) -> Skeletons:
    """Skeletons of all people of a picture; each is the same alone and in any company.

    Args:
        camera: that took the picture, in the number type and on the device of the lifter.
        samples: of each person; those of somebody follow from the seed and the place in the file.
    """
    like = camera.focal
    seen = (torch.from_numpy(a).to(like) for a in (detections.keypoints, detections.confidence))
    keypoints, confidence = to_joints(detections.schema, lifter.schema, *seen)
    people = len(keypoints)
    cameras = Camera(camera.focal.expand(people, 2), camera.center.expand(people, 2))
    context = lifter.condition(keypoints, confidence, cameras)
    mode = lifter.mode(context)
    drawn = []
    at_once = max(1, _ROWS_AT_ONCE // max(1, samples))
    for first in range(0, people if samples else 0, at_once):
        some = slice(first, first + at_once)
        places = detections.indices[some]
        noise = torch.stack([person_noise(samples, seed, place) for place in places]).to(like)
        drawn.append(lifter.sample(context[some], noise))
    none = mode.joints[:, :0], mode.log_prob[:, :0]
    joints, log_prob = (torch.cat(t) for t in zip(*drawn, strict=True)) if drawn else none
    told = (confidence > 0).sum(-1)
    return Skeletons(mode.joints[:, 0], joints, log_prob, mode.log_prob[:, 0], told)


def person_noise(samples: int, seed: int, place: int) -> Tensor:
    """Standard normal numbers (n, 48) of the person at a place in a file, float64 on the CPU."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
    return torch.randn(samples, NUMBERS, generator=generator, dtype=torch.float64)


def size_of(detections: Detections) -> tuple[int, int]:
    """Width and height of the smallest picture in whose middle the seen keypoints lie."""
    seen = detections.keypoints[detections.confidence > 0]
    if not len(seen):
        return MIN_SIDE, MIN_SIDE
    far = seen.max(0) + seen.min(0).clip(min=0)
    width, height = (max(MIN_SIDE, math.ceil(side)) for side in far)
    return width, height


def _write(
    out: Path,
    stem: str,
    skeletons: Skeletons | None,
    detections: Detections,
    picture: Picture | None,
    report: dict[str, Any],
    began: float,
    draw: bool,
    progress: bool,
) -> tuple[Path, ...]:
    from tqdm import tqdm

    results.make_folder(out)
    files: list[Path] = []
    places = detections.indices if skeletons is not None else ()
    hidden = not progress or len(places) < _MANY
    for row, place in enumerate(tqdm(places, disable=hidden, unit="person", desc="writing")):
        assert skeletons is not None
        arrays = person_arrays(skeletons, row, report)
        name = f"{stem}_{place}"
        results.write_arrays(out / f"{name}.npz", arrays)
        files.append(out / f"{name}.npz")
        if draw:
            drawn = lift_picture.person_picture(
                arrays["joints3d"],
                arrays["samples3d"],
                detections.keypoints[row],
                detections.confidence[row],
                detections.schema,
                None if picture is None else picture.pixels,
            )
            overlay.write_png(out / f"{name}_lift.png", drawn)
            files.append(out / f"{name}_lift.png")
        report["people"].append(
            {
                "person": place,
                "person_id": detections.person_ids[row],
                "joints_told": int(skeletons.told[row]),
                "spread_mm": 1000 * float(np.nanmean(arrays["joint_sd"])),
                "mode_log_prob": float(skeletons.mode_log_prob[row]),
                "files": [p.name for p in files if p.stem in (name, f"{name}_lift")],
            }
        )
    report["seconds"] = time.perf_counter() - began
    results.write_json(out / f"{stem}_summary.json", report)
    files.append(out / f"{stem}_summary.json")
    return tuple(files)


def person_arrays(skeletons: Skeletons, row: int, report: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a person's npz holds; metres in camera axes, the pelvis at the origin.

    Keys: joint_names (17), joints3d (17, 3), samples3d (n, 17, 3), log_prob (n) nats, joint_sd
    (17) metres, mode_log_prob () nats, focal (2) and image_size (2) pixels.
    """

    def floats(tensor: Tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy().astype(np.float32)

    samples = skeletons.samples[row]
    # root of the summed variances of x, y, z; fewer than two samples say nothing (NaN)
    spread = samples.new_full((len(JOINTS),), torch.nan)
    if len(samples) > 1:
        spread = samples.var(0).sum(-1).sqrt()
    return {
        "joint_names": np.array(JOINTS.names),
        "joints3d": floats(skeletons.joints[row]),
        "samples3d": floats(samples),
        "log_prob": floats(skeletons.log_prob[row]),
        "joint_sd": floats(spread),
        "mode_log_prob": floats(skeletons.mode_log_prob[row]),
        "focal": np.full(2, report["focal_px"], np.float32),
        "image_size": np.array(report["image_size"], np.int64),
    }
