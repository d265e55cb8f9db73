"""Everything that decides a training run, as data that a JSON file can hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from flowfit.models.errors import InputError
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.disguise import Missing
from flowfit.priors.data.people.offsets import KeypointOffsets
from flowfit.priors.data.people.physique import Physique
from flowfit.priors.data.people.postures import PostureBalance
from flowfit.priors.data.people.synthetic import Detector, Scenery
from flowfit.priors.training.keypoint_losses import LossWeights


class Schedule(Protocol):
    """What of a configuration decides the learning rate."""

    @property
    def steps(self) -> int:
        """In all."""
        ...

    @property
    def warmup(self) -> int:
        """Steps in which the rate rises."""
        ...

    @property
    def plateau_ends(self) -> int:
        """Step from which it falls."""
        ...


@dataclass(frozen=True)
class TrainingConfig:
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

    @property
    def plateau_ends(self) -> int:
        """Step from which the learning rate falls."""
        return max(self.warmup, round((1 - self.falling) * self.steps))


def read_config(path: Path) -> TrainingConfig:
    """A configuration from a JSON file; what the file leaves out keeps its default.

    Raises:
        InputError: no such file, no JSON, an unknown name, or a value of the wrong kind.
    """
    return config_from(read_json(path), str(path))


def read_json(path: Path) -> Any:
    """What a configuration file holds; InputError as in `read_config`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON: {str(error).splitlines()[0]}") from None


def config_from(content: Mapping[str, Any], where: str = "the configuration") -> TrainingConfig:
    """A configuration from names and values; InputError as in `read_config`."""
    made: TrainingConfig = build_config(TrainingConfig, content, where)
    if made.steps < 1 or made.batch < 2:
        raise InputError(f"{where}: steps must be at least 1 and batch at least 2")
    if not 0 <= made.falling <= 1:
        raise InputError(f"{where}: falling is {made.falling}; give a share from 0 to 1")
    return made


def build_config(kind: Any, content: Any, where: str, *, start: Any = None) -> Any:
    """A dataclass of settings from names and values; InputError as in `read_config`.

    What the content leaves out is as in `start`, or the class's default.
    """
    start = kind() if start is None else start
    if not isinstance(content, Mapping):
        raise InputError(f"{where} must hold names and values")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in hints:
            raise InputError(f"{where}: unknown name {name!r}; known are {', '.join(hints)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            value = build_config(hint, value, f"{where}, {name}", start=getattr(start, name))
        elif name == "sizes" and isinstance(value, Mapping):
            value = {**start.sizes, **value}
        elif isinstance(value, list):
            value = tuple(value)
        elif hint in (int, float):
            whole = isinstance(value, int) or (hint is float and isinstance(value, float))
            if isinstance(value, bool) or not whole:
                raise InputError(f"{where}: {name} is {value!r}; give a number ({hint.__name__})")
        values[name] = value
    return dataclasses.replace(start, **values)
