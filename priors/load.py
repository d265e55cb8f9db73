"""Priors by name or file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.models.keypoints import SCHEMAS
from flowfit.models.safe_pickle import evaluate, load_records
from flowfit.priors.base import PriorModel
from flowfit.priors.classical.densities import MaxMixturePose, TrueMixturePose
from flowfit.priors.classical.gaussian import GaussianPose
from flowfit.priors.classical.joint_limits import ExponentialBending, HingeLimits
from flowfit.priors.classical.prior import POSE_SIZE, UP_SIZE, PoseTerm, RotationPrior
from flowfit.priors.image.files import is_image_posterior, load_image_posterior
from flowfit.priors.image.prior import ImagePrior
from flowfit.priors.image.prohmr import read_prohmr
from flowfit.priors.image.prohmr_prior import ProHMRPrior
from flowfit.priors.keypoints.draw_calibration import calibration_of
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.keypoints.prior import FlowPrior

BUILT_IN = {
    "keypoint-flow": "flow posterior that looks at the keypoints (the default)",
    "pose-flow": "the same, told that nothing was seen: a prior over poses and shapes",
    "image-small": "flow posterior that looks at the picture and the keypoints (drawn pictures)",
    "gmm": "max-mixture of 8 Gaussians over body poses, with knee and elbow limits",
    "gmm-true": "the same Gaussians as a true mixture: all count, not the best one alone",
    "gaussian": "one Gaussian over body poses, with knee and elbow limits",
    "smplify": "SMPLify's terms: the max-mixture over 69 angles, exp(bend) on knees and elbows",
}
# the same weights: told that nothing was seen, the posterior is a prior
_POSTERIORS = {
    "keypoint-flow": ("keypoint_flow.safetensors", False),
    "pose-flow": ("keypoint_flow.safetensors", True),
}
IMAGE_POSTERIORS = {"image-small": "image_small.safetensors"}
_PROHMR = (".pt", ".ckpt")  # released checkpoints
_FILES = {
    "gmm": "gmm8.npz",
    "gmm-true": "gmm8.npz",
    "gaussian": "gaussian.npz",
    "smplify": "gmm8.npz",
}


def load(
    name_or_path: str = "gmm",
    *,
    num_betas: int = 10,
    up: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    bending: bool = False,
) -> PriorModel:
    """A built-in prior by name, or a file.

    Files: a posterior trained here (.safetensors with its JSON beside it), ProHMR's released
    checkpoint (.pt, .ckpt), SMPLify's mixture (`gmm_08.pkl`), or an npz like it.

    Args:
        name_or_path: see `BUILT_IN`. num_betas: S of the body it is for.
        up: (3,) the direction that is up in the frame of the root; None: unknown, and priors that
            use it are taken without.
        bending: put SMPLify's cost of bent knees and elbows beside a mixture, in place of hinge
            limits, and leave gravity out; of "smplify" that is so anyway.

    Raises:
        InputError: no such prior or file, a file that is something else, or a posterior where
            `bending` wants a mixture.
    """
    posterior = name_or_path in (*_POSTERIORS, *IMAGE_POSTERIORS)
    posterior |= name_or_path.endswith((".safetensors", *_PROHMR))
    if bending and posterior:
        raise InputError(
            f"prior {name_or_path}: SMPLify's recipes need a mixture; give gmm_08.pkl or smplify"
        )
    bending = bending or name_or_path == "smplify"
    if posterior:
        return _load_flow(name_or_path, dtype=dtype, device=device)
    if name_or_path in BUILT_IN:
        arrays = _read_built_in(_FILES[name_or_path])
        name = name_or_path
    else:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise InputError(
                f"no prior {name_or_path!r}: built in are {', '.join(BUILT_IN)}; "
                "or give a mixture file such as gmm_08.pkl"
            )
        arrays = read_mixture(path)
        name = path.stem
    means, covariances, weights = (torch.from_numpy(a) for a in arrays)
    if bending:
        up = None
    if up is None:  # the marginal of a Gaussian leaves the other numbers out
        means, covariances = means[:, :POSE_SIZE], covariances[:, :POSE_SIZE, :POSE_SIZE]
    density: PoseTerm
    if len(means) == 1:
        density = GaussianPose(means[0], covariances[0])
    elif name_or_path == "gmm-true":
        density = TrueMixturePose(means, covariances, weights)
    else:
        density = MaxMixturePose(means, covariances, weights)
    knees_and_elbows: PoseTerm = ExponentialBending() if bending else HingeLimits()
    prior = RotationPrior(name, [density, knees_and_elbows], num_betas=num_betas, up=up)
    return prior.to(dtype=dtype, device=device)


def _load_flow(name_or_path: str, *, dtype: torch.dtype, device: torch.device | str) -> PriorModel:
    blind = False
    path = Path(name_or_path).expanduser()
    if name_or_path in _POSTERIORS:
        path, blind = posterior_file(name_or_path), _POSTERIORS[name_or_path][1]
    elif path.suffix in _PROHMR:
        opened = read_prohmr(path, dtype=dtype)
        opened.posterior.to(device)
        return ProHMRPrior(path.stem, opened)
    elif name_or_path in IMAGE_POSTERIORS:
        weights = resources.files("flowfit.priors") / "weights"
        path = Path(str(weights / IMAGE_POSTERIORS[name_or_path]))
        return _load_image(name_or_path, path, dtype, device)
    elif is_image_posterior(path):
        return _load_image(path.stem, path, dtype, device)
    posterior, about = load_posterior(path, dtype=dtype, device=device)
    return FlowPrior(
        name_or_path if name_or_path in _POSTERIORS else path.stem,
        posterior,
        SCHEMAS[about["schema"]],
        blind=blind,
        calibration=calibration_of(about, str(path.with_suffix(".json"))),
    )


def posterior_file(name_or_path: str) -> Path:
    """The checkpoint of a keypoint posterior: a built-in one by name, or a file as given."""
    if name_or_path in _POSTERIORS:
        return Path(
            str(resources.files("flowfit.priors") / "weights" / _POSTERIORS[name_or_path][0])
        )
    return Path(name_or_path).expanduser()


def _load_image(
    name: str, path: Path, dtype: torch.dtype, device: torch.device | str
) -> ImagePrior:
    posterior, about = load_image_posterior(path, dtype=dtype, device=device)
    calibration = calibration_of(about, str(path.with_suffix(".json")))
    return ImagePrior(name, posterior, SCHEMAS[about["schema"]], calibration=calibration)


def _read_built_in(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with resources.as_file(resources.files("flowfit.priors") / "weights" / name) as path:
        return read_mixture(path)


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
