"""The classical priors written out slowly from their published formulas, in NumPy float64.

Nothing here is shared with `priors`: no whitening, no batches, no shifted constants.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def gaussian_energy(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """0.5 d' P d of one pose."""
    precision = np.linalg.inv(covariance)
    d = x - mean
    total = 0.0
    for i in range(len(d)):
        for j in range(len(d)):
            total += 0.5 * d[i] * precision[i, j] * d[j]
    return total


def max_mixture_energy(
    x: np.ndarray, means: np.ndarray, covariances: np.ndarray, weights: np.ndarray
) -> float:
    """SMPLify's: min over k of 0.5 d' P d - log(w_k / (c sqrt(det S_k) / min_j sqrt(det S_j))).

    With c = (2 pi)^(N / 2). Bogo et al., ECCV 2016, equation 6, and their published code.
    """
    roots = [np.exp(0.5 * np.linalg.slogdet(s)[1]) for s in covariances]
    c = (2 * np.pi) ** (len(x) / 2)
    energies = []
    for k in range(len(weights)):
        w = weights[k] / (c * (roots[k] / min(roots)))
        energies.append(gaussian_energy(x, means[k], covariances[k]) - np.log(w))
    return min(energies)


def least_constant(covariances: np.ndarray, weights: np.ndarray) -> float:
    """What `max_mixture_energy` is at least: the least of the components' constants."""
    roots = [np.exp(0.5 * np.linalg.slogdet(s)[1]) for s in covariances]
    c = (2 * np.pi) ** (covariances.shape[-1] / 2)
    return min(-np.log(w / (c * (r / min(roots)))) for w, r in zip(weights, roots, strict=True))


def limits_energy(body_pose: np.ndarray, softness: float = 3.0) -> float:
    """Knees bend 0 to 150 degrees about x, elbows 0 to 155 about -y (left) and y (right)."""
    # places among the 72 numbers of a pose, less 3 for the root; low and high, degrees
    table = ((12, 0, 150), (15, 0, 150), (55, -155, 0), (58, 0, 155))
    total = 0.0
    for place, low, high in table:
        angle = np.rad2deg(body_pose[place - 3])
        beyond = max(angle - high, 0.0) + max(low - angle, 0.0)
        total += 0.5 * (beyond / softness) ** 2
    return total


def bending_energy(body_pose: np.ndarray) -> float:
    """0.5 sum of exp(angle)^2; SMPLify's places and signs (without the halves)."""
    total = 0.0
    for place, sign in ((55, 1), (58, -1), (12, -1), (15, -1)):
        total += 0.5 * np.exp(sign * body_pose[place - 3]) ** 2
    return total


def body_numbers(rotations: np.ndarray, up: np.ndarray | None = None) -> np.ndarray:
    """69 axis-angle numbers of (24, 3, 3) rotations; with `up` its direction in the root's axes."""
    pose = np.concatenate([Rotation.from_matrix(r).as_rotvec() for r in rotations[1:]])
    return pose if up is None else np.concatenate((pose, rotations[0].T @ up))
