"""Everything that decides a training run of lifting, as data that a JSON file can hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowfit.models.errors import InputError
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.synthetic import Detector, Scenery
from flowfit.priors.training.config import Schedule, build_config, check_schedule, read_json


@dataclass(frozen=True)
class LiftingLosses:
    """Factors of the loss: ProHMR's are 0.001 and 1 (ProHMR supplementary, section 3).

    Attributes:
        nll: of the negative log likelihood, nats. mode_3d: of the mode's summed absolute errors,
            metres. target_noise: metres on each number of the targets of the likelihood. Bodies
            have joints in the middle of two others; without noise their density has no bound.
    """

    nll: float = 0.01
    mode_3d: float = 1.0
    target_noise: float = 0.004


@dataclass(frozen=True)
class LiftingConfig(Schedule):
    """Everything that decides a run; saved in the checkpoint. The defaults are `fast`.

    Attributes:
        sizes: arguments of `Lifter`. steps, batch: of pairs, in all.
        rate, warmup, falling: AdamW's learning rate, as in `TrainingConfig`.
        clip: largest norm of the gradient, 0 for any. ema: decay of the averaged weights.
        truncated: share of made-up people whom the frame cuts. disguised: imitate detectors that
            report other joints.
    """

    sizes: dict[str, Any] = field(default_factory=dict)
    steps: int = 2500
    batch: int = 1024
    rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    falling: float = 0.5
    clip: float = 1.0
    ema: float = 0.999
    truncated: float = 0.25
    disguised: bool = True
    seed: int = 0
    losses: LiftingLosses = field(default_factory=LiftingLosses)
    detector: Detector = field(
        default_factory=lambda: Detector(
            outliers=0.03, cropped=0.1, wrong_but_sure=2, wrong_by=(0.05, 0.5), wrong_share=0.15
        )
    )
    augmentation: Augmentation = field(default_factory=Augmentation)
    plain_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.15, 1.0), off_centre=0.35, focal=(0.5, 3.0))
    )
    truncated_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.9, 2.6), off_centre=0.5, focal=(0.5, 3.0))
    )


FAST = LiftingConfig()
# ProHMR's network, loss and optimizer
PAPER = LiftingConfig(
    sizes={
        "schema": "h36m17",
        "encoder": "martinez",
        "context": 1024,
        "width": 1024,
        "depth": 2,
        "hidden": 1024,
        "steps": 4,
        "blocks": 2,
        "dropout": 0.5,
        "batch_norm": True,
        "conditional_scale": False,
        "activation": "relu",
    },
    steps=300_000,
    batch=64,
    rate=1e-4,
    weight_decay=0.0,
    warmup=1,
    falling=0.0,
    clip=0.0,
    ema=0.0,
    losses=LiftingLosses(nll=0.001, mode_3d=1.0, target_noise=0.001),
)
# the network of `fast` without the likelihood: Martinez's regression of one skeleton
REGRESSOR = replace(FAST, losses=replace(FAST.losses, nll=0.0))
CONFIGS = {"fast": FAST, "paper": PAPER, "regressor": REGRESSOR}


def read_lifting_config(name_or_path: str | Path) -> LiftingConfig:
    """A configuration by name, or from a JSON file; what the file leaves out is as in `fast`.

    Raises:
        InputError: no such name or file, no JSON, an unknown name or a value of the wrong kind.
    """
    if str(name_or_path) in CONFIGS:
        return CONFIGS[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"no configuration {str(name_or_path)!r}: give {', '.join(CONFIGS)} or a JSON file"
        )
    return lifting_config_from(read_json(path), str(path))


def lifting_config_from(content: Any, where: str = "the configuration") -> LiftingConfig:
    """A configuration from names and values; InputError as in `read_lifting_config`."""
    made: LiftingConfig = build_config(LiftingConfig, content, where)
    check_lifting_config(made, where)
    return made


def check_lifting_config(config: LiftingConfig, where: str) -> None:
    """InputError for numbers that cannot be trained with."""
    check_schedule(config, where, "truncated")
    if not 0 <= config.ema < 1:
        raise InputError(f"{where}: ema is {config.ema}; give a share from 0 to below 1")
