"""What the files of one person hold: fitted, sampled or lifted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowfit.fitting.one_view.lifted_people import LiftedPeople
from flowfit.fitting.one_view.quantize import Modes
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.sides import SIDES
from flowfit.fitting.writing.files import floats
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.kinematics import JOINT_NAMES
from flowfit.models.rotations import matrix_to_axis_angle
from flowfit.priors.keypoints.draws import Draws
from flowfit.priors.lifting.input import JOINTS


def person_arrays(
    result: FitResult, row: int, body: Body, image_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What a person's npz holds; metres in the camera's frame, pixels, radians.

    Keys: global_orient (3), body_pose (69), betas (S), transl (3), focal (2), center (2),
    image_size (2: width, height), joints3d (24, 3), keypoints3d (K, 3), keypoints2d (K, 2),
    keypoint_names (K), keypoint_sd (K), vertices (V, 3), faces (F, 3).
    """
    one = slice(row, row + 1)
    axis_angle = matrix_to_axis_angle(result.rotations[row]).reshape(-1)
    vertices = body.vertices(result.betas[one], result.rotations[one], result.transl[one])[0]
    camera = result.camera.rows(torch.tensor([row]))

    return {
        "global_orient": floats(axis_angle[:3]),
        "body_pose": floats(axis_angle[3:]),
        "betas": floats(result.betas[row]),
        "transl": floats(result.transl[row]),
        "focal": floats(camera.focal.reshape(-1, 2)[0]),
        "center": floats(camera.center.reshape(-1, 2)[0]),
        "image_size": np.array(image_size, dtype=np.int64),
        "joints3d": floats(result.joints3d[row]),
        "keypoints3d": floats(result.keypoints3d[row]),
        "keypoints2d": floats(result.keypoints2d[row]),
        "keypoint_names": np.array(result.schema.names),
        "keypoint_sd": floats(result.keypoint_sd[row]),
        "vertices": floats(vertices),
        "faces": body.faces.cpu().numpy().astype(np.int32),
    }


def person_report(result: FitResult, row: int) -> dict[str, Any]:
    """What a person's JSON holds besides what the caller adds."""
    status = result.status[row]
    energy = {name: float(value[row]) for name, value in result.energy.items()}
    return {
        "status": status.name.lower(),
        "status_text": status.value,
        "recipe": result.recipe,
        "solver": result.solver,
        "prior": result.prior,
        "body": result.body,
        "keypoint_schema": result.schema.name,
        "reprojection_px": float(result.reprojection_px[row]),
        "reprojection_of_box": float(result.reprojection_px[row] / result.size[row]),
        "energy": {"total": sum(energy.values()), **energy},
        "start_energy": float(result.start_energy[row]),
        "iterations": int(result.iterations[row]),
        "quality": float(result.quality[row]),
        "facing": float(result.facing[row]),
        "keypoints_doubted": [
            name
            for name, doubt in zip(result.schema.names, result.doubted[row], strict=True)
            if bool(doubt)
        ],
        "sides_exchanged": SIDES[int(result.exchanged[row])],
        "keypoints_seen": int(result.seen[row]),
    } | _said_of_nobody(result, row)


def _said_of_nobody(result: FitResult, row: int) -> dict[str, str]:
    if int(result.seen[row]):
        return {}
    return {"note": "no keypoint of this person was seen: the body is the prior's own likeliest"}


def sample_arrays(
    draws: Draws, modes: Modes, camera: Camera, image_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Arrays of n samples and m modes; metres in the camera's frame, radians, nats.

    Keys: poses (n, 72) axis-angle, the root's in the camera's frame, betas (n, S), transl (n, 3),
    joints3d (n, 24, 3), joint_names (24), log_prob (n), mode_index (m), mode_weight (m),
    focal (2), center (2), image_size (2: width, height).
    """
    return {
        "poses": floats(matrix_to_axis_angle(draws.rotations).flatten(-2)),
        "betas": floats(draws.betas),
        "transl": floats(draws.transl),
        "joints3d": floats(draws.joints3d),
        "joint_names": np.array(JOINT_NAMES),
        "log_prob": floats(draws.log_prob),
        "mode_index": modes.index.cpu().numpy().astype(np.int64),
        "mode_weight": floats(modes.weight),
        "focal": floats(camera.focal.reshape(-1, 2)[0]),
        "center": floats(camera.center.reshape(-1, 2)[0]),
        "image_size": np.array(image_size, dtype=np.int64),
    }


def skeleton_arrays(
    lifted: LiftedPeople, row: int, focal: float, image_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What the npz of a lifted person holds; metres in camera axes, the pelvis at the origin.

    Keys: joint_names (17), joints3d (17, 3), samples3d (n, 17, 3), log_prob (n) nats, joint_sd
    (17) metres, mode_log_prob () nats, focal (2) and image_size (2) pixels.
    """
    samples = lifted.samples[row]
    # root of the summed variances of x, y, z; fewer than two samples say nothing (NaN)
    spread = samples.new_full((len(JOINTS),), torch.nan)
    if len(samples) > 1:
        spread = samples.var(0).sum(-1).sqrt()
    return {
        "joint_names": np.array(JOINTS.names),
        "joints3d": floats(lifted.joints[row]),
        "samples3d": floats(samples),
        "log_prob": floats(lifted.log_prob[row]),
        "joint_sd": floats(spread),
        "mode_log_prob": floats(lifted.mode_log_prob[row]),
        "focal": np.full(2, focal, np.float32),
        "image_size": np.array(image_size, np.int64),
    }
