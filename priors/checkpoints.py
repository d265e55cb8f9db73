"""Posteriors as files: weights in safetensors, everything else in a JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from models.errors import InputError
from models.files import write_whole
from models.keypoints import SCHEMAS
from priors.posterior import KeypointPosterior

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
    state = {k: v.detach().cpu().contiguous() for k, v in posterior.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    about = {"format": FORMAT, "version": FORMAT_VERSION, "sizes": dict(sizes), **facts}
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
    try:
        state = load_tensors(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    wanted = posterior.state_dict()
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
    posterior.load_state_dict(state)
    return posterior.to(dtype=dtype, device=device).eval().requires_grad_(False), about


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside a checkpoint, checked.

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
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{beside} does not describe a {FORMAT}")
    if about.get("version") != FORMAT_VERSION:
        raise InputError(
            f"{beside}: format version {about.get('version')}; this flowfit reads {FORMAT_VERSION}"
        )
    schema = about.get("schema")
    known = isinstance(schema, str) and schema in SCHEMAS
    if not isinstance(about.get("sizes"), dict) or not known:
        raise InputError(f"{beside}: it names no sizes or no known keypoint schema")
    return about
