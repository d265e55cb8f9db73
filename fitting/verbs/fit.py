"""The main job: everyone in one picture, fitted, drawn and saved."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing.render import Shape
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import DEFAULT_RECIPE, RECIPES, check_recipes
from flowfit.fitting.one_view.after_fit import AfterFit
from flowfit.fitting.one_view.fit_people import PEOPLE_AT_ONCE
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.inputs import SeenPicture, check_device, see
from flowfit.fitting.results.doubts import doubts
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.by_name import check_solver
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing import meshes as export
from flowfit.fitting.writing.open_bodies import check_samples, sample_fits, write_samples
from flowfit.fitting.writing.people import person_arrays, person_report
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.priors.base import PriorModel
from flowfit.priors.load import load as load_prior


@dataclass(frozen=True, eq=False)
class PictureFit:
    """What `fit` gives back.

    Attributes:
        result: everyone's bodies, or None when there was nobody.
        detections: the people as read; `indices` gives each row's place in the file.
        body: the body model that was fitted.
        report: what `STEM_summary.json` holds.
        warnings: lines for the user. files: what was written, in order.
        opened: what is open after each person's fit, when samples were asked for.
    """

    result: FitResult | None
    detections: Detections
    body: Body
    report: dict[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...] = field(default=())
    opened: tuple[AfterFit | None, ...] = field(default=())


def fit(
    image: str | os.PathLike[str] | None,
    keypoints: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    recipe: str = DEFAULT_RECIPE,
    prior: str | None = None,
    body: str | os.PathLike[str] | None = None,
    gender: str = "neutral",
    schema: str | None = None,
    focal: float | None = None,
    person: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    meshes: Sequence[str] = ("obj", "glb"),
    draw: bool = True,
    renderer: str = "auto",
    progress: bool = False,
    solver: str | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> PictureFit:
    """Fit everyone whose keypoints are in a file.

    Args:
        image: the picture, or None with `image_size` (the overlay is then on a blank canvas).
        keypoints: a file such as OpenPose writes. out: folder for the files; None writes none.
        image_size: width and height in pixels, in place of a picture.
        recipe: name in `RECIPES`. prior: built-in name or file; None takes the recipe's.
        body: built-in name, SMPL file or folder; None takes FLOWFIT_BODY, else the open body.
        gender: which file of a folder of SMPL files. schema: keypoint schema; None tells by count.
        focal: pixels; None takes EXIF's, else the picture's diagonal.
        person: place in the file of the only one to fit. device, dtype: where and in what to
            compute. meshes: formats to write. draw: write the overlay.
        renderer: "auto", "pyrender" or "raycast". progress: show a bar.
        solver: "lm", "lbfgs" or "adam" for every stage; None for the recipe's own.
        samples: bodies to draw of what is open after the fit; None for none. seed: of the draws.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    began = time.perf_counter()
    export.check_formats(meshes)
    check_recipes([recipe])
    check_solver(solver)
    check_samples(samples, seed)
    check_device(device)
    results.check_writable(out)
    seen = see(
        image, keypoints,
        image_size=image_size, schema=schema, focal=focal, person=person,
    )  # fmt: skip
    if draw and out is not None:
        seen.check_drawable()
    model = find_body(body, gender=gender)
    report = seen.report(recipe=recipe, body=model.name)
    warnings = [*seen.warnings]
    fitted = None
    opened: list[AfterFit | None] = []
    model = model.to(dtype=dtype, device=device)
    if len(seen.detections):
        up = torch.tensor([0.0, -1.0, 0.0])  # of the picture: an unknown camera is held level
        chosen = _load_prior(
            prior or RECIPES[recipe].prior,
            num_betas=model.num_betas,
            up=up,
            dtype=dtype,
            device=device,
            bending=RECIPES[recipe].bending,
        )
        problem = seen.problem(dtype, device)
        chosen = seen.show_to(chosen)
        fitted = _fit(problem, model, chosen, recipe, progress, solver)
        report["seconds_fit"] = fitted.seconds
        if samples is not None:
            opened = sample_fits(
                problem, model, chosen, fitted, samples, seed=seed, progress=progress
            )
        for row, place in enumerate(seen.detections.indices):
            warnings += [f"person {place}: {text}" for text in _doubts(fitted, row, seen)]
    files: tuple[Path, ...] = ()
    if out is not None:
        folder = results.Folder(out)
        _write(folder, fitted, seen, model, report, meshes, began, draw=draw, renderer=renderer)
        if opened and fitted is not None:
            write_samples(folder, opened, fitted, seen, model, draw=draw, renderer=renderer)
        files = tuple(folder.files)
    return PictureFit(fitted, seen.detections, model, report, tuple(warnings), files, tuple(opened))


