"""One training loop for posteriors on synthetic people.

Every step's random numbers follow from the seed and the step alone, so a run that was killed goes
on from its last checkpoint to the same weights as one that was not. `torchrun` shares each batch
among several processes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.disguise import disguise
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import People, PeopleMaker
from flowfit.priors.keypoints.draw_calibration import DrawCalibration, fit_lengths
from flowfit.priors.keypoints.files import begin_with, file_hash, save_posterior
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.networks.discriminator import Discriminator, discriminator_loss
from flowfit.priors.networks.encoders import Known
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.keypoint_config import Schedule, TrainingConfig, config_from
from flowfit.priors.training.keypoint_losses import latents_of_truth, posterior_losses

_CRITIC_RATE = 1e-4  # ProHMR's


@dataclass(eq=False)
class _Run:
    """What changes while training."""

    posterior: KeypointPosterior
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    discriminator: Discriminator | None = None
    discriminator_optimizer: torch.optim.Optimizer | None = None
    step: int = 0

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything that has a state to save."""
        found: dict[str, nn.Module | torch.optim.Optimizer | None] = {
            "weights": self.posterior,
            "optimizer": self.optimizer,
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {name: part for name, part in found.items() if part is not None}


class Trainer:
    """Trains a keypoint posterior.

    Args:
        config: of the run. body: to synthesise people with. mocap: where poses come from.
        folder: for `state.pt` (to resume), `log.csv` and the checkpoint. schema: of the detector.
        device: where to train. mixed: bfloat16 in the networks.
        start: a keypoint posterior's checkpoint to begin with; None begins from nothing.

    Raises:
        InputError: `start` cannot be read, or is of other sizes or another schema.
    """

    def __init__(
        self,
        config: TrainingConfig,
        body: Body,
        mocap: Mocap,
        folder: Path,
        *,
        schema: KeypointSchema = BODY25,
        device: torch.device | str = "cpu",
        mixed: bool = False,
        start: Path | None = None,
    ) -> None:
        self.config, self.schema, self.folder = config, schema, folder
        self.began_with = None if start is None else file_hash(start)
        self.device = torch.device(device)
        self.body = body.to(device=device)
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float()).to(self.device)
        shares = config.postures.weights(mocap, config.seed)
        weights = torch.from_numpy(shares).float().to(self.device)
        self.makers = tuple(
            PeopleMaker(
                self.body,
                poses,
                weights,
                schema,
                config.detector,
                scenery,
                config.augmentation,
                config.physique,
                config.offsets,
            )
            for scenery in (config.plain_scenery, config.truncated_scenery)
        )
        torch.manual_seed(config.seed)
        posterior = KeypointPosterior(len(schema), body.num_betas, **config.sizes).to(self.device)
        if start is not None:
            begin_with(posterior, start, schema)
        set_mixed_precision(posterior, mixed)
        self.run = _Run(
            posterior,
            {k: v.clone() for k, v in posterior.state_dict().items()},
            torch.optim.AdamW(
                posterior.parameters(), lr=config.rate, weight_decay=config.weight_decay
            ),
        )

        if config.losses.adversarial > 0:
            critic = Discriminator(body.num_betas).to(self.device)
            self.run.discriminator = critic
            self.run.discriminator_optimizer = torch.optim.AdamW(
                critic.parameters(), lr=_CRITIC_RATE, weight_decay=config.weight_decay
            )

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
            same = _goes_on(json.loads(saved["config"]), int(saved["step"]), self.config)
            same &= saved.get("began_with") == self.began_with
            if same:
                for name, part in self.run.parts().items():
                    part.load_state_dict(saved[name])
                self.run.average = saved["average"]
                self.run.step = int(saved["step"])
        except Exception as error:  # a damaged file can raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} cannot be resumed: {reason}") from None
        if not same:
            raise InputError(
                f"{path} was trained with another configuration or start; use another folder"
            )
        return True

    def draw(self, step: int) -> tuple[People, Tensor, torch.Generator]:
        """The people of a step, what the posterior is told of their confidences, the generator."""
        generator = torch.Generator(self.device)
        generator.manual_seed((self.config.seed * 1_000_003 + step) * 64 + self.rank)
        count = self.config.batch // self.world
        cut = round(self.config.truncated * count)
        parts = [
            maker.draw(n, generator, least_seen=4)
            for maker, n in zip(self.makers, (count - cut, cut), strict=True)
            if n
        ]
        people = _join_people(parts)
        order = torch.randperm(count, generator=generator, device=self.device)
        people = rows_of(people, order)
        told = disguise(
            people.confidence, self.schema, self.config.unseen, generator, self.config.missing
        )
        return people, told, generator

    def _known(self, people: People, generator: torch.Generator) -> Known | None:
        """What is told beside the keypoints, of some people."""
        if not self.run.posterior.encoder.hears:
            return None
        hidden = torch.rand(len(people.up), 2, generator=generator, device=self.device)
        return Known(
            torch.where(hidden[:, :1] < self.config.up_told, people.up, torch.nan),
            torch.where(hidden[:, 1] < self.config.stature_told, people.stature, torch.nan),
        )

    def step(self) -> dict[str, float]:
        """One step of the optimizer; the terms of the loss."""
        run, config = self.run, self.config
        people, told, generator = self.draw(run.step)
        for group in run.optimizer.param_groups:
            group["lr"] = config.rate * rate_factor(run.step, config)
        run.posterior.train()
        losses = posterior_losses(
            run.posterior,
            self.body,
            self.schema,
            people,
            told,
            config.losses,
            generator,
            run.discriminator,
            self._known(people, generator),
        )
        run.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        if self.world > 1:
            _share_gradients(run.posterior, self.world)
        norm = nn.utils.clip_grad_norm_(run.posterior.parameters(), config.clip)
        if bool(norm.isfinite()):  # one bad batch must not end a run of hours
            run.optimizer.step()
        terms = {name: float(value.detach()) for name, value in losses.terms.items()}
        if run.discriminator is not None:
            terms["critic"] = self._step_critic(people, losses.drawn)
        run.step += 1
        decay = min(config.ema, run.step / (run.step + 10))
        with torch.no_grad():
            for name, value in run.posterior.state_dict().items():
                mean = run.average[name]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        return {"total": float(losses.total.detach()), **terms, "gradient": float(norm)}

    def _step_critic(self, people: People, drawn: tuple[Tensor, Tensor]) -> float:
        """One step of the discriminator on true bodies and on what the posterior made."""
        critic, optimizer = self.run.discriminator, self.run.discriminator_optimizer
        assert critic is not None
        assert optimizer is not None
        real = critic(people.rotations, people.betas)
        loss = discriminator_loss(real, critic(*(t.detach() for t in drawn)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.world > 1:
            _share_gradients(critic, self.world)
        optimizer.step()
        return float(loss.detach())

    def averaged(self) -> KeypointPosterior:
        """The posterior with the averaged weights, for use."""
        posterior = KeypointPosterior(
            len(self.schema), self.run.posterior.num_betas, **self.config.sizes
        ).to(self.device)
        posterior.load_state_dict(self.run.average)
        return posterior.eval().requires_grad_(False)

    def others(self, mocap: Mocap, people: int = 1024) -> dict[str, People]:
        """Fixed people of other recordings, as they are: whole in the picture, and cut."""
        poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float()).to(self.device)
        weights = torch.from_numpy(mocap.balanced_weights()).float().to(self.device)
        generator = torch.Generator(self.device).manual_seed(1)
        return {
            name: PeopleMaker(
                self.body, poses, weights, self.schema, maker.detector, maker.scenery
            ).draw(people, generator)
            for name, maker in zip(("plain", "cut"), self.makers, strict=True)
        }

    @torch.no_grad()
    def validate(self, mocap: Mocap, people: int = 1024) -> dict[str, float]:
        """Terms of the loss with the averaged weights on people of other recordings."""
        generator = torch.Generator(self.device).manual_seed(2)
        found: dict[str, float] = {}
        posterior = self.averaged()
        for name, drawn in self.others(mocap, people).items():
            losses = posterior_losses(
                posterior, self.body, self.schema, drawn, drawn.confidence,
                self.config.losses, generator,
            )  # fmt: skip
            found |= {f"{name}_{k}": float(v) for k, v in losses.terms.items()}
        return found

    @torch.no_grad()
    def calibrated(self, mocap: Mocap | None, people: int = 1024) -> DrawCalibration:
        """How to draw from the averaged posterior, by people of other recordings.

        Without such recordings, only what the targets' noise says by itself.
        """
        noise = self.config.losses.target_noise
        if mocap is None:
            return DrawCalibration(noise)
        posterior = self.averaged()
        generator = torch.Generator(self.device).manual_seed(3)
        found = [
            latents_of_truth(posterior, drawn, drawn.confidence, noise, generator)
            for drawn in self.others(mocap, people).values()
        ]
        latents, widths = (torch.cat(parts) for parts in zip(*found, strict=True))
        return fit_lengths(latents, widths, noise)

    def save_state(self) -> None:
        """Write `state.pt`, whole or not at all."""
        path = self.folder / "state.pt"
        temporary = path.with_name(f".state.{os.getpid()}.tmp")
        torch.save(
            {
                "config": json.dumps(asdict(self.config), sort_keys=True),
                **{name: part.state_dict() for name, part in self.run.parts().items()},
                "average": self.run.average,
                "step": self.run.step,
                "began_with": self.began_with,
            },
            temporary,
        )
        os.replace(temporary, path)

    def export(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the averaged weights as a checkpoint that `flowfit.priors.load` opens."""
        sizes = {
            "keypoints": len(self.schema),
            "num_betas": self.run.posterior.num_betas,
            **self.config.sizes,
        }
        about = {
            "schema": self.schema.name,
            "body": self.body.name,
            "steps": self.run.step,
            "config": asdict(self.config),
            **facts,
        }
        save_posterior(path, self.averaged(), sizes, about, half=True)

    def train(
        self,
        *,
        validation: Mocap | None = None,
        save_every: int = 250,
        validate_every: int = 1000,
        progress: bool = True,
    ) -> Iterable[dict[str, float]]:
        """Run to the last step, yielding what each logged step printed to `log.csv`."""
        from tqdm import tqdm

        self.folder.mkdir(parents=True, exist_ok=True)
        log = TrainingLog(self.folder / "log.csv") if self.rank == 0 else None
        sums: dict[str, float] = {}
        counted, began = 0, time.perf_counter()
        bar = tqdm(
            total=self.config.steps, initial=self.run.step, disable=not progress or self.rank != 0
        )
        with bar:
            while self.run.step < self.config.steps:
                for name, value in self.step().items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                bar.update()
                last = self.run.step == self.config.steps
                if self.run.step % save_every and not last:
                    continue
                spent = time.perf_counter() - began
                row = {k: v / counted for k, v in sums.items()}
                row["people_per_second"] = counted * self.config.batch / spent
                if validation is not None and (self.run.step % validate_every == 0 or last):
                    row |= {f"val_{k}": v for k, v in self.validate(validation).items()}
                if log is not None:
                    self.save_state()
                    log.write(self.run.step, row)
                bar.set_postfix(nll=f"{row['nll']:.0f}", mode_3d=f"{row['mode_3d']:.2f}")
                sums, counted, began = {}, 0, time.perf_counter()
                yield row


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


def _goes_on(saved: dict[str, Any], step: int, config: TrainingConfig) -> bool:
    """Whether a run with the saved configuration was at `step` where this one would be.

    The number of steps may differ while neither has left the learning rate's plateau.
    """
    wanted = json.loads(json.dumps(asdict(config)))
    then = config_from(saved, "the saved configuration")
    if min(then.plateau_ends, config.plateau_ends) < step:
        return bool(saved == wanted)
    return bool({**saved, "steps": 0} == {**wanted, "steps": 0})


def _share_gradients(module: nn.Module, world: int) -> None:
    """Average the gradients of all processes, in one message."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= world
    for parameter, part in zip(parameters, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = part.view_as(parameter)


def rate_factor(step: int, config: Schedule) -> float:
    """Learning rate as a share of its peak: a rise, a plateau, and a fall with the root.

    The plateau does not depend on the number of steps, so a run can be made longer as long as it
    has not begun to fall.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    left = config.steps - config.plateau_ends
    fallen = min(1.0, max(0, step - config.plateau_ends) / max(1, left))
    return 1 - 0.99 * math.sqrt(fallen)


def _join_people(parts: list[People]) -> People:
    from flowfit.models.cameras import Camera

    camera = Camera(
        torch.cat([p.camera.focal for p in parts]), torch.cat([p.camera.center for p in parts])
    )
    rest = {n: torch.cat([getattr(p, n) for p in parts]) for n in People._fields if n != "camera"}
    return People(camera=camera, **rest)


def rows_of(people: People, index: Tensor) -> People:
    """Some of the people."""
    rest = {n: getattr(people, n)[index] for n in People._fields if n != "camera"}
    return People(camera=people.camera.rows(index), **rest)
