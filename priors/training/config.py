"""What the configurations of all training runs share: a schedule, and how they are read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from flowfit.models.errors import InputError


class Schedule:
    """How long a run is and how its learning rate moves; a configuration has these fields.

    Attributes:
        steps: in all. batch: of people, in all processes. rate: AdamW's peak learning rate.
        warmup: steps in which the rate rises. falling: share of the steps in which it falls.
        clip: largest norm of the gradient. ema: decay of the averaged weights. seed: of all draws.
    """

    steps: int
    batch: int
    rate: float
    weight_decay: float
    warmup: int
    falling: float
    clip: float
    ema: float
    seed: int

    @property
    def plateau_ends(self) -> int:
        """Step from which the learning rate falls."""
        return max(self.warmup, round((1 - self.falling) * self.steps))


def check_schedule(config: Schedule, where: str, *shares: str) -> None:
    """InputError for numbers that cannot be trained with; `shares` name fields from 0 to 1."""
    if config.steps < 1 or config.batch < 2:
        raise InputError(f"{where}: steps must be at least 1 and batch at least 2")
    for name in ("falling", *shares):
        share = getattr(config, name)
        if not 0 <= share <= 1:
            raise InputError(f"{where}: {name} is {share}; give a share from 0 to 1")


def read_json(path: Path) -> Any:
    """What a configuration file holds.

    Raises:
        InputError: no such file, or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON: {str(error).splitlines()[0]}") from None


def build_config(kind: Any, content: Any, where: str, *, start: Any = None) -> Any:
    """A dataclass of settings from names and values.

    What the content leaves out is as in `start`, or the class's default.

    Raises:
        InputError: no names and values, an unknown name, or a value of the wrong kind.
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
