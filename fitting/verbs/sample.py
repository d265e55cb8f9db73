"""The verb `sample`: many bodies that could be each person, and the few that they come down to."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing.samples import interpolation_picture, modes_picture
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.fitting.one_view.quantize import Modes, check_seed, quantize
from flowfit.fitting.reading import formats
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.inputs import (
    check_device,
    focal_length,
    only_person,
    picture_and_size,
    stem_of,
    version,
)
from flowfit.fitting.reading.pictures import MAX_MEGAPIXELS
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing.samples import sample_arrays
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.priors.image.shown import show
from flowfit.priors.keypoints.draws import Draws, draw, random_latents
from flowfit.priors.keypoints.prior import FlowGiven
from flowfit.priors.load import load as load_prior

DEFAULT_PRIOR = "keypoint-flow"
DEFAULT_COUNT, DEFAULT_MODES = 4096, 5
MOST_SAMPLES = 200_000  # a person's arrays then fill about 200 MB
MOST_MODES = 100
# along a random direction of the latent, in standard deviations of the whole vector
_ALONG = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True, eq=False)
class PersonSamples:
    """One person's samples.

    Attributes:
        person: place in the file. draws: n bodies, the posterior's mode first.
        modes: the few that they come down to. seconds: for drawing and quantising.
    """

    person: int
    draws: Draws
    modes: Modes
    seconds: float


@dataclass(frozen=True, eq=False)
class PictureSamples:
    """What `sample` gives back.

    Attributes:
        people: in the file's order. detections: as read. body: whose samples these are.
        report: what `STEM_samples.json` holds. warnings: lines for the user. files: written.
    """

    people: tuple[PersonSamples, ...]
    detections: Detections
    body: Body
    report: dict[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...]


def sample(
    image: str | os.PathLike[str] | None,
    keypoints: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    count: int = DEFAULT_COUNT,
    modes: int = DEFAULT_MODES,
    image_size: tuple[int, int] | None = None,
    prior: str | None = None,
    body: str | os.PathLike[str] | None = None,
    gender: str = "neutral",
    schema: str | None = None,
    focal: float | None = None,
    person: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    interpolate: bool = False,
    draw_pictures: bool = True,
    renderer: str = "auto",
    progress: bool = False,
) -> PictureSamples:
    """Draw bodies from the posterior of everyone whose keypoints are in an OpenPose file.

    Nothing is fitted: these are the bodies that the prior thinks of, given the keypoints. The first
    sample is the posterior's mode. A person's samples depend on ProHMR and on that person alone.

    Args:
        image, keypoints, out, image_size, body, gender, schema, focal, person, device, renderer:
            as in `fit`. count: n. modes: how many bodies to quantise the samples to.
        prior: a posterior that looks at the keypoints: built-in name or file. seed: of the draws.
        dtype: in what to compute. interpolate: a strip of bodies along two random directions of the
            latent, too. draw_pictures: write pictures. progress: show a bar.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    began = time.perf_counter()
    check_counts(count, modes)
    check_seed(seed)
    check_device(device)
    if out is not None:
        results.check_writable(Path(out))
    picture, size = picture_and_size(image, image_size)
    drawn = draw_pictures and out is not None
    if picture is None and drawn and math.prod(size) > MAX_MEGAPIXELS * 1e6:
        raise InputError(
            f"image size {size[0]} x {size[1]}: pictures of more than {MAX_MEGAPIXELS} megapixels "
            "are not drawn; give --no-overlay (draw_pictures=False), or scale everything down"
        )
    detections = only_person(formats.read(keypoints, schema=schema, image_size=size), person)
    focal_px, focal_source = focal_length(focal, picture, size)
    model = find_body(body, gender=gender).to(dtype=dtype, device=device)
    stem = Path(image).stem if image is not None else stem_of(Path(keypoints))
    looking = load_prior(
        prior or DEFAULT_PRIOR, num_betas=model.num_betas, dtype=dtype, device=device
    )
    report: dict[str, Any] = {
        "image": None if image is None else str(image),
        "keypoints": str(keypoints),
        "image_size": list(size),
        "focal_px": focal_px,
        "focal_source": focal_source,
        "prior": looking.name,
        "body": model.name,
        "samples": count,
        "seed": seed,
        "version": version(),
        "people": [],
        "skipped": [{"index": i, "reason": r} for i, r in detections.skipped],
        "notes": list(detections.notes),
    }
    people: list[PersonSamples] = []
    camera = Camera.from_size(*size, focal_px).to(dtype=dtype, device=device)
    given = None
    if len(detections):
        problem = FitProblem.build(
            detections.schema,
            torch.tensor(detections.keypoints, dtype=dtype, device=device),
            torch.tensor(detections.confidence, dtype=dtype, device=device),
            camera,
        )
        pictures = None if picture is None else [picture.pixels] * len(problem)
        given = tell(show(looking, pictures), problem, model)
    if given is not None and (not isinstance(given, FlowGiven) or given.start() is None):
        raise InputError(
            f"prior {looking.name}: only a posterior that looks at the keypoints can be sampled; "
            f"give {DEFAULT_PRIOR}, or a file that flowfit train wrote"
        )
    for row in _bar(range(len(detections)), progress):
        assert isinstance(given, FlowGiven)
        people.append(_one(given, row, detections.indices[row], model, count, modes, seed))
        report["people"].append(_told(people[-1], detections.person_ids[row]))
    files: list[Path] = []
    if out is not None:
        folder = Path(out)
        results.make_folder(folder)
        for row, one in enumerate(people):
            name = f"{stem}_{one.person}"
            arrays = sample_arrays(one.draws, one.modes, camera, size)
            results.write_arrays(folder / f"{name}_samples.npz", arrays)
            files.append(folder / f"{name}_samples.npz")
            if not drawn:
                continue
            canvas = overlay.blank(*size) if picture is None else picture.pixels
            place = (focal_px,) * 2, (size[0] / 2, size[1] / 2)
            seen = detections.keypoints[row], detections.confidence[row]
            edges = detections.schema.edge_indices
            shown = modes_picture(
                canvas, bodies(one.draws, one.modes, model), model.faces.cpu().numpy(),
                one.modes.weight.tolist(), *place, *seen, edges, engine=renderer,
            )  # fmt: skip
            overlay.write_png(folder / f"{name}_samples.png", shown)
            files.append(folder / f"{name}_samples.png")
            if interpolate:
                assert isinstance(given, FlowGiven)
                strip = interpolation_picture(
                    along_directions(given, row, model, seed),
                    model.faces.cpu().numpy(),
                    _ALONG,
                    engine=renderer,
                )
                overlay.write_png(folder / f"{name}_interpolation.png", strip)
                files.append(folder / f"{name}_interpolation.png")
        report["seconds"] = time.perf_counter() - began
        results.write_json(folder / f"{stem}_samples.json", report)
        files.append(folder / f"{stem}_samples.json")
    warnings = (*(r for _, r in detections.skipped), *detections.notes)
    return PictureSamples(tuple(people), detections, model, report, warnings, tuple(files))


