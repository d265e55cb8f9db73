"""The training loop, for everything that is trained.

A learner's random numbers follow from the seed and the step alone, so a run that was killed goes
on from its last state to the same weights as one that was not. `torchrun` shares each batch among
several processes.
"""

from __future__ import annotations

import csv
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from flowfit.models.errors import InputError
from flowfit.priors.training.config import Schedule, build_config, rate_factor


class Learner(ABC):
    """What is trained, from whom it learns, and its loss.

    Attributes:
        model: holds what is trained. device: where.
        others: what else changes from step to step, by its name in the saved state.
        began_with: hash of the file that training began with, or None.
        unit: what a batch is a number of. phase_ends: steps after which the terms mean something
            else; they are not averaged over these. shown: terms beside the bar, and their formats.
    """

    model: nn.Module
    device: torch.device
    others: Mapping[str, nn.Module | torch.optim.Optimizer] = MappingProxyType({})
    began_with: str | None = None
    unit: str = "people"
    phase_ends: tuple[int, ...] = ()
    shown: Mapping[str, str] = MappingProxyType({"nll": ".0f", "mode_3d": ".2f"})

    def state(self) -> dict[str, Tensor]:
        """What changes in the model."""
        return self.model.state_dict()

    @abstractmethod
    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to lower at a step, and its terms, unweighted."""

    def follow(self) -> dict[str, float]:
        """What is to be done after a step of the optimizer; terms to log."""
        return {}

    def validate(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """What these weights are worth on others than it learns from; {} where there are none."""
        return {}

    @abstractmethod
    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint of the model with these weights."""


class Trainer:
    """Trains what a learner holds.

    Args:
        config: of the run. learner: what is trained. folder: for `state.pt` (to resume), `log.csv`.

    Attributes:
        average: the averaged weights, which are what is used. step_number: steps taken.
    """

    def __init__(self, config: Schedule, learner: Learner, folder: Path) -> None:
        self.config, self.learner, self.folder = config, learner, folder
        self.trained = [p for p in learner.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.rate, weight_decay=config.weight_decay
        )
        self.average = {k: v.clone() for k, v in learner.state().items()}
        self.step_number = 0

    def step(self) -> dict[str, float]:
        """One step of the optimizer; the terms of the loss."""
        config, learner = self.config, self.learner
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate * rate_factor(self.step_number, config)
        learner.model.train()
        total, terms = learner.losses(self.step_number)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        share_gradients(self.trained)
        norm = nn.utils.clip_grad_norm_(self.trained, config.clip or torch.inf)
        if bool(norm.isfinite()):  # one bad batch must not end a run of hours
            self.optimizer.step()
        self.step_number += 1
        self._follow_with_the_average()
        found = {name: float(value.detach()) for name, value in terms.items()}
        found |= learner.follow()
        return {"total": float(total.detach()), **found, "gradient": float(norm)}

    @torch.no_grad()
    def _follow_with_the_average(self) -> None:
        decay = min(self.config.ema, self.step_number / (self.step_number + 10))
        for name, value in self.learner.state().items():
            mean = self.average[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def train(
        self, *, save_every: int = 250, validate_every: int = 1000, progress: bool = True
    ) -> Iterator[dict[str, float]]:
        """Run to the last step, yielding what each logged step printed to `log.csv`."""
        from tqdm import tqdm

        self.folder.mkdir(parents=True, exist_ok=True)
        first, steps = rank() == 0, self.config.steps
        log = TrainingLog(self.folder / "log.csv") if first else None
        sums: dict[str, float] = {}
        counted, began = 0, time.perf_counter()
        with tqdm(total=steps, initial=self.step_number, disable=not (progress and first)) as bar:
            while self.step_number < steps:
                for name, value in self.step().items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                bar.update()
                ends = {steps, *self.learner.phase_ends}
                if self.step_number % save_every and self.step_number not in ends:
                    continue
                spent = time.perf_counter() - began
                row = {k: v / counted for k, v in sums.items()}
                row[f"{self.learner.unit}_per_second"] = counted * self.config.batch / spent
                if self.step_number % validate_every == 0 or self.step_number == steps:
                    row |= {f"val_{k}": v for k, v in self.validate().items()}
                if log is not None:
                    self.save_state()
                    log.write(self.step_number, row)
                bar.set_postfix({k: format(row[k], f) for k, f in self.learner.shown.items()})
                sums, counted, began = {}, 0, time.perf_counter()
                yield row

    def validate(self) -> dict[str, float]:
        """What the learner measures of the averaged weights."""
        return self.learner.validate(self.average)

    def export(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the averaged weights as a checkpoint that `flowfit.priors` opens."""
        told = {"steps": self.step_number, "config": asdict(self.config), **facts}
        self.learner.export(path, self.average, told)

    def save_state(self) -> None:
        """Write `state.pt`, whole or not at all."""
        path = self.folder / "state.pt"
        temporary = path.with_name(f".state.{os.getpid()}.tmp")
        torch.save(
            {
                "config": self._told(),
                "weights": self.learner.state(),
                "optimizer": self.optimizer.state_dict(),
                **{name: part.state_dict() for name, part in self.learner.others.items()},
                "average": self.average,
                "step": self.step_number,
                "began_with": self.learner.began_with,
            },
            temporary,
        )
        os.replace(temporary, path)

    def resume(self) -> bool:
        """Go on from the folder's `state.pt`; False where there is none.

        Raises:
            InputError: the state is of another configuration or start, or damaged.
        """
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        try:
            saved = torch.load(path, map_location=self.learner.device, weights_only=True)
            same = self._goes_on(json.loads(saved["config"]), int(saved["step"]))
            same &= saved.get("began_with") == self.learner.began_with
            if same:
                if saved["weights"].keys() != self.learner.state().keys():
                    raise ValueError("it holds other weights")
                # a learner's state may leave out what is not trained
                self.learner.model.load_state_dict(saved["weights"], strict=False)
                self.optimizer.load_state_dict(saved["optimizer"])
                for name, part in self.learner.others.items():
                    part.load_state_dict(saved[name])
                self.average, self.step_number = saved["average"], int(saved["step"])
        except Exception as error:  # a damaged file can raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} cannot be resumed: {reason}") from None
        if not same:
            raise InputError(
                f"{path} was trained with another configuration or start; use another folder"
            )
        return True

    def _goes_on(self, saved: dict[str, Any], step: int) -> bool:
        """Whether a run of the saved configuration was at `step` where this one would be.

        The number of steps may differ while neither has left the learning rate's plateau.
        """
        wanted = json.loads(self._told())
        then = build_config(type(self.config), saved, "the saved configuration")
        if min(then.plateau_ends, self.config.plateau_ends) < step:
            return bool(saved == wanted)
        return {**saved, "steps": 0} == {**wanted, "steps": 0}

    def _told(self) -> str:
        return json.dumps(asdict(self.config), sort_keys=True)


class TrainingLog:
    """A CSV in long form: step, name, value. Lines of a killed run's lost steps stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_text("step,name,value\n")

    def write(self, step: int, row: dict[str, float]) -> None:
        """Add what was found at a step."""
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerows((step, k, f"{v:.6g}") for k, v in row.items())


def rank() -> int:
    """The place of this process among those that share each batch; 0 writes."""
    return torch.distributed.get_rank() if _joined() else 0


def world() -> int:
    """How many processes share each batch."""
    return torch.distributed.get_world_size() if _joined() else 1


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of all processes, in one message."""
    if world() == 1:
        return
    trained = list(parameters)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([g.flatten() for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= world()
    for parameter, part in zip(trained, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = part.view_as(parameter)
