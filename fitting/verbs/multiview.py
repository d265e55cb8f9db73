"""The verb `multiview`: everyone in a scene of several views, fitted, drawn and saved."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowfit.fitting.reading.inputs import check_device
from flowfit.fitting.scenes.camera_files import CAMERAS_JSON
from flowfit.fitting.scenes.outputs import FittedPerson, Outputs, finished, write_frame
from flowfit.fitting.scenes.people import ScenePeople, find_people, lonely_views, problem_of
from flowfit.fitting.scenes.results import doubts, suspicious_cameras, view_arrays, view_report
from flowfit.fitting.scenes.scene import Scene, read_scene
from flowfit.fitting.several_views.fit_views import FRAMES_AT_ONCE, check_prior, fit_views
from flowfit.fitting.several_views.result import ViewsResult
from flowfit.fitting.several_views.triangulate import check_metres, triangulate
from flowfit.fitting.writing import files as results
from flowfit.fitting.writing.meshes import check_formats
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.base import PriorModel
from flowfit.priors.load import load as load_prior

DEFAULT_PRIOR = "keypoint-flow"
SUMMARY = "summary.json"


@dataclass(frozen=True, eq=False)
class SceneFit:
    """What `multiview` gives back.

    Attributes:
        results: of the batches that were fitted now. people: whose rows those are, in order.
        scene: as read. body: the body model that was fitted. report: what `summary.json` holds.
        warnings: lines for the user. files: what was written now. kept: frames that were finished
            before.
    """

    results: tuple[ViewsResult, ...]
    people: ScenePeople
    scene: Scene
    body: Body
    report: dict[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...]
    kept: tuple[str, ...]

    def lines(self) -> list[str]:
        """How everybody's fit ended, one line each."""
        found = []
        rows = [(fit, row) for fit in self.results for row in range(len(fit))]
        for (fit, row), frame, person in zip(
            rows, self.people.frames, self.people.people, strict=True
        ):
            error = float(fit.reprojection_px[row].nanmedian())
            found.append(
                f"{frame}, person {person.number}: {fit.status[row].name.lower()}, "
                f"{len(person.rows)} views, median error {error:.1f} px"
            )
        return found