def check_counts(count: int, modes: int) -> None:
    """InputError for numbers of samples and modes that cannot be."""
    if not 1 <= count <= MOST_SAMPLES:
        raise InputError(f"{count} samples: give between 1 and {MOST_SAMPLES:,}")
    if not 1 <= modes <= min(count, MOST_MODES):
        raise InputError(
            f"{modes} modes of {count} samples: give between 1 and {min(count, MOST_MODES)}"
        )


def _one(
    given: FlowGiven, row: int, person: int, body: Body, count: int, modes: int, seed: int
) -> PersonSamples:
    began = time.perf_counter()
    latents = random_latents(count, given, row, seed)
    draws = draw(given, row, latents, body)
    found = quantize(draws.joints3d, modes, seed=seed)
    return PersonSamples(person, draws, found, time.perf_counter() - began)


def _told(one: PersonSamples, person_id: int) -> dict[str, Any]:
    return {
        "person": one.person,
        "person_id": person_id,
        "mode_index": one.modes.index.tolist(),
        "mode_weight": one.modes.weight.tolist(),
        "seconds": one.seconds,
    }


def bodies(draws: Draws, modes: Modes, body: Body) -> np.ndarray:
    """Vertices (1 + m, V, 3), metres, camera frame, of the first sample and of the modes."""
    chosen = torch.cat((torch.zeros_like(modes.index[:1]), modes.index))
    some = draws.betas[chosen], draws.rotations[chosen], draws.transl[chosen]
    return body.vertices(*some).detach().cpu().double().numpy()


def along_directions(given: FlowGiven, row: int, body: Body, seed: int) -> np.ndarray:
    """Vertices (2, T, V, 3) of bodies along two random directions of a person's latent.

    A direction is a unit vector times root D, the length that a draw has.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    size = given.flow.features
    way = torch.randn(2, size, generator=generator, dtype=torch.float64)
    way = way / way.norm(dim=-1, keepdim=True) * math.sqrt(size)
    steps = torch.tensor(_ALONG, dtype=torch.float64)
    latents = (steps[:, None] * way[:, None]).flatten(0, 1).to(given.context)
    draws = draw(given, row, latents, body)
    vertices = body.vertices(draws.betas, draws.rotations, draws.transl)
    return vertices.unflatten(0, (2, len(_ALONG))).detach().cpu().double().numpy()


def _bar(rows: range, progress: bool) -> Any:
    if not progress or len(rows) < 2:
        return rows
    from tqdm import tqdm

    return tqdm(rows, unit="person", desc="sampling")
