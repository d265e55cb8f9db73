"""The built-in priors: an entry each, whose name every verb knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flowfit.models.errors import InputError
from flowfit.priors.base import PriorModel, Wanted
from flowfit.priors.classical.files import load_mixture_prior
from flowfit.priors.image.prior import load_image_prior
from flowfit.priors.keypoints.prior import load_flow_prior
from flowfit.priors.weights_file import weights_file


@dataclass(frozen=True)
class BuiltIn:
    """A prior that comes with the package.

    Attributes:
        name: for the command line. what: a line about it. file: of its weights.
        load: from its name, its file and what it is wanted for.
        has_draws: as of the `PriorModel` that is loaded, known before.
    """

    name: str
    what: str
    file: str
    load: Callable[[str, Path, Wanted], PriorModel]
    has_draws: bool = False

    @property
    def path(self) -> Path:
        """Of its weights."""
        return weights_file(self.file)


def _only_in_a_fit(name: str, path: Path, wanted: Wanted) -> PriorModel:
    """InputError: it is made on the floor above, around the people of a fit."""
    raise InputError(f"prior {name}: {BUILT_IN[name].what}, and for nothing else")


BUILT_IN: dict[str, BuiltIn] = {
    prior.name: prior
    for prior in (
        BuiltIn(
            "keypoint-flow",
            "flow posterior that looks at the keypoints (the default)",
            "keypoint_flow.safetensors",
            load_flow_prior,
            has_draws=True,
        ),
        BuiltIn(
            "pose-flow",
            "keypoint-flow, told that nothing was seen: a prior over poses and shapes",
            "keypoint_flow.safetensors",
            partial(load_flow_prior, blind=True),
        ),
        BuiltIn(
            "image-small",
            "flow posterior that looks at the picture and the keypoints (drawn pictures)",
            "image_small.safetensors",
            load_image_prior,
            has_draws=True,
        ),
        BuiltIn(
            "gmm",
            "max-mixture of 8 Gaussians over body poses, with knee and elbow limits",
            "gmm8.npz",
            load_mixture_prior,
        ),
        BuiltIn(
            "gmm-true",
            "gmm's Gaussians as a true mixture: all count, not the best one alone",
            "gmm8.npz",
            partial(load_mixture_prior, all_count=True),
        ),
        BuiltIn(
            "gaussian",
            "one Gaussian over body poses, with knee and elbow limits",
            "gaussian.npz",
            load_mixture_prior,
        ),
        BuiltIn(
            "smplify",
            "SMPLify's terms: the max-mixture over 69 angles, exp(bend) on knees and elbows",
            "gmm8.npz",
            partial(load_mixture_prior, bending=True),
        ),
        BuiltIn(
            "lifting",
            "the mixture beside the lifted skeleton, for fit --recipe gmm",
            "lifting.safetensors",
            _only_in_a_fit,
        ),
    )
}
