"""`fit --samples N`: what is written of the bodies that remain possible after a fit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing.samples import modes_picture, sd_colors, sd_panel
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.after_fit import (
    LEAST_SAMPLES,
    MOST_SAMPLES,
    AfterFit,
    Surroundings,
    after_fit,
    surroundings,
)
from flowfit.fitting.one_view.importance import TRUSTED_K
from flowfit.fitting.one_view.quantize import check_seed
from flowfit.fitting.reading.inputs import SeenPicture
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing import meshes as export
from flowfit.fitting.writing.people import sample_arrays
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.priors.base import PriorModel

MODES = 5


def check_samples(count: int | None, seed: int) -> None:
    """InputError for a number of samples or a seed that is too small or too large."""
    check_seed(seed)
    if count is not None and not LEAST_SAMPLES <= count <= MOST_SAMPLES:
        raise InputError(f"--samples {count}: give between {LEAST_SAMPLES} and {MOST_SAMPLES:,}")


def sample_fits(
    problem: FitProblem,
    body: Body,
    model: PriorModel,
    result: FitResult,
    count: int,
    *,
    seed: int = 0,
    progress: bool = False,
) -> list[AfterFit | None]:
    """What is open of each person, in the result's order; None where nothing can be said."""
    from tqdm import tqdm

    around: list[Surroundings | None] = surroundings(problem, body, model, result)
    bar = tqdm(around, unit="person", desc="sampling", disable=not progress)
    return [None if one is None else after_fit(one, count, MODES, seed) for one in bar]


def write_samples(
    folder: results.Folder,
    opened: Sequence[AfterFit | None],
    result: FitResult,
    seen: SeenPicture,
    body: Body,
    *,
    draw: bool = True,
    renderer: str = "auto",
) -> None:
    """Files of everyone: STEM_N_samples.npz and .json, STEM_N_sd.glb, and if wanted a picture."""
    faces = body.faces.cpu().numpy()
    detections = seen.detections
    for row, (place, one) in enumerate(zip(detections.indices, opened, strict=True)):
        if one is None:
            continue
        began = time.perf_counter()
        name = f"{seen.stem}_{place}_samples"
        camera = result.camera.rows(torch.tensor([row], device=result.transl.device))
        common = sample_arrays(one.draws, one.modes, camera, seen.size)
        results.write_arrays(folder.file(f"{name}.npz"), arrays(one, common))
        fitted = body.vertices(
            result.betas[row : row + 1], result.rotations[row : row + 1], result.transl[row]
        )[0]
        sd = one.vertex_sd.detach().cpu().double().numpy()
        shell = fitted.detach().cpu().double().numpy()
        glb = folder.file(f"{seen.stem}_{place}_sd.glb")
        export.write_mesh(glb, shell, faces, sd_colors(sd))
        if draw:
            chosen = one.modes.index
            drawn = body.vertices(
                one.draws.betas[chosen], one.draws.rotations[chosen], one.draws.transl[chosen]
            )
            bodies = np.concatenate((shell[None], drawn.detach().cpu().double().numpy()))
            focal, center = (
                (float(t.reshape(-1, 2)[0, 0]), float(t.reshape(-1, 2)[0, 1]))
                for t in (camera.focal, camera.center)
            )
            picture = modes_picture(
                overlay.canvas(seen.pixels, seen.size), bodies, faces, one.modes.weight.tolist(),
                focal, center, detections.keypoints[row], detections.confidence[row],
                detections.schema.edge_indices, first="fit", first_color=overlay.FIT,
                corner=partial(sd_panel, shell, faces, sd, engine=renderer),
                engine=renderer,
            )  # fmt: skip
            overlay.write_png(folder.file(f"{name}.png"), picture)
        results.write_json(
            folder.file(f"{name}.json"),
            {"person": place, **told(one), "seconds_writing": time.perf_counter() - began},
        )


def arrays(one: AfterFit, common: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of `sample_arrays`, and weight (n), joint_sd (24), vertex_sd (V), metres."""
    return {
        **common,
        "weight": results.floats(one.weights),
        "joint_sd": results.floats(one.joint_sd),
        "vertex_sd": results.floats(one.vertex_sd),
    }


def told(one: AfterFit) -> dict[str, Any]:
    """What a person's STEM_N_samples.json holds."""
    said = {
        "samples": len(one.draws),
        "effective_samples": one.effective,
        "k_hat": one.k_hat,
        "bridges": one.bridges,
        "moves_accepted": one.accepted,
        "temperature": one.temperature,
        "mode_index": one.modes.index.tolist(),
        "mode_weight": one.modes.weight.tolist(),
        "distance_sd": one.distance_sd,
    }
    if not one.trusted:
        said["warning"] = (
            f"the weights' Pareto shape is {one.k_hat:.2f}, above {TRUSTED_K}: take the deviations "
            "for rough ones, or ask for more samples"
        )
    return said
