"""Lifters as files: weights in safetensors, everything else in a JSON beside them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowfit.models.errors import InputError
from flowfit.priors.keypoints.files import fill, read_format, write_weights
from flowfit.priors.lifting.lifter import Lifter
from flowfit.priors.weights_file import weights_file

FORMAT = "flowfit-lifter"
FORMAT_VERSION = 1
BUILT_IN = "lifting"


def save_lifter(
    path: Path,
    lifter: Lifter,
    sizes: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write PATH (.safetensors) and the JSON beside it, each whole or not at all.

    Args:
        path: ends in .safetensors. sizes: arguments that build the lifter, besides the defaults.
        facts: training data, metrics, licence, credit, ...
        half: store weights as float16, at half the size.

    Raises:
        InputError: a file cannot be written.
    """
    # the defaults, too: a file must open when they have changed
    defaults = {n: p.default for n, p in inspect.signature(Lifter).parameters.items()}
    whole = {**defaults, **sizes}
    about = {"format": FORMAT, "version": FORMAT_VERSION, "sizes": whole, **facts}
    write_weights(path, lifter, about, half=half)


def load_lifter(
    name_or_path: str | Path = BUILT_IN,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Lifter, dict[str, Any]]:
    """A lifter in evaluation mode, and what its JSON says; the built-in one by its name.

    Raises:
        InputError: a file is missing, damaged, of another kind, or has weights of other sizes.
    """
    if str(name_or_path) == BUILT_IN:
        path = weights_file("lifting.safetensors")
    else:
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise InputError(f"no lifter {str(name_or_path)!r}: give {BUILT_IN} or a .safetensors file")
    about = read_format(path, FORMAT, FORMAT_VERSION)
    try:
        lifter = Lifter(**about["sizes"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.with_suffix('.json')}: sizes do not build: {error}") from None
    fill(path, lifter)
    return lifter.to(dtype=dtype, device=device).eval().requires_grad_(False), about
