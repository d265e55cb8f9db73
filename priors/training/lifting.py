"""The training loop of lifting. A killed run goes on to the same weights, as in `training`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.skeletons.pairs import MadeUpPairs, Pairs, PairSource
from flowfit.priors.lifting.files import save_lifter
from flowfit.priors.lifting.input import INPUT_SCHEMAS, WITH_FACE
from flowfit.priors.lifting.lifter import Lifter
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.keypoints import TrainingLog, rate_factor
from flowfit.priors.training.lifting_config import LiftingConfig, lifting_config_from

_TO_STANDARDISE = 8192  # pairs, at most, from which means and spreads are taken
_BATCHES_TO_STANDARDISE = 128


class LiftingTrainer:
    """Trains a lifter on pairs of 2D and 3D skeletons.

    Args:
        config: of the run. source: of the pairs.
        folder: for `state.pt` (to resume), `log.csv` and the checkpoint.
        device: where to train; the source's. mixed: bfloat16 in the networks.
    """

    def __init__(
        self,
        config: LiftingConfig,
        source: PairSource,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        mixed: bool = False,
    ) -> None:
        self.config, self.source, self.folder = config, source, folder
        self.device, self.step_number = torch.device(device), 0
        torch.manual_seed(config.seed)
        self.lifter = Lifter(**config.sizes).to(self.device)
        with torch.no_grad():
            many = min(_TO_STANDARDISE, _BATCHES_TO_STANDARDISE * config.batch)
            some = source.draw(many, self._generator(-1))
            self.lifter.standardise(some.keypoints, some.confidence, some.joints)
        set_mixed_precision(self.lifter, mixed)
        self.average = {k: v.clone() for k, v in self.lifter.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.lifter.parameters(), lr=config.rate, weight_decay=config.weight_decay
        )

    def _generator(self, step: int) -> torch.Generator:
        """Random numbers of a step: they follow from the seed and the step alone."""
        generator = torch.Generator(self.device)
        return generator.manual_seed(self.config.seed * 1_000_003 + step + 1)

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
            step = int(saved["step"])
            same = _goes_on(json.loads(saved["config"]), step, self.config)
            if same:
                self.lifter.load_state_dict(saved["weights"])
                self.optimizer.load_state_dict(saved["optimizer"])
                self.average, self.step_number = saved["average"], step
        except Exception as error:  # a damaged file can raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} cannot be resumed: {reason}") from None
        if not same:
            raise InputError(f"{path} was trained with another configuration; use another folder")
        return True

    def save_state(self) -> None:
        """Write `state.pt`, whole or not at all."""
        path = self.folder / "state.pt"
        temporary = path.with_name(f".state.{os.getpid()}.tmp")
        torch.save(
            {
                "config": json.dumps(asdict(self.config), sort_keys=True),
                "weights": self.lifter.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "step": self.step_number,
            },
            temporary,
        )
        os.replace(temporary, path)

    def step(self) -> dict[str, float]:
        """One step of the optimizer; the terms of the loss."""
        config = self.config
        generator = self._generator(self.step_number)
        torch.manual_seed(generator.initial_seed())  # of the dropouts
        pairs = self.source.draw(config.batch, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate * rate_factor(self.step_number, config)
        self.lifter.train()
        losses = config.losses
        terms = lifting_losses(
            self.lifter, pairs, losses.target_noise, generator, likelihood=losses.nll != 0
        )
        total = losses.mode_3d * terms["mode_3d"]
        if losses.nll != 0:  # 0 times infinity would be NaN
            total = total + losses.nll * terms["nll"]
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.lifter.parameters(), config.clip or torch.inf)
        if bool(norm.isfinite()):  # one bad batch must not end a run of hours
            self.optimizer.step()
        self.step_number += 1
        decay = min(config.ema, self.step_number / (self.step_number + 10))
        with torch.no_grad():
            for name, value in self.lifter.state_dict().items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        found = {name: float(value.detach()) for name, value in terms.items()}
        return {"total": float(total.detach()), **found, "gradient": float(norm)}

    def averaged(self) -> Lifter:
        """The lifter with the averaged weights, for use."""
        lifter = Lifter(**self.config.sizes).to(self.device)
        lifter.load_state_dict(self.average)
        return lifter.eval().requires_grad_(False)

    @torch.no_grad()
    def validate(self, source: PairSource, pairs: int = 2048) -> dict[str, float]:
        """NLL in nats and the mode's MPJPE in mm on fixed pairs of another source."""
        generator = torch.Generator(self.device).manual_seed(1)
        drawn = source.draw(pairs, generator)
        lifter = self.averaged()
        noise = self.config.losses.target_noise
        terms = lifting_losses(lifter, drawn, noise, generator)
        context = lifter.condition(drawn.keypoints, drawn.confidence, drawn.camera)
        error = (lifter.mode(context).joints[:, 0] - drawn.joints).norm(dim=-1)
        return {**{k: float(v) for k, v in terms.items()}, "mpjpe_mm": 1000 * float(error.mean())}

    def export(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the averaged weights as a checkpoint that `load_lifter` opens."""
        about = {"steps": self.step_number, "config": asdict(self.config), **facts}
        save_lifter(path, self.averaged(), self.config.sizes, about, half=True)

    def train(
        self,
        *,
        validation: PairSource | None = None,
        save_every: int = 250,
        validate_every: int = 1000,
        progress: bool = True,
    ) -> Iterable[dict[str, float]]:
        """Run to the last step, yielding what each logged step printed to `log.csv`."""
        from tqdm import tqdm

        self.folder.mkdir(parents=True, exist_ok=True)
        log = TrainingLog(self.folder / "log.csv")
        sums: dict[str, float] = {}
        counted, began = 0, time.perf_counter()
        bar = tqdm(total=self.config.steps, initial=self.step_number, disable=not progress)
        with bar:
            while self.step_number < self.config.steps:
                for name, value in self.step().items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                bar.update()
                last = self.step_number == self.config.steps
                if self.step_number % save_every and not last:
                    continue
                spent = time.perf_counter() - began
                row = {k: v / counted for k, v in sums.items()}
                row["pairs_per_second"] = counted * self.config.batch / spent
                if validation is not None and (self.step_number % validate_every == 0 or last):
                    row |= {f"val_{k}": v for k, v in self.validate(validation).items()}
                self.save_state()
                log.write(self.step_number, row)
                bar.set_postfix(nll=f"{row['nll']:.0f}", mode_3d=f"{row['mode_3d']:.2f}")
                sums, counted, began = {}, 0, time.perf_counter()
                yield row


def made_up_pairs(
    config: LiftingConfig, body: Body, mocap: Mocap, *, augmented: bool = True
) -> MadeUpPairs:
    """The pairs that a configuration trains on, from recordings.

    Args:
        augmented: change the poses that are drawn; not in validation.
    """
    schema = INPUT_SCHEMAS[config.sizes.get("schema", WITH_FACE.name)]
    sceneries = [
        (config.plain_scenery, 1 - config.truncated),
        (config.truncated_scenery, config.truncated),
    ]
    augmentation = config.augmentation if augmented else None
    return MadeUpPairs.build(
        body, mocap, schema, sceneries, config.detector, augmentation, disguised=config.disguised
    )


def lifting_losses(
    lifter: Lifter,
    pairs: Pairs,
    target_noise: float,
    generator: torch.Generator,
    *,
    likelihood: bool = True,
) -> dict[str, Tensor]:
    """ProHMR's terms, means over the batch: `nll`, and `mode_3d`, summed absolute metres.

    Args:
        target_noise: metres, on the likelihood's targets. likelihood: whether `nll` is wanted; 0
            where not.
    """
    context = lifter.condition(pairs.keypoints, pairs.confidence, pairs.camera)
    nll = context.new_zeros(())
    if likelihood or not lifter.started:
        noise = torch.randn(
            pairs.joints.shape, generator=generator, dtype=context.dtype, device=context.device
        )
        # without derivatives it starts the ActNorms, which take their scales from the first batch
        with nullcontext() if likelihood else torch.no_grad():
            nll = -lifter.log_prob(pairs.joints + target_noise * noise, context).mean()
    error = (lifter.mode(context).joints[:, 0] - pairs.joints).abs()
    return {"nll": nll, "mode_3d": error.sum((-1, -2)).mean()}


def _goes_on(saved: dict[str, Any], step: int, config: LiftingConfig) -> bool:
    """Whether a run with the saved configuration was at `step` where this one would be."""
    wanted = json.loads(json.dumps(asdict(config)))
    then = lifting_config_from(saved, "the saved configuration")
    if min(then.plateau_ends, config.plateau_ends) < step:
        return bool(saved == wanted)
    return bool({**saved, "steps": 0} == {**wanted, "steps": 0})
