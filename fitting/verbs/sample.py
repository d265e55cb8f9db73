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
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.fitting.one_view.quantize import Modes, check_seed, quantize
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.inputs import SeenPicture, check_device, see
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing.people import sample_arrays
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.base import Posterior
from flowfit.priors.keypoints.draws import Draws, draw, random_latents
from flowfit.priors.load import load_with_draws

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
    """Draw bodies from the posterior of everyone whose keypoints are in a file.

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
    results.check_writable(out)
    seen = see(
        image, keypoints,
        image_size=image_size, schema=schema, focal=focal, person=person,
    )  # fmt: skip
    if draw_pictures and out is not None:
        seen.check_drawable()
    model = find_body(body, gender=gender).to(dtype=dtype, device=device)
    looking = load_with_draws(
        prior or DEFAULT_PRIOR, num_betas=model.num_betas, dtype=dtype, device=device
    )
    report = seen.report(prior=looking.name, body=model.name, samples=count, seed=seed)
    people: list[PersonSamples] = []
    given = None
    if len(seen.detections):
        told = tell(seen.show_to(looking), seen.problem(dtype, device), model)
        given = told.as_posterior()
    for row in _bar(range(len(seen.detections)), progress):
        assert given is not None
        person_id = seen.detections.person_ids[row]
        place = seen.detections.indices[row]
        people.append(_one(given, row, place, model, count, modes, seed))
        report["people"].append(_told(people[-1], person_id))
    files: tuple[Path, ...] = ()
    if out is not None:
        folder = results.Folder(out)
        for row, one in enumerate(people):
            name = f"{seen.stem}_{one.person}"
            arrays = sample_arrays(one.draws, one.modes, seen.camera(dtype, device), seen.size)
            results.write_arrays(folder.file(f"{name}_samples.npz"), arrays)
            if not draw_pictures:
                continue
            shown = _picture(seen, row, one, model, renderer)
            overlay.write_png(folder.file(f"{name}_samples.png"), shown)
            if interpolate:
                assert given is not None
                strip = interpolation_picture(
                    along_directions(given, row, model, seed),
                    model.faces.cpu().numpy(),
                    _ALONG,
                    engine=renderer,
                )
                overlay.write_png(folder.file(f"{name}_interpolation.png"), strip)
        report["seconds"] = time.perf_counter() - began
        results.write_json(folder.file(f"{seen.stem}_samples.json"), report)
        files = tuple(folder.files)
    return PictureSamples(tuple(people), seen.detections, model, report, seen.warnings, files)


def check_counts(count: int, modes: int) -> None:
    """InputError for numbers of samples and modes that cannot be."""
    if not 1 <= count <= MOST_SAMPLES:
        raise InputError(f"{count} samples: give between 1 and {MOST_SAMPLES:,}")
    if not 1 <= modes <= min(count, MOST_MODES):
        raise InputError(
            f"{modes} modes of {count} samples: give between 1 and {min(count, MOST_MODES)}"
        )


def _one(
    given: Posterior, row: int, person: int, body: Body, count: int, modes: int, seed: int
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


def _picture(
    seen: SeenPicture, row: int, one: PersonSamples, body: Body, renderer: str
) -> np.ndarray:
    """The modes beside the picture."""
    detections = seen.detections
    return modes_picture(
        overlay.canvas(seen.pixels, seen.size), bodies(one.draws, one.modes, body),
        body.faces.cpu().numpy(), one.modes.weight.tolist(),
        (seen.focal, seen.focal), (seen.size[0] / 2, seen.size[1] / 2),
        detections.keypoints[row], detections.confidence[row], detections.schema.edge_indices,
        engine=renderer,
    )  # fmt: skip


def bodies(draws: Draws, modes: Modes, body: Body) -> np.ndarray:
    """Vertices (1 + m, V, 3), metres, camera frame, of the first sample and of the modes."""
    chosen = torch.cat((torch.zeros_like(modes.index[:1]), modes.index))
    some = draws.betas[chosen], draws.rotations[chosen], draws.transl[chosen]
    return body.vertices(*some).detach().cpu().double().numpy()


def along_directions(given: Posterior, row: int, body: Body, seed: int) -> np.ndarray:
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
