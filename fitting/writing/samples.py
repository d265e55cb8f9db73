"""What the npz of a person's samples holds."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from flowfit.fitting.one_view.quantize import Modes
from flowfit.models.cameras import Camera
from flowfit.models.kinematics import JOINT_NAMES
from flowfit.models.rotations import matrix_to_axis_angle
from flowfit.priors.keypoints.draws import Draws


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


def floats(tensor: Tensor) -> np.ndarray:
    """As float32 on the CPU."""
    return tensor.detach().cpu().numpy().astype(np.float32)
