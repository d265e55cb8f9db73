"""Priors by name or file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from flowfit.models.errors import InputError
from flowfit.priors.base import PriorModel, Wanted
from flowfit.priors.classical.files import load_mixture_prior
from flowfit.priors.image.files import is_image_posterior
from flowfit.priors.image.prior import load_image_prior
from flowfit.priors.image.prohmr_prior import load_prohmr_prior
from flowfit.priors.keypoints.prior import load_flow_prior
from flowfit.priors.registry import BUILT_IN


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
    wanted = Wanted(num_betas, up, dtype, device, bending)
    if name_or_path in BUILT_IN:
        prior = BUILT_IN[name_or_path]
        return prior.load(prior.name, prior.path, wanted)
    path = Path(name_or_path).expanduser()
    if path.suffix in (".pt", ".ckpt"):
        return load_prohmr_prior(path.stem, path, wanted)
    if path.suffix == ".safetensors":
        trained = load_image_prior if is_image_posterior(path) else load_flow_prior
        return trained(path.stem, path, wanted)
    if not path.is_file():
        raise InputError(
            f"no prior {name_or_path!r}: built in are {', '.join(BUILT_IN)}; "
            "or give a mixture file such as gmm_08.pkl"
        )
    return load_mixture_prior(path.stem, path, wanted)


def load_with_draws(
    name_or_path: str,
    *,
    num_betas: int = 10,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PriorModel:
    """A prior as `load` gives it, from which bodies can be drawn.

    Raises:
        InputError: as in `load`, or it has no draws.
    """
    built_in = BUILT_IN.get(name_or_path)
    if built_in is None or built_in.has_draws:
        model = load(name_or_path, num_betas=num_betas, dtype=dtype, device=device)
        if model.has_draws:
            return model
    what = "" if built_in is None else f"{built_in.what}; "
    able = ", ".join(prior.name for prior in BUILT_IN.values() if prior.has_draws)
    raise InputError(
        f"prior {name_or_path}: {what}it cannot be sampled, only a posterior that looks at the "
        f"keypoints: {able}, or a file that flowfit train wrote"
    )


def posterior_file(name_or_path: str) -> Path:
    """The checkpoint of a keypoint posterior: a built-in one by name, or a file as given."""
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path].path
    return Path(name_or_path).expanduser()
