"""Posteriors as files: weights in safetensors, everything else in a JSON beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.keypoints import SCHEMAS, KeypointSchema
from flowfit.priors.keypoints.growth import grown
from flowfit.priors.keypoints.posterior import KeypointPosterior

FORMAT = "flowfit-keypoint-posterior"
FORMAT_VERSION = 1


def save_posterior(
    path: Path,
    posterior: KeypointPosterior,
    sizes: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write PATH (.safetensors) and the JSON beside it, each whole or not at all.

    Args:
        path: ends in .safetensors. sizes: the arguments that build the posterior.
        facts: training data, metrics, licence, credit, schema, ...
        half: store weights as float16, at half the size.

    Raises:
        InputError: a file cannot be written.
    """
    about = {"format": FORMAT, "version": FORMAT_VERSION, "sizes": dict(sizes), **facts}
    write_weights(path, posterior, about, half=half)


def write_weights(path: Path, module: nn.Module, about: Mapping[str, Any], *, half: bool) -> None:
    """Write a module's weights and the JSON beside them; arguments as in `save_posterior`."""
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    write_whole(path, save_tensors(state))
    write_whole(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())


def load_posterior(
    path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[KeypointPosterior, dict[str, Any]]:
    """A posterior in evaluation mode, and what its JSON says.

    Raises:
        InputError: a file is missing, damaged, of another kind, or has weights of other sizes.
    """
    about = read_about(path)
    try:
        posterior = KeypointPosterior(**about["sizes"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.with_suffix('.json')}: sizes do not build: {error}") from None
    keypoints, schema = posterior.encoder.keypoints, about["schema"]
    if keypoints != len(SCHEMAS[schema]):
        raise InputError(
            f"{path.with_suffix('.json')}: its sizes are for {keypoints} keypoints, "
            f"{schema} has {len(SCHEMAS[schema])}"
        )
    fill(path, posterior)
    return posterior.to(dtype=dtype, device=device).eval().requires_grad_(False), about


def fill(path: Path, module: nn.Module) -> None:
    """Put the weights of a safetensors file into a module that was built by its JSON.

    Raises:
        InputError: the file is damaged, or its weights have other names or sizes.
    """
    try:
        state = load_tensors(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
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
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: {name} has NaN or infinite values")
    module.load_state_dict(state)


def begin_with(posterior: KeypointPosterior, path: Path, schema: KeypointSchema) -> None:
    """Give a posterior the weights of a checkpoint, to train it further.

    A posterior may be larger than the checkpoint: by betas, by the encoder's blocks, or by hearing
    what is known beside the keypoints. Until it is trained, it then says of the checkpoint's
    numbers what the checkpoint says; further betas are N(0, 1) whatever was seen.

    Raises:
        InputError: the checkpoint cannot be read, or is of another schema or of sizes that do not
            fit.
    """
    other, about = load_posterior(path)
    if about["schema"] != schema.name:
        raise InputError(f"{path} is for {about['schema']} keypoints, not for {schema.name}")
    state, wanted = grown(other, posterior), posterior.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in wanted.items()}:
        raise InputError(
            f"{path} has the sizes {json.dumps(about['sizes'])}, the configuration has others; "
            'name them in --config under "sizes"'
        )
    posterior.load_state_dict(state)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside a keypoint posterior's checkpoint, checked.

    Raises:
        InputError: it is missing, damaged or of another kind.
    """
    about = read_format(path, FORMAT, FORMAT_VERSION)
    schema = about.get("schema")
    known = isinstance(schema, str) and schema in SCHEMAS
    if not known:
        raise InputError(
            f"{path.with_suffix('.json')}: it names no sizes or no known keypoint schema"
        )
    return about


def read_format(path: Path, kind: str, *versions: int) -> dict[str, Any]:
    """The JSON beside a checkpoint, of which the format, its version and the sizes are checked.

    Args:
        versions: that can be read.

    Raises:
        InputError: it is missing, damaged or of another kind.
    """
    beside = path.with_suffix(".json")
    try:
        about = json.loads(beside.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{beside}: no such file; a posterior needs it beside {path.name}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{beside} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(about, dict) or about.get("format") != kind:
        raise InputError(f"{beside} does not describe a {kind}")
    if about.get("version") not in versions:
        known = " and ".join(str(version) for version in versions)
        raise InputError(
            f"{beside}: format version {about.get('version')}; this flowfit reads {known}"
        )
    if not isinstance(about.get("sizes"), dict):
        raise InputError(f"{beside}: it names no sizes")
    return about
