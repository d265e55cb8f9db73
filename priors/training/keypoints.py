"""How a keypoint posterior learns from made-up people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.disguise import disguise
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import People, PeopleMaker
from flowfit.priors.keypoints.draw_calibration import DrawCalibration, fit_lengths
from flowfit.priors.keypoints.files import begin_with, file_hash, save_posterior
from flowfit.priors.keypoints.posterior import KeypointPosterior
from flowfit.priors.networks.encoders import Known
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.critic import Critic
from flowfit.priors.training.keypoint_config import TrainingConfig
from flowfit.priors.training.keypoint_losses import latents_of_truth, posterior_losses
from flowfit.priors.training.loop import Learner, rank, world


class KeypointLearner(Learner):
    """A keypoint posterior on made-up people.

    Args:
        config: of the run. body: to synthesise people with. mocap: where poses come from.
        validation: other recordings, or None. schema: of the detector.
        device: where to train. mixed: bfloat16 in the networks.
        start: a keypoint posterior's checkpoint to begin with; None begins from nothing.

    Raises:
        InputError: `start` cannot be read, or is of other sizes or another schema.
    """

    model: KeypointPosterior

    def __init__(
        self,
        config: TrainingConfig,
        body: Body,
        mocap: Mocap,
        *,
        validation: Mocap | None = None,
        schema: KeypointSchema = BODY25,
        device: torch.device | str = "cpu",
        mixed: bool = False,
        start: Path | None = None,
    ) -> None:
        self.config, self.schema, self.validation = config, schema, validation
        self.began_with = None if start is None else file_hash(start)
        self.device = torch.device(device)
        self.body = body.to(device=device)
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
        self.model = KeypointPosterior(len(schema), body.num_betas, **config.sizes).to(self.device)
        if start is not None:
            begin_with(self.model, start, schema)
        set_mixed_precision(self.model, mixed)
        self.critic: Critic | None = None
        if config.losses.adversarial > 0:
            self.critic = Critic(body.num_betas, config.weight_decay, self.device)
            self.others = {
                "discriminator": self.critic.network,
                "discriminator_optimizer": self.critic.optimizer,
            }
        self._last: tuple[People, tuple[Tensor, Tensor]] | None = None

    def draw(self, step: int) -> tuple[People, Tensor, torch.Generator]:
        """The people of a step, what the posterior is told of their confidences, the generator."""
        generator = torch.Generator(self.device)
        generator.manual_seed(self.config.seed_of(step, rank()))
        count = self.config.batch // world()
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
        if not self.model.encoder.hears:
            return None
        hidden = torch.rand(len(people.up), 2, generator=generator, device=self.device)
        return Known(
            torch.where(hidden[:, :1] < self.config.up_told, people.up, torch.nan),
            torch.where(hidden[:, 1] < self.config.stature_told, people.stature, torch.nan),
        )

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the people of a step."""
        people, told, generator = self.draw(step)
        found = posterior_losses(
            self.model,
            self.body,
            self.schema,
            people,
            told,
            self.config.losses,
            generator,
            None if self.critic is None else self.critic.network,
            self._known(people, generator),
        )
        self._last = people, found.drawn
        return found.total, found.terms

    def follow(self) -> dict[str, float]:
        """One step of the discriminator on the step's bodies, true and made."""
        if self.critic is None or self._last is None:
            return {}
        people, drawn = self._last
        return self.critic.step((people.rotations, people.betas), drawn)

    def with_weights(self, weights: Mapping[str, Tensor]) -> KeypointPosterior:
        """The posterior with other weights, for use."""
        posterior = KeypointPosterior(len(self.schema), self.model.num_betas, **self.config.sizes)
        posterior.to(self.device).load_state_dict(weights)
        return posterior.eval().requires_grad_(False)

    def held_out(self, mocap: Mocap, people: int) -> dict[str, People]:
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
    def validate(self, weights: Mapping[str, Tensor], people: int = 1024) -> dict[str, float]:
        """Terms of the loss on people of the other recordings."""
        if self.validation is None:
            return {}
        generator = torch.Generator(self.device).manual_seed(2)
        found: dict[str, float] = {}
        posterior = self.with_weights(weights)
        for name, drawn in self.held_out(self.validation, people).items():
            losses = posterior_losses(
                posterior, self.body, self.schema, drawn, drawn.confidence,
                self.config.losses, generator,
            )  # fmt: skip
            found |= {f"{name}_{k}": float(v) for k, v in losses.terms.items()}
        return found

    @torch.no_grad()
    def calibrated(self, weights: Mapping[str, Tensor], people: int = 1024) -> DrawCalibration:
        """How to draw from the posterior with these weights, by people of the other recordings.

        Without such recordings, only what the targets' noise says by itself.
        """
        noise = self.config.losses.target_noise
        if self.validation is None:
            return DrawCalibration(noise)
        posterior = self.with_weights(weights)
        generator = torch.Generator(self.device).manual_seed(3)
        found = [
            latents_of_truth(posterior, drawn, drawn.confidence, noise, generator)
            for drawn in self.held_out(self.validation, people).values()
        ]
        latents, widths = (torch.cat(parts) for parts in zip(*found, strict=True))
        return fit_lengths(latents, widths, noise)

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint that `flowfit.priors.load` opens."""
        sizes = {
            "keypoints": len(self.schema),
            "num_betas": self.model.num_betas,
            **self.config.sizes,
        }
        about = {"schema": self.schema.name, "body": self.body.name, **facts}
        save_posterior(path, self.with_weights(weights), sizes, about, half=True)


def _join_people(parts: list[People]) -> People:
    camera = Camera(
        torch.cat([p.camera.focal for p in parts]), torch.cat([p.camera.center for p in parts])
    )
    rest = {n: torch.cat([getattr(p, n) for p in parts]) for n in People._fields if n != "camera"}
    return People(camera=camera, **rest)


def rows_of(people: People, index: Tensor) -> People:
    """Some of the people."""
    rest = {n: getattr(people, n)[index] for n in People._fields if n != "camera"}
    return People(camera=people.camera.rows(index), **rest)
