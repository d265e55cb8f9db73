"""Several recipes on the same pictures: a table, a picture of each person, and a page of all."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowfit.fitting.comparison.contestants import (
    Contestant,
    fit_contestant,
    load_contestants,
    modes_of,
    parse,
)
from flowfit.fitting.comparison.inputs import Crowd, crowds, read_inputs
from flowfit.fitting.comparison.page import jpeg, write_page
from flowfit.fitting.comparison.picture import Fitted, person_picture
from flowfit.fitting.comparison.table import summarise, write_tables
from flowfit.fitting.comparison.truth import KnownBody, distances, load_truth
from flowfit.fitting.drawing import overlay
from flowfit.fitting.drawing.render import ENGINES, Shape
from flowfit.fitting.energy.recipes import COMPARED
from flowfit.fitting.reading.inputs import check_device, version
from flowfit.fitting.results.doubts import doubts
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.by_name import check_solver
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing.people import person_arrays, person_report
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` gives back.

    Attributes:
        rows: one a recipe, as in `table.json`. people: one a person and recipe.
        results: recipe -> everyone's bodies, one result for each keypoint schema.
        passed_over: name and reason. files: what was written, in order.
    """

    rows: tuple[dict[str, Any], ...]
    people: tuple[dict[str, Any], ...]
    results: dict[str, tuple[FitResult, ...]]
    passed_over: tuple[tuple[str, str], ...]
    files: tuple[Path, ...]


