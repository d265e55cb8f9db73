"""The training loop of posteriors that look at pictures.

As in `flowfit.priors.training.keypoints`, every step's random numbers, and the people it sees,
follow from the seed and the step alone: a run that was killed goes on to the same weights as one
that was not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.priors.data.datasets.people import PictureSet, join
from flowfit.priors.data.datasets.registry import Mixture
from flowfit.priors.data.pictures.batches import Batch, PictureReader
from flowfit.priors.training.image_config import ImageTrainingConfig, image_config_from
from flowfit.priors.training.keypoints import TrainingLog, rate_factor


class Learner(Protocol):
    """A model that learns from pictures, and how.

    Attributes:
        model: holds what is trained. body: whom it is about. others: what else changes from step to
            step and is saved with the run.
    """

    @property
    def model(self) -> nn.Module:
        """See above."""

    @property
    def body(self) -> Body:
        """See above."""

    @property
    def others(self) -> Mapping[str, nn.Module | torch.optim.Optimizer]:
        """See above."""

    def picture_size(self, step: int) -> int:
        """Pixels of the crops of a step."""

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to lower, and its terms, unweighted."""

    def follow(self) -> dict[str, float]:
        """What is to be done after a step of the optimizer; terms to log."""

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint of the model with these weights."""


class ImageTrainer:
    """Trains an image posterior.

    Args:
        config: of the run. learner: what is trained. people: whose pictures are read.
        folder: for `state.pt` (to resume) and `log.csv`. device: where to train.
        threads: that read pictures.
    """

    def __init__(
        self,
        config: ImageTrainingConfig,
        learner: Learner,
        people: Mixture,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        threads: int = 1,
    ) -> None:
        self.config, self.learner, self.people, self.folder = config, learner, people, folder
        self.device = torch.device(device)
        self.reader = PictureReader(
            learner.body.to(device="cpu"), learner.picture_size(0), config.augmentation, threads
        )
        self.trained = {k: p for k, p in learner.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=config.rate, weight_decay=config.weight_decay
        )
        self.average = {k: v.clone() for k, v in self.state().items()}
        self.step_number = 0

    def state(self) -> dict[str, Tensor]:
        """What changes in the model: its trained parameters and the averages of its norms."""
        frozen = {k for k, p in self.learner.model.named_parameters() if not p.requires_grad}
        parts = {k.rpartition(".")[0] for k in self.trained}
        return {
            k: v
            for k, v in self.learner.model.state_dict().items()
            if k not in frozen and (k in self.trained or k.rpartition(".")[0] in parts)
        }

    def read(self, step: int) -> Batch:
        """The pictures of a step."""
        seed = (self.config.seed * 1_000_003 + step) * 64 + 29
        drawn = self.people.draw(self.config.batch, np.random.default_rng(seed))
        reader = replace(self.reader, size=self.learner.picture_size(step))
        return reader.read(gather(drawn), torch.Generator().manual_seed(seed))

    def step(self) -> dict[str, float]:
        """One step of the optimizer; the terms of the loss."""
        config, step = self.config, self.step_number
        batch = self.read(step)
        generator = torch.Generator(self.device)
        generator.manual_seed((config.seed * 1_000_003 + step) * 64 + 31)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate * rate_factor(step, config)
        self.learner.model.train()
        torch.manual_seed((config.seed * 1_000_003 + step) * 64 + 37)  # dropout's
        total, terms = self.learner.losses(batch, step, generator)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.trained.values(), config.clip)
        if bool(norm.isfinite()):  # one bad batch must not end a run of hours
            self.optimizer.step()
        self.step_number += 1
        decay = min(config.ema, self.step_number / (self.step_number + 10))
        with torch.no_grad():
            for name, value in self.state().items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        found = {name: float(value.detach()) for name, value in terms.items()}
        found |= self.learner.follow()
        return {"total": float(total.detach()), **found, "gradient": float(norm)}

    def resume(self) -> bool:
        """Go on from the folder's `state.pt`; False where there is none.

        Raises:
            InputError: the state is of another configuration or damaged.
        """
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            same = self._goes_on(json.loads(saved["config"]), int(saved["step"]))
            if same:
                wanted = self.state()
                if saved["weights"].keys() != wanted.keys():
                    raise ValueError("it holds other weights")
                self.learner.model.load_state_dict(saved["weights"], strict=False)
                self.optimizer.load_state_dict(saved["optimizer"])
                for name, part in self.learner.others.items():
                    part.load_state_dict(saved[f"other_{name}"])
                self.average = saved["average"]
                self.step_number = int(saved["step"])
        except Exception as error:  # a damaged file can raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} cannot be resumed: {reason}") from None
        if not same:
            raise InputError(f"{path} was trained with another configuration; use another folder")
        return True

    def _goes_on(self, saved: dict[str, Any], step: int) -> bool:
        """Whether a run of the saved configuration was at `step` where this one would be.

        The number of steps may differ while neither has left the learning rate's plateau.
        """
        wanted = json.loads(self._told())
        then = image_config_from(saved, "the saved configuration")
        if min(then.plateau_ends, self.config.plateau_ends) < step:
            return bool(saved == wanted)
        return bool({**saved, "steps": 0} == {**wanted, "steps": 0})

    def _told(self) -> str:
        return json.dumps(asdict(self.config), sort_keys=True)

    def save_state(self) -> None:
        """Write `state.pt`, whole or not at all."""
        path = self.folder / "state.pt"
        temporary = path.with_name(f".state.{os.getpid()}.tmp")
        torch.save(
            {
                "config": self._told(),
                "weights": self.state(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "step": self.step_number,
                **{f"other_{k}": v.state_dict() for k, v in self.learner.others.items()},
            },
            temporary,
        )
        os.replace(temporary, path)

    def export(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the averaged weights as a checkpoint."""
        told = {"steps": self.step_number, "config": asdict(self.config), **facts}
        self.learner.export(path, self.average, told)

    def train(self, *, save_every: int = 100, progress: bool = True) -> Iterable[dict[str, float]]:
        """Run to the last step, yielding what each logged step printed to `log.csv`."""
        from tqdm import tqdm

        self.folder.mkdir(parents=True, exist_ok=True)
        log = TrainingLog(self.folder / "log.csv")
        sums: dict[str, float] = {}
        counted, began = 0, time.perf_counter()
        steps = self.config.steps
        with tqdm(total=steps, initial=self.step_number, disable=not progress) as bar:
            while self.step_number < steps:
                for name, value in self.step().items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                bar.update()
                # the terms of the two phases are not averaged together
                ends = {steps, self.config.keypoints_first}
                if self.step_number % save_every and self.step_number not in ends:
                    continue
                spent = time.perf_counter() - began
                row = {k: v / counted for k, v in sums.items()}
                row["pictures_per_second"] = counted * self.config.batch / spent
                self.save_state()
                log.write(self.step_number, row)
                bar.set_postfix(total=f"{row['total']:.3f}")
                sums, counted, began = {}, 0, time.perf_counter()
                yield row


def gather(drawn: Sequence[tuple[PictureSet, int]]) -> PictureSet:
    """People of any sets, as `Mixture.draw` gives them, as one set."""
    parts = []
    for people, row in drawn:
        one = people.rows([row])
        # named from the root of the disk, so that sets of different folders can be joined
        whole = str(one.path(0).resolve())
        parts.append(replace(one, pictures=(whole,), root=Path("/"), name="mixture"))
    return join(parts)
