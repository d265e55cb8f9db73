"""The published objectives of SMPLify and its descendants, one person, in NumPy float64 loops.

Nothing here is shared with `fitting`: pictures are really resized to the resolution that the
published weights assume, and constants are written out where the publications have them. Energies
are theirs, with no halves. BODY_25's numbers stand for what their own tables call these joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tests.references import priors_twin
from tests.references.body_twin import twin_body
from tests.references.energy_twin import BODY25_POINTS

TORSO = (9, 12, 2, 5)  # right hip, left hip, right shoulder, left shoulder
# left elbow, right elbow, left knee, right knee among the 72 numbers, and which way is overbent
BENDING = ((55, 1.0), (58, -1.0), (12, -1.0), (15, -1.0))


@dataclass(frozen=True)
class Seen:
    """A picture: keypoints (25, 2) pixels, confidence (25,), focal length and centre (x, y)."""

    keypoints: np.ndarray
    confidence: np.ndarray
    focal: np.ndarray
    center: np.ndarray

    def resized(self, factor: float) -> Seen:
        return replace(
            self,
            keypoints=factor * self.keypoints,
            focal=factor * self.focal,
            center=factor * self.center,
        )

    def box(self) -> float:
        """The longer side of the box around what was seen."""
        there = self.keypoints[self.confidence > 0]
        return max(float(np.ptp(there[:, 0])), float(np.ptp(there[:, 1])))


@dataclass(frozen=True)
class Candidate:
    """A body: arrays of a body file and its named vertices, (S,), (24, 3, 3) and (3,)."""

    model: Mapping[str, np.ndarray]
    vertex_ids: Mapping[str, int]
    betas: np.ndarray
    rotations: np.ndarray
    transl: np.ndarray

    def project(self, seen: Seen) -> np.ndarray:
        vertices, joints = twin_body(self.model, self.betas, self.rotations, self.transl)
        pixels = np.zeros((25, 2))
        for k, place in enumerate(BODY25_POINTS):
            point = joints[place] if isinstance(place, int) else vertices[self.vertex_ids[place]]
            for axis in (0, 1):
                pixels[k, axis] = seen.focal[axis] * point[axis] / point[2] + seen.center[axis]
        return pixels


Mixture = tuple[np.ndarray, np.ndarray, np.ndarray]


def gmof(x: float, sigma: float) -> float:
    """Bogo et al. 2016, equation 2's rho: Geman and McClure; one coordinate at a time."""
    return sigma**2 * x**2 / (sigma**2 + x**2)


def bending(rotations: np.ndarray) -> float:
    """Bogo et al. 2016, equation 5, squared as the code's least squares do: sum exp(angle)^2."""
    pose = priors_twin.body_numbers(rotations)
    return sum(float(np.exp(sign * pose[place - 3])) ** 2 for place, sign in BENDING)


def data_term(body: Candidate, seen: Seen, ignored: tuple[int, ...], sigma: float) -> float:
    """Sum over joints and axes of confidence^2 rho(error); equation 2, weights as in the codes."""
    total = 0.0
    pixels = body.project(seen)
    for k in range(25):
        if k not in ignored:
            for axis in (0, 1):
                error = pixels[k, axis] - seen.keypoints[k, axis]
                total += seen.confidence[k] ** 2 * gmof(error, sigma)
    return total


def camera_energy(body: Candidate, seen: Seen, depth: float, data_weight: float = 1.0) -> float:
    """The camera's objective, the same in all three codes.

    SMPLify `fit_3d.py: initialize_camera`, SPIN `smplify/losses.py: camera_fitting_loss`,
    SMPLify-X `fitting.py: SMPLifyCameraInitLoss`: plain squares over the torso's four joints,
    whatever their confidence, and 100^2 (depth - estimate)^2.
    """
    pixels = body.project(seen)
    total = 0.0
    for k in TORSO:
        for axis in (0, 1):
            total += data_weight**2 * (pixels[k, axis] - seen.keypoints[k, axis]) ** 2
    return total + 100.0**2 * (body.transl[2] - depth) ** 2


