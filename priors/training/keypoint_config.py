"""Everything that decides a training run, as data that a JSON file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.disguise import Missing
from flowfit.priors.data.people.offsets import KeypointOffsets
from flowfit.priors.data.people.physique import Physique
from flowfit.priors.data.people.postures import PostureBalance
from flowfit.priors.data.people.synthetic import Detector, Scenery
from flowfit.priors.training.config import Schedule, build_config, check_schedule, read_json
from flowfit.priors.training.keypoint_losses import LossWeights


@dataclass(frozen=True)
class TrainingConfig(Schedule):
    """Everything that decides a run; saved in the checkpoint.

    Attributes:
        sizes: arguments of `KeypointPosterior`. steps, batch: of people, in all.
        rate: AdamW's peak learning rate, reached after `warmup` steps; it falls to 1 % over the
            last `falling` share of the steps.
        ema: decay of the averaged weights, which are what is saved.
        truncated: share of people whom the frame cuts. unseen: share of whom nothing is seen,
            from which the unconditional prior is learned.
        postures: how frames are weighed. physique, offsets: of people, and of what their detectors
            call a joint. missing: what detectors leave out.
        up_told, stature_told: share of people of whom a posterior that `hears` is told these.
    """

    sizes: dict[str, Any] = field(default_factory=lambda: {"depth": 4, "activation": "silu"})
    steps: int = 7500
    batch: int = 2048
    rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 300
    falling: float = 0.3
    clip: float = 1.0
    ema: float = 0.999
    truncated: float = 0.45
    unseen: float = 0.03
    up_told: float = 0.0
    stature_told: float = 0.0
    postures: PostureBalance = field(default_factory=PostureBalance)
    physique: Physique = field(default_factory=Physique)
    offsets: KeypointOffsets = field(default_factory=KeypointOffsets)
    missing: Missing = field(default_factory=Missing)
    seed: int = 0
    losses: LossWeights = field(default_factory=LossWeights)
    detector: Detector = field(
        default_factory=lambda: Detector(
            outliers=0.03, cropped=0.1, wrong_but_sure=2, wrong_by=(0.05, 0.5), wrong_share=0.25
        )
    )
    augmentation: Augmentation = field(default_factory=Augmentation)
    plain_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.15, 1.0), off_centre=0.35, focal=(0.5, 3.0))
    )
    truncated_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.9, 2.6), off_centre=0.5, focal=(0.5, 3.0))
    )


def read_config(path: Path) -> TrainingConfig:
    """A configuration from a JSON file; what the file leaves out keeps its default.

    Raises:
        InputError: no such file, no JSON, an unknown name, or a value of the wrong kind.
    """
    return config_from(read_json(path), str(path))


def config_from(content: Mapping[str, Any], where: str = "the configuration") -> TrainingConfig:
    """A configuration from names and values; InputError as in `read_config`."""
    made: TrainingConfig = build_config(TrainingConfig, content, where)
    check_schedule(made, where)
    return made