def multiview(
    scene: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    frames: Sequence[str] | None = None,
    views: Sequence[str] | None = None,
    person: int | None = None,
    uncalibrated: bool = False,
    refine_cameras: bool = False,
    estimate_cameras: bool = False,
    match: bool = False,
    prior: str = DEFAULT_PRIOR,
    body: str | os.PathLike[str] | None = None,
    gender: str = "neutral",
    schema: str | None = None,
    focal: float | None = None,
    image_size: tuple[int, int] | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    meshes: Sequence[str] = (),
    draw: bool = True,
    renderer: str = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> SceneFit:
    """Fit everyone in a scene that several cameras see.

    Frames whose `FRAME.json` is in `out`, made with the same settings, are kept and not fitted
    again.

    Args:
        scene: folder of keypoints and, if known, cameras; see `scene_files` for the layouts.
        out: folder for the files; None writes none.
        frames: names, or places START:END. views: names. person: number of the only one to fit.
        uncalibrated: take nothing for known of where cameras stand. refine_cameras: let the given
            ones move a little. estimate_cameras: find where they stand, from the bodies.
        match: tell who is who by geometry, whatever person_id says.
        prior: built-in posterior or file. body, gender, schema: as in `fit`.
        focal, image_size: of views of which no file says. device, dtype: where and in what to
            compute. meshes: formats to write. draw: write pictures. renderer: as in `fit`.
        overwrite: fit finished frames again. progress: show a bar.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    began = time.perf_counter()
    _check_options(meshes, uncalibrated, refine_cameras, estimate_cameras)
    check_device(device)
    target = None if out is None else Path(out)
    results.check_writable(out)
    read = read_scene(
        scene, frames=frames, views=views, schema=schema, image_size=image_size, focal=focal
    )
    if refine_cameras and read.cameras is None:
        raise InputError(f"{scene}: no camera file, so no cameras to refine; --estimate-cameras")
    everyone = find_people(read, read.frames, person=person, match=match)
    model = find_body(body, gender=gender)
    settings: dict[str, Any] = {
        "scene": str(read.folder),
        "views": list(read.views),
        "person": person,
        "cameras": _cameras_word(read, uncalibrated, refine_cameras, estimate_cameras),
        "match": match,
        "prior": prior,
        "body": model.name,
        "schema": schema,
        "focal": focal,
        "image_size": None if image_size is None else list(image_size),
        "dtype": str(dtype).removeprefix("torch."),
        "meshes": list(meshes),
        "pictures": draw,
    }
    kept = []
    if target is not None and not overwrite:
        kept = [frame for frame in read.frames if finished(target, frame, settings)]
    model = model.to(dtype=dtype, device=device)
    chosen = load_prior(prior, num_betas=model.num_betas, dtype=dtype, device=device)
    check_prior(chosen)
    warnings = [*read.notes, *lonely_views(everyone, read.views)]
    files: list[Path] = []
    fits: list[ViewsResult] = []
    calibrated = read.cameras is not None and not uncalibrated
    how: dict[str, Any] = {"calibrated": calibrated, "dtype": dtype, "device": device}
    if calibrated and len(everyone):  # of all frames, so that a person in one view does not judge
        check_metres(triangulate(problem_of(read, everyone, **how)))
    about_cameras: dict[str, Any] = {}
    if estimate_cameras or refine_cameras:
        from flowfit.fitting.scenes.cameras import estimated_cameras, refined_cameras

        problem = problem_of(read, everyone, **{**how, "calibrated": not estimate_cameras})
        find = estimated_cameras if estimate_cameras else refined_cameras
        read, about_cameras = find(read, problem, model, chosen, target, keep=bool(kept))
        how["calibrated"] = True
        files += [] if target is None else [target / CAMERAS_JSON]
    to_write = Outputs(tuple(meshes), draw, renderer)
    left = [frame for frame in read.frames if frame not in set(kept)]
    done = ScenePeople((), ())
    for some in _with_bar(left, progress):
        batch = everyone.of(some)
        some_fits, people = _fit_batch(read, batch, model, chosen, how)
        fits += some_fits
        done = ScenePeople(done.frames + batch.frames, done.people + batch.people)
        for frame in some:
            of_frame = [p for f, p in zip(batch.frames, people, strict=True) if f == frame]
            for one in of_frame:
                warnings += [f"{frame}, person {one.number}: {text}" for text in one.warnings]
            if target is not None:
                files += write_frame(target, read, frame, of_frame, settings, to_write)
    for fitted in fits:
        warnings += [w for w in suspicious_cameras(fitted, read.views) if w not in warnings]
    report = {
        **settings,
        "frames": list(read.frames),
        "kept": kept,
        "people": len(everyone),
        "warnings": warnings,
        "seconds_fit": sum(fit.seconds for fit in fits),
        "seconds": time.perf_counter() - began,
    } | about_cameras
    if target is not None:
        results.make_folder(target)
        results.write_json(target / SUMMARY, report)
        files.append(target / SUMMARY)
    return SceneFit(
        tuple(fits), done, read, model, report, tuple(warnings), tuple(files), tuple(kept)
    )


def _check_options(
    meshes: Sequence[str], uncalibrated: bool, refine_cameras: bool, estimate_cameras: bool
) -> None:
    check_formats(meshes)
    if refine_cameras and (uncalibrated or estimate_cameras):
        raise InputError("--refine-cameras starts from the given cameras; leave the other option")
    if uncalibrated and estimate_cameras:
        raise InputError("--uncalibrated takes cameras for unknown in every frame, and "
                         "--estimate-cameras finds them: give one of the two")  # fmt: skip


def _cameras_word(scene: Scene, uncalibrated: bool, refine: bool, estimate: bool) -> str:
    if estimate:
        return "estimated"
    if uncalibrated or scene.cameras is None:
        return "unknown"
    return "refined" if refine else "given"


def _with_bar(frames: Sequence[str], progress: bool) -> Iterator[list[str]]:
    """The frames in batches, with a bar on the screen if wanted."""
    from tqdm import tqdm

    with tqdm(total=len(frames), unit="frame", desc="fitting", disable=not progress) as bar:
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            some = list(frames[start : start + FRAMES_AT_ONCE])
            yield some
            bar.update(len(some))


def _fit_batch(
    scene: Scene,
    batch: ScenePeople,
    body: Body,
    prior: PriorModel,
    how: dict[str, Any],
) -> tuple[list[ViewsResult], list[FittedPerson]]:
    if not len(batch):
        return [], []
    problem = problem_of(scene, batch, **how)
    fitted = fit_views(problem, body, prior)
    triangulated = None if problem.rig is None else triangulate(problem)
    people = [
        FittedPerson(
            seen.number,
            view_arrays(fitted, row, body, scene.views, scene.sizes),
            view_report(fitted, row, scene.views, triangulated),
            doubts(fitted, row, scene.views),
        )
        for row, seen in enumerate(batch.people)
    ]
    return [fitted], people
