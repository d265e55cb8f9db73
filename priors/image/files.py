"""Image posteriors as files: what is new in safetensors, and which keypoint posterior it stands on.

The keypoint posterior is not copied: the JSON names it with the hash of its weights. A built-in one
is found among the built-in weights, another one beside the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.keypoints import SCHEMAS
from flowfit.priors.image.posterior import ImagePosterior
from flowfit.priors.keypoints.files import file_hash, load_posterior, read_format
from flowfit.priors.weights_file import weights_file

FORMAT = "flowfit-image-posterior"
FORMAT_VERSION = 2  # 1 read no features at the keypoints
_BEGUN_FROM = (1, FORMAT_VERSION)  # files of which a training can take what fits
_BASE_PREFIX = "keypoint_posterior."
_IGNORED = "num_batches_tracked"  # of batch norms: counts that nothing reads


def save_image_posterior(
    path: Path,
    weights: Mapping[str, Tensor],
    sizes: Mapping[str, Any],
    base: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write PATH (.safetensors) and the JSON beside it, each whole or not at all.

    Args:
        weights: of an `ImagePosterior`; those of its keypoint posterior are left out, the others
            are stored as float16. sizes: its arguments. base: file of the keypoint posterior.
        facts: training data, metrics, licence, credit, schema, ...

    Raises:
        InputError: a file cannot be written.
    """
    state = {
        k: v.detach().cpu().contiguous().half()
        for k, v in weights.items()
        if not k.startswith(_BASE_PREFIX) and not k.endswith(_IGNORED)
    }
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sizes": dict(sizes),
        "keypoint_posterior": {"file": base.name, "sha256": file_hash(base)},
        **facts,
    }
    write_whole(path, save_tensors(state))
    write_whole(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())


def is_image_posterior(path: Path) -> bool:
    """Whether the JSON beside a file says that it is an image posterior."""
    try:
        about = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("format") == FORMAT


def load_image_posterior(
    path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[ImagePosterior, dict[str, Any]]:
    """An image posterior in evaluation mode, and what its JSON says.

    How bodies are drawn ("draws") is the keypoint posterior's, whose flow it is, unless it says so.

    Raises:
        InputError: a file is missing, damaged, of another kind, or stands on another keypoint
            posterior than the one that is there.
    """
    about = _read_about(path)
    beside = path.with_suffix(".json")
    base = _find_base(path, about["keypoint_posterior"])
    keypoint_posterior, told = load_posterior(base)
    if told["schema"] != about["schema"]:
        raise InputError(f"{beside}: it is for {about['schema']}, {base.name} for {told['schema']}")
    try:
        posterior = ImagePosterior(
            keypoint_posterior, schema=SCHEMAS[about["schema"]], **about["sizes"]
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{beside}: sizes do not build: {error}") from None
    state = _read_tensors(path)
    wanted = {
        k: v
        for k, v in posterior.state_dict().items()
        if not k.startswith(_BASE_PREFIX) and not k.endswith(_IGNORED)
    }
    _check_weights(path, state, wanted)
    posterior.load_state_dict(state, strict=False)
    about = {"draws": told.get("draws", {}), **about}
    return posterior.to(dtype=dtype, device=device).eval().requires_grad_(False), about


class Begun(NamedTuple):
    """What a model took from a file.

    Attributes:
        taken: how many tensors. new: names of those that begin from nothing.
    """

    taken: int
    new: tuple[str, ...]


def begin_with(posterior: ImagePosterior, path: Path) -> Begun:
    """Give a posterior the weights of a file whose names and shapes are its own.

    The file may be of an older version or have other sizes; the keypoint posterior stays.

    Raises:
        InputError: the file is missing, damaged or of another kind, or none of its weights fits.
    """
    read_format(path, FORMAT, *_BEGUN_FROM)
    own = {
        name: value
        for name, value in posterior.state_dict().items()
        if not name.startswith(_BASE_PREFIX) and not name.endswith(_IGNORED)
    }
    state = {
        name: value
        for name, value in _read_tensors(path).items()
        if name in own and value.shape == own[name].shape
    }
    if not state:
        raise InputError(f"{path}: has other sizes than the configuration; none of it fits")
    for name, value in state.items():
        if not bool(value.isfinite().all()):
            raise InputError(f"{path}: {name} has NaN or infinite values")
    posterior.load_state_dict(state, strict=False)
    return Begun(len(state), tuple(name for name in own if name not in state))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None


def _check_weights(path: Path, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        parts = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for what, names in (("missing", missing), ("left over", extra))
            if names
        ]
        raise InputError(f"{path}: weights do not fit its JSON: {', '.join(parts)}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, "
                f"its JSON says {tuple(wanted[name].shape)}"
            )
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: {name} has NaN or infinite values")


def _find_base(path: Path, told: Mapping[str, str]) -> Path:
    built_in = weights_file(told["file"])
    there = [p for p in (path.with_name(told["file"]), built_in) if p.is_file()]
    for base in there:
        if file_hash(base) == told["sha256"]:
            return base
    if there:
        raise InputError(
            f"{path} was trained on another {told['file']} than {there[0]}; put its own beside it"
        )
    raise InputError(f"{path} needs the keypoint posterior {told['file']} beside it")


def _read_about(path: Path) -> dict[str, Any]:
    about, beside = read_format(path, FORMAT, FORMAT_VERSION), path.with_suffix(".json")
    base: Any = about.get("keypoint_posterior")
    schema = about.get("schema")
    named = isinstance(base, dict) and all(isinstance(base.get(k), str) for k in ("file", "sha256"))
    # the name leads to a file: no folders in it
    if not named or Path(base["file"]).name != base["file"]:
        raise InputError(f"{beside}: it names no keypoint posterior that it stands on")
    known = isinstance(schema, str) and schema in SCHEMAS
    if not known:
        raise InputError(f"{beside}: it names no sizes or no known keypoint schema")
    return about