def compare(
    images: str | os.PathLike[str],
    keypoints: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipes: Sequence[str] = COMPARED,
    solver: str | None = None,
    truth: str | os.PathLike[str] | None = None,
    prior: str | None = None,
    mixture: str | None = None,
    body: str | os.PathLike[str] | None = None,
    gender: str = "neutral",
    schema: str | None = None,
    focal: float | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    draw: bool = True,
    renderer: str = "auto",
    progress: bool = False,
) -> Comparison:
    """Fit everyone in some pictures with several recipes, and write what came of it.

    Args:
        images, keypoints: a file each, or folders, as in `compare_inputs.read_inputs`.
        out: folder for the files. recipes: names in `RECIPES`, and such names with "+mode": begin
            at the posterior's mode. solver: for every recipe; None for each recipe's own.
        truth: known bodies, as in `compare_truth.load_truth`.
        prior: posterior of the recipes that use one, name or file. mixture: the mixture of the
            classical ones, such as gmm_08.pkl. None takes the recipes' own.
        body, gender, schema, focal, device, dtype, renderer, progress: as in `fit`.
        draw: write the pictures.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    began = time.perf_counter()
    check_solver(solver)
    check_device(device)
    if renderer not in ENGINES:
        raise InputError(f"renderer {renderer!r}: choose from {', '.join(ENGINES)}")
    parsed = [parse(name) for name in dict.fromkeys(recipes)]
    folder = Path(out)
    results.check_writable(folder)
    inputs = read_inputs(images, keypoints, schema=schema, focal=focal)
    model = find_body(body, gender=gender).to(dtype=dtype, device=device)
    contestants = load_contestants(parsed, prior, mixture, model, dtype, device)
    groups = crowds(inputs, dtype=dtype, device=device)
    names = [name for group in groups for name in group.names]
    known = {} if truth is None else load_truth(truth, names)
    results.make_folder(folder)

    modes = [modes_of(contestants, group, model, prior, dtype, device) for group in groups]
    rows, people, files = [], [], []
    found: dict[str, tuple[FitResult, ...]] = {}
    with _bar(len(names) * len(contestants), progress) as bar:
        for one in contestants:
            started = time.perf_counter()
            fitted = []
            for group, mode in zip(groups, modes, strict=True):
                bar.set_postfix_str(one.name)
                fitted.append(fit_contestant(one, group, model, mode, solver))
                bar.update(len(group.names))
            seconds = time.perf_counter() - started
            found[one.name] = tuple(fitted)
            of_recipe = []
            for group, result in zip(groups, fitted, strict=True):
                of_recipe += _reports(one, group, result, known)
                files += _save(folder, one, group, result, model)
            rows.append(summarise(one.name, fitted[0].solver, seconds, of_recipe))
            people += of_recipe
    about: dict[str, Any] = {
        "images": str(images),
        "keypoints": str(keypoints),
        "truth": None if truth is None else str(truth),
        "people_with_truth": len(known),
        "body": model.name,
        "version": version(),
    }
    pictures: list[tuple[str, str, bytes]] = []
    if draw:
        drawn = _draw(folder, groups, contestants, found, model, people, renderer, progress)
        pictures = [(name, text, data) for name, text, data, _ in drawn]
        files += [path for *_, path in drawn]
    about["seconds"] = time.perf_counter() - began
    files += write_tables(folder, rows, people, inputs.passed_over, about)
    line = f"{len(names)} people in {len(inputs.pictures)} pictures; body {model.name}."
    write_page(folder / "compare.html", rows, pictures, inputs.passed_over, line)
    files.append(folder / "compare.html")
    return Comparison(tuple(rows), tuple(people), found, inputs.passed_over, tuple(files))


def _reports(
    one: Contestant, group: Crowd, result: FitResult, known: dict[str, KnownBody]
) -> list[dict[str, Any]]:
    """What is told of each person, with the distances from the truth where it is known."""
    found = []
    for row, (name, seen) in enumerate(zip(group.names, group.seen, strict=True)):
        report = person_report(result, row)
        place = group.rows[row]
        keypoints = seen.detections.keypoints[place], seen.detections.confidence[place]
        report = {"person": name, **report, "warnings": doubts(result, row, *keypoints)}
        if name in known:
            body = result.joints3d[row], result.rotations[row, 0]
            report |= distances(known[name], *body)
        found.append(report)
    return found


def _save(folder: Path, one: Contestant, group: Crowd, result: FitResult, body: Body) -> list[Path]:
    """`STEM_N_RECIPE.npz` as `fit` writes it, without the mesh."""
    written = []
    for row, (name, seen) in enumerate(zip(group.names, group.seen, strict=True)):
        arrays = person_arrays(result, row, body, seen.size)
        path = folder / f"{name}_{one.name}.npz"
        small = {k: a for k, a in arrays.items() if k not in ("vertices", "faces")}
        results.write_arrays(path, small)
        written.append(path)
    return written


def _draw(
    folder: Path,
    groups: Sequence[Crowd],
    contestants: Sequence[Contestant],
    found: dict[str, tuple[FitResult, ...]],
    body: Body,
    people: Sequence[dict[str, Any]],
    renderer: str,
    progress: bool,
) -> list[tuple[str, str, bytes, Path]]:
    """`STEM_N_compare.png` of everybody; name, text, JPEG and path."""
    told = {(p["person"], p["recipe"]): p for p in people}
    drawn = []
    with _bar(sum(len(g.names) for g in groups), progress, "drawing") as bar:
        for number, group in enumerate(groups):
            for row, (name, seen) in enumerate(zip(group.names, group.seen, strict=True)):
                place = group.rows[row]
                fits = [
                    Fitted(
                        one.name,
                        _note(told[name, one.name]),
                        _shape(body, found[one.name][number], row, one.color),
                    )
                    for one in contestants
                ]
                image = person_picture(
                    overlay.canvas(seen.pixels, seen.size),
                    seen.focal,
                    seen.detections.keypoints[place],
                    seen.detections.confidence[place],
                    seen.detections.schema.edge_indices,
                    fits,
                    engine=renderer,
                )
                path = folder / f"{name}_compare.png"
                overlay.write_png(path, image)
                text = "; ".join(dict.fromkeys(_warnings(told, name, contestants)))
                drawn.append((name, text, jpeg(image), path))
                bar.update(1)
    return drawn


def _warnings(
    told: dict[tuple[str, str], dict[str, Any]], name: str, contestants: Sequence[Contestant]
) -> list[str]:
    return [f"{one.name}: {w}" for one in contestants for w in told[name, one.name]["warnings"]]


def _note(report: dict[str, Any]) -> str:
    if report["status"] == "invalid":
        return "failed"
    parts = [f"{report['reprojection_px']:.1f} px"]
    if "pa_mpjpe_mm" in report:
        parts.append(f"PA {report['pa_mpjpe_mm']:.0f} mm")
    return ", ".join(parts)


def _shape(
    body: Body, result: FitResult, row: int, color: tuple[float, float, float]
) -> Shape | None:
    one = slice(row, row + 1)
    vertices = body.vertices(result.betas[one], result.rotations[one], result.transl[one])[0]
    points = vertices.detach().cpu().numpy()
    return Shape(points, body.faces.cpu().numpy(), color) if np.isfinite(points).all() else None


def _bar(total: int, shown: bool, what: str = "fitting") -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="person", desc=what, disable=not shown)