def smplify_pictures(seen: Seen) -> Seen:
    """Leeds Sports Pose: people about 150 pixels long."""
    return seen.resized(150.0 / seen.box())


def smplify_energy(body: Candidate, seen: Seen, mixture: Mixture, stage: int) -> dict[str, float]:
    """SMPLify 2016, equation 1 without interpenetration; `fit_3d.py: optimize_on_joints`.

    Residuals there: GMOf(error, 100) times confidence, hips at weight 0; w times the prior's, whose
    squares are 0.5 d' P d - log w_k; 0.317 w times 10 exp(angle); w_betas times betas.
    """
    w, w_betas = ((4.04e2, 1e2), (4.04e2, 5e1), (57.4, 1e1), (4.78, 0.5e1))[stage]
    neck_and_hips = (1, 8, 9, 12)
    pose = priors_twin.body_numbers(body.rotations)
    return {
        "reprojection": data_term(body, smplify_pictures(seen), neck_and_hips, 100.0),
        "pose": w**2 * priors_twin.max_mixture_energy(pose, *mixture),
        "angle": (0.317 * w * 10) ** 2 * bending(body.rotations),
        "shape": w_betas**2 * float(sum(b * b for b in body.betas)),
    }


def spin_pictures(seen: Seen) -> Seen:
    """SPIN's input: 224 pixels across 1.2 times the box."""
    return seen.resized(224.0 / (1.2 * seen.box()))


def spin_energy(body: Candidate, seen: Seen, mixture: Mixture) -> dict[str, float]:
    """SPIN `smplify/losses.py: body_fitting_loss`, ignoring OpenPose's neck and hips."""
    pose = priors_twin.body_numbers(body.rotations)
    return {
        "reprojection": data_term(body, spin_pictures(seen), (1, 9, 12), 100.0),
        "pose": 4.78**2 * priors_twin.max_mixture_energy(pose, *mixture),
        "angle": 15.2**2 * bending(body.rotations),
        "shape": 5.0**2 * float(sum(b * b for b in body.betas)),
    }


def smplifyx_energy(
    body: Candidate, seen: Seen, mixture: Mixture, stage: int, height: float
) -> dict[str, float]:
    """SMPLify-X on SMPL, `fitting.py: SMPLifyLoss` with `fit_single_frame.py`'s weights.

    Errors in the picture's own pixels, rho at 100 of them, weighted by (1000 / height)^2; the
    bending weight 3.17 w is not squared there.
    """
    w, w_betas = ((4.04e2, 1e2), (4.04e2, 5e1), (57.4, 1e1), (4.78, 0.5e1))[stage]
    pose = priors_twin.body_numbers(body.rotations)
    return {
        "reprojection": (1000.0 / height) ** 2 * data_term(body, seen, (1, 9, 12), 100.0),
        "pose": w**2 * priors_twin.max_mixture_energy(pose, *mixture),
        "angle": 3.17 * w * bending(body.rotations),
        "shape": w_betas**2 * float(sum(b * b for b in body.betas)),
    }


def torso_depth(rest: Candidate, seen: Seen) -> float:
    """Focal length times metres over pixels of the torso's sides; `guess_init` of all codes."""
    joints = twin_body(rest.model, rest.betas, rest.rotations, np.zeros(3))[1]
    metres = pixels = 0.0
    for shoulder, hip in ((5, 12), (2, 9)):
        ends = [BODY25_POINTS[shoulder], BODY25_POINTS[hip]]
        metres += float(np.linalg.norm(joints[ends[0]] - joints[ends[1]]))
        pixels += float(np.linalg.norm(seen.keypoints[shoulder] - seen.keypoints[hip]))
    return float(np.mean(seen.focal)) * metres / pixels
