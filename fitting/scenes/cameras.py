"""The cameras.json that a fit leaves: cameras estimated from bodies, or given ones refined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from flowfit.fitting.scenes.camera_files import (
    CAMERAS_JSON,
    SceneCameras,
    read_cameras_json,
    write_cameras_json,
)
from flowfit.fitting.scenes.estimate import estimate_rig
from flowfit.fitting.scenes.scene import LEAST_VIEWS, Scene
from flowfit.fitting.several_views.fit_views import fit_views
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.solvers.solution import Status
from flowfit.fitting.writing.files import make_folder
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.rig import Rig
from flowfit.priors.base import PriorModel

_MOST_FITS = 64  # to refine cameras by; more say little that is new


def estimated_cameras(
    scene: Scene,
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    out: Path | None,
    *,
    keep: bool,
) -> tuple[Scene, dict[str, Any]]:
    """The scene with cameras found from the bodies that they saw.

    Args:
        problem: of everybody in the scene. out: folder for cameras.json; None writes none.
        keep: take the cameras.json of an earlier run that is there.

    Returns:
        The scene, and how sure the cameras are: standard deviations of each one's orientation
        (degrees) and place (metres) relative to the reference camera, whose frame is the world.

    Raises:
        InputError: the views never saw a person together.
    """
    if keep and out is not None and (out / CAMERAS_JSON).is_file():
        found = read_cameras_json(out / CAMERAS_JSON).take(scene.views, out / CAMERAS_JSON)
        return replace(scene, cameras=found), {"cameras_source": f"{out / CAMERAS_JSON}"}
    estimate = estimate_rig(problem, body, prior)
    rig = estimate.rig.to(dtype=torch.float64, device="cpu")
    cameras = SceneCameras(scene.views, scene.lens, rig, scene.sizes, None)

    def by_view(values: Any) -> dict[str, float]:
        return dict(zip(scene.views, values.tolist(), strict=True))

    about = {
        "cameras_source": "estimated by flowfit from the bodies; their size sets the scale",
        "reference": scene.views[estimate.reference],
        "rows_used": len(estimate.frames),
        "sd_degrees": by_view(torch.rad2deg(estimate.turn_sd)),
        "sd_metres": by_view(estimate.centre_sd),
        "reprojection_px": by_view(estimate.reprojection_px),
    }
    if out is not None:
        make_folder(out)
        write_cameras_json(out / CAMERAS_JSON, cameras, about)
    return replace(scene, cameras=cameras), about


def refined_cameras(
    scene: Scene,
    problem: MultiviewProblem,
    body: Body,
    prior: PriorModel,
    out: Path | None,
    *,
    keep: bool,
) -> tuple[Scene, dict[str, Any]]:
    """The scene with its cameras moved to where the bodies want them; arguments as above.

    Returns:
        The scene, and how far the cameras of single fits are from these, which are their mean.

    Raises:
        InputError: nobody could be fitted.
    """
    assert scene.cameras is not None
    if keep and out is not None and (out / CAMERAS_JSON).is_file():
        found = read_cameras_json(out / CAMERAS_JSON).take(scene.views, out / CAMERAS_JSON)
        return replace(scene, cameras=found), {"cameras_source": f"{out / CAMERAS_JSON}"}
    refined = mean_refined_rig(problem, body, prior)
    about = {
        "cameras_source": f"refined by flowfit: the mean over {refined.fits} fits",
        "sd_degrees": dict(zip(scene.views, refined.turn_sd.tolist(), strict=True)),
        "sd_metres": dict(zip(scene.views, refined.centre_sd.tolist(), strict=True)),
    }
    cameras = replace(scene.cameras, rig=refined.rig)
    if out is not None:
        make_folder(out)
        write_cameras_json(out / CAMERAS_JSON, cameras, about)
    return replace(scene, cameras=cameras), about


class RefinedRig(NamedTuple):
    """A rig that the bodies moved.

    Attributes:
        rig: the mean over the fits, float64. fits: how many.
        turn_sd: (V,) degrees and centre_sd: (V,) metres, of single fits about the mean.
    """

    rig: Rig
    fits: int
    turn_sd: np.ndarray
    centre_sd: np.ndarray


def mean_refined_rig(problem: MultiviewProblem, body: Body, prior: PriorModel) -> RefinedRig:
    """Let each person's fit move the cameras, and take the mean: cameras stand still.

    Args:
        problem: with a rig; people whom two views see are used, 64 of them at most.

    Raises:
        InputError: nobody could be fitted.
    """
    from scipy.spatial.transform import Rotation

    several = (problem.seen.sum(-1) >= LEAST_VIEWS).nonzero()[:, 0]
    if not len(several):
        raise InputError("nobody is seen by two views, so no camera can be refined")
    step = max(1, -(-len(several) // _MOST_FITS))
    result = fit_views(problem.rows(several[::step]), body, prior, refine_cameras=True)
    good = [row for row, status in enumerate(result.status) if status is not Status.INVALID]
    if not good:
        raise InputError("nobody could be fitted, so no camera was refined")
    turns = result.rig.rotations[good].double().cpu().numpy()
    centres = result.rig.centres[good].double().cpu().numpy()
    means, spread = [], []
    for of_view in turns.swapaxes(0, 1):
        rotation = Rotation.from_matrix(of_view)
        means.append(rotation.mean().as_matrix())
        away = (rotation.mean().inv() * rotation).magnitude()
        spread.append(np.rad2deg(np.sqrt((away**2).mean())))
    mean, centre = np.stack(means), centres.mean(0)
    apart = np.sqrt(((centres - centre) ** 2).sum(-1).mean(0))
    rig = Rig(torch.from_numpy(mean), torch.from_numpy(-(mean @ centre[..., None])[..., 0]))
    return RefinedRig(rig, len(good), np.array(spread), apart)
