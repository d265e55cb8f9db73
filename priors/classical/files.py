"""Mixtures of poses as files: SMPLify's pickle, or an npz like it; and the priors made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flowfit.models.errors import InputError
from flowfit.models.safe_pickle import evaluate, load_records
from flowfit.priors.base import Wanted
from flowfit.priors.classical.densities import GaussianPose, MaxMixturePose, TrueMixturePose
from flowfit.priors.classical.joint_limits import ExponentialBending, HingeLimits
from flowfit.priors.classical.prior import POSE_SIZE, UP_SIZE, PoseTerm, RotationPrior


def load_mixture_prior(
    name: str, path: Path, wanted: Wanted, *, all_count: bool = False, bending: bool = False
) -> RotationPrior:
    """The prior of a mixture file, with limits of knees and elbows.

    Args:
        all_count: the true mixture, in place of the best Gaussian alone. bending: SMPLify's cost of
            bent knees and elbows in place of limits, whatever is wanted.

    Raises:
        InputError: it is no such file.
    """
    means, covariances, weights = (torch.from_numpy(a) for a in read_mixture(path))
    bending = bending or wanted.bending
    up = None if bending else wanted.up
    if up is None:  # the marginal of a Gaussian leaves the other numbers out
        means, covariances = means[:, :POSE_SIZE], covariances[:, :POSE_SIZE, :POSE_SIZE]
    density: PoseTerm
    if len(means) == 1:
        density = GaussianPose(means[0], covariances[0])
    elif all_count:
        density = TrueMixturePose(means, covariances, weights)
    else:
        density = MaxMixturePose(means, covariances, weights)
    knees_and_elbows: PoseTerm = ExponentialBending() if bending else HingeLimits()
    prior = RotationPrior(name, [density, knees_and_elbows], num_betas=wanted.num_betas, up=up)
    return prior.to(dtype=wanted.dtype, device=wanted.device)


def read_mixture(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (M, N), covariances (M, N, N) and weights (M,) of a mixture file, float64.

    N is 69, or 72 where the direction of up in the root's axes follows the pose.

    `.pkl` is SMPLify's layout (keys means, covars, weights), opened without running code.

    Raises:
        InputError: not such a file.
    """
    if path.suffix == ".npz":
        try:
            data = np.load(path, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError("it is a single array, not an npz")
            with data:
                found = {k: data[k] for k in data.files}
        except Exception as error:  # a damaged archive can raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} cannot be read: {reason}") from None
    else:
        found = _unpickle(path)
    missing = [k for k in ("means", "covars", "weights") if k not in found]
    if missing:
        raise InputError(
            f"{path} is not a pose mixture: it has no {', '.join(missing)} "
            f"(it has {', '.join(map(str, list(found)[:8])) or 'no names'})"
        )
    try:
        means = np.array(found["means"], dtype=np.float64)
        covars = np.array(found["covars"], dtype=np.float64)
        weights = np.asarray(found["weights"], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InputError(f"{path} is not a pose mixture: its arrays are not numbers") from None
    count = len(weights)
    size = means.shape[-1] if means.ndim else 0
    fits = means.shape == (count, size) and covars.shape == (count, size, size)
    if not count or not fits or size not in (POSE_SIZE, POSE_SIZE + UP_SIZE):
        raise InputError(
            f"{path}: means {means.shape} and covars {covars.shape} do not fit {count} weights of "
            f"a mixture over {POSE_SIZE} body pose numbers"
        )
    if not all(np.isfinite(a).all() for a in (means, covars, weights)):
        raise InputError(f"{path}: the mixture has NaN or infinite values")
    if (np.linalg.eigvalsh(covars) <= 0).any() or (weights <= 0).any():
        raise InputError(f"{path}: a covariance is not positive definite or a weight not positive")
    return means, covars, weights / weights.sum()


def _unpickle(path: Path) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            loaded = load_records(file)
        if not isinstance(loaded, dict):
            raise InputError("holds no named arrays; give SMPLify's gmm_08.pkl")
        return {str(key): evaluate(value) for key, value in loaded.items()}
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a pickle ({reason})") from None