def _load_prior(name_or_path: str, **settings: Any) -> PriorModel:
    """As `flowfit.priors.load.load`, and "lifting"."""
    if name_or_path == "lifting":
        from flowfit.fitting.one_view.lifted_prior import (
            load_lifted_prior,  # most fits have no use for it
        )

        return load_lifted_prior(**settings)
    return load_prior(name_or_path, **settings)


def _fit(
    problem: FitProblem,
    body: Body,
    prior: PriorModel,
    recipe: str,
    progress: bool,
    solver: str | None,
) -> FitResult:
    if not progress or len(problem) <= PEOPLE_AT_ONCE:
        return fit_seen(problem, body, prior, RECIPES[recipe], solver=solver)
    from tqdm import tqdm

    with tqdm(total=len(problem), unit="person", desc="fitting") as bar:
        update = bar.update
        return fit_seen(problem, body, prior, RECIPES[recipe], progress=update, solver=solver)


def _doubts(fitted: FitResult, row: int, seen: SeenPicture) -> list[str]:
    return doubts(fitted, row, seen.detections.keypoints[row], seen.detections.confidence[row])


def _write(
    folder: results.Folder,
    fitted: FitResult | None,
    seen: SeenPicture,
    body: Body,
    report: dict[str, Any],
    meshes: Sequence[str],
    began: float,
    *,
    draw: bool,
    renderer: str,
) -> None:
    shapes: list[Shape] = []
    detections = seen.detections
    shared = {k: report[k] for k in ("focal_px", "focal_source", "version")}
    for row, place in enumerate(detections.indices if fitted is not None else ()):
        assert fitted is not None
        name = f"{seen.stem}_{place}"
        arrays = person_arrays(fitted, row, body, seen.size)
        vertices, faces = arrays["vertices"], arrays["faces"]
        own = [folder.file(f"{name}.npz")]
        results.write_arrays(own[0], arrays)
        if np.isfinite(vertices).all():
            for ending in meshes:
                own.append(folder.file(f"{name}.{ending}"))
                export.write_mesh(own[-1], vertices, faces, overlay.FIT)
            shapes.append(Shape(vertices, faces, overlay.FIT))
        one = {
            **person_report(fitted, row),
            **shared,
            "person": place,
            "person_id": detections.person_ids[row],
            "warnings": _doubts(fitted, row, seen),
            "seconds": fitted.seconds / len(fitted),
            "files": [path.name for path in own],
        }
        results.write_json(folder.file(f"{name}.json"), one)
        report["people"].append({k: one[k] for k in _SUMMARY_KEYS})
    if draw and len(detections):
        drawn = overlay.fit_picture(
            overlay.canvas(seen.pixels, seen.size),
            shapes,
            (seen.focal, seen.focal),
            (seen.size[0] / 2, seen.size[1] / 2),
            detections.keypoints,
            detections.confidence,
            detections.schema.edge_indices,
            engine=renderer,
        )
        overlay.write_png(folder.file(f"{seen.stem}_overlay.png"), drawn)
    report["seconds"] = time.perf_counter() - began
    results.write_json(folder.file(f"{seen.stem}_summary.json"), report)


_SUMMARY_KEYS = (
    "person",
    "person_id",
    "status",
    "quality",
    "facing",
    "reprojection_px",
    "reprojection_of_box",
    "iterations",
    "files",
)
