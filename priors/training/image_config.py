"""Everything that decides the training of an image posterior, as data that a JSON file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowfit.models.errors import InputError
from flowfit.priors.data.drawn.picture_sets import PictureSettings
from flowfit.priors.data.pictures.augment import PictureAugmentation
from flowfit.priors.training.config import Schedule, build_config, check_schedule, read_json
from flowfit.priors.training.image_losses import OwnKeypointWeights
from flowfit.priors.training.keypoint_losses import LossWeights

_SMALL_SIZES: dict[str, Any] = {
    "image_size": 128,
    "fusion": 384,
    "blocks": 3,
    "encoder": {"widths": [24, 48, 96, 128], "pyramid": 64, "fine": 32, "features": 24, "near": 32},
    "points": {"shared": 48, "features": 12},
}


@dataclass(frozen=True)
class ImageTrainingConfig(Schedule):
    """Everything that decides a run; saved in the checkpoint.

    Attributes:
        kind: "small", an `ImagePosterior` on a keypoint posterior, or "prohmr", ProHMR's form.
        sizes: arguments of the posterior. steps, batch: of pictures.
        rate: AdamW's peak learning rate, reached after `warmup` steps; it falls to 1 % over the
            last `falling` share of the steps. clip: of the gradient's norm. ema: decay of the
            averaged weights, which are what is saved.
        keypoints_first: steps at the beginning in which the image network only learns to find
            keypoints, in crops of `first_size` pixels.
        own, losses: factors of the terms. augmentation: of the pictures read.
        exact: share of the people whose keypoints are shown without a detector's errors, as people
            mark them; only "small" is shown keypoints.
        pictures: what is made up where no dataset is given.
    """

    kind: str = "small"
    sizes: dict[str, Any] = field(default_factory=lambda: {**_SMALL_SIZES})
    steps: int = 12000
    batch: int = 48
    rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    falling: float = 0.4
    clip: float = 3.0
    ema: float = 0.998
    keypoints_first: int = 4000
    first_size: int = 64
    exact: float = 0.15
    seed: int = 0
    own: OwnKeypointWeights = field(default_factory=OwnKeypointWeights)
    losses: LossWeights = field(default_factory=lambda: LossWeights(nll=2e-3))
    augmentation: PictureAugmentation = field(
        default_factory=lambda: PictureAugmentation(
            scale=0.12, shift=0.05, turn=15.0, turned=0.4, crop=0.0, noise=0.0
        )
    )
    pictures: PictureSettings = field(default_factory=PictureSettings)


# the built-in ones, by name
CONFIGS: dict[str, ImageTrainingConfig] = {
    "small": ImageTrainingConfig(),
    # ResNet-50 on 224 pixels, hidden 1024, the paper's steps, weights and changes to the pictures
    "prohmr": ImageTrainingConfig(
        kind="prohmr",
        sizes={"depth": 50, "hidden": 1024, "image_size": 224},
        steps=500_000,
        batch=64,
        rate=1e-4,
        warmup=0,
        falling=0.0,
        clip=10.0,
        ema=0.0,
        keypoints_first=0,
        exact=0.0,
        losses=LossWeights(target_noise=0.005, adversarial=5e-4, sampled_share=1.0, camera=0.0),
        augmentation=PictureAugmentation(),
    ),
}


def read_image_config(path: Path) -> ImageTrainingConfig:
    """A configuration from a JSON file; what the file leaves out is as in the one of its `kind`.

    Raises:
        InputError: no such file, no JSON, an unknown name, or a value of the wrong kind.
    """
    made = image_config_from(read_json(path), str(path))
    check_image_config(made, str(path))
    return made


def image_config_from(content: Any, where: str) -> ImageTrainingConfig:
    """A configuration from names and values; InputError as in `read_image_config`."""
    kind = content.get("kind", "small") if isinstance(content, Mapping) else "small"
    if kind not in CONFIGS:
        raise InputError(f"{where}: no kind {kind!r}; there are {', '.join(CONFIGS)}")
    made: ImageTrainingConfig = build_config(
        ImageTrainingConfig, content, where, start=CONFIGS[kind]
    )
    return made


def check_image_config(config: ImageTrainingConfig, where: str = "the configuration") -> None:
    """InputError where no training can have such numbers."""
    check_schedule(config, where, "exact")
    if config.pictures.count < 1:
        raise InputError(f"{where}: {config.pictures.count} pictures; make at least 1")
