"""How each kind of image posterior learns from a batch of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.priors.data.pictures.batches import Batch
from flowfit.priors.image.files import begin_with, save_image_posterior
from flowfit.priors.image.posterior import ImagePosterior
from flowfit.priors.image.prohmr import (
    ProHMRPosterior,
    build_prohmr,
    read_backbone,
    read_prohmr,
    save_prohmr,
)
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.networks.discriminator import Discriminator, discriminator_loss
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.image_config import ImageTrainingConfig
from flowfit.priors.training.image_losses import (
    image_losses,
    to_device,
    truth_of,
    with_exact_keypoints,
)
from flowfit.priors.training.prohmr_losses import ProHMRLosses, prohmr_losses

_CRITIC_RATE = 1e-4  # ProHMR's


class FusedLearner:
    """The image posterior that stands on the keypoint posterior.

    Args:
        config: of the run. body: whom it is about. base: file of the keypoint posterior.
        device: where. mixed: bfloat16 in the networks. start: an image posterior of which to
            begin with what fits, or None.

    Attributes:
        begun: what was taken from `start`, if there is one.
    """

    def __init__(
        self,
        config: ImageTrainingConfig,
        body: Body,
        base: Path,
        *,
        device: torch.device | str = "cpu",
        mixed: bool = False,
        start: Path | None = None,
    ) -> None:
        self.config, self.base = config, base
        self.device = torch.device(device)
        keypoint_posterior, about = load_posterior(base)
        self.schema = SCHEMAS[about["schema"]]
        torch.manual_seed(config.seed)
        self.model = ImagePosterior(keypoint_posterior, schema=self.schema, **config.sizes)
        self.begun = None if start is None else begin_with(self.model, start)
        self.model.to(self.device)
        _channels_last(self.model)
        set_mixed_precision(self.model, mixed)
        self.image_size = self.model.image_size
        self.others: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.body = body.to(device="cpu")
        self.trained_on = body.to(device=device)

    def picture_size(self, step: int) -> int:
        """The posterior's; smaller while it only learns to find keypoints."""
        first = step < self.config.keypoints_first
        return self.config.first_size if first else self.image_size

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As in `Learner`; the first steps only learn to find keypoints."""
        truth = truth_of(batch, self.body, self.schema)
        images, truth = to_device(batch, truth, self.device)
        truth = with_exact_keypoints(truth, self.config.exact, generator)
        return image_losses(
            self.model, images, truth, self.trained_on, self.schema, self.config.losses,
            self.config.own, generator, keypoints_only=step < self.config.keypoints_first,
        )  # fmt: skip

    def follow(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write what was trained; the keypoint posterior is named, not copied."""
        about = {"schema": self.schema.name, "body": self.body.name, **facts}
        save_image_posterior(path, weights, self.config.sizes, self.base, about)


class ProHMRLearner:
    """ProHMR's own posterior, with its discriminator.

    Args:
        config: of the run; its sizes are `build_prohmr`'s and `image_size`. body: whom it is about.
        device: where. mixed: bfloat16 in the networks.
        start: a released checkpoint, or an image network's weights with torchvision's names
            (ProHMR begins with ImageNet's), or None.
    """

    def __init__(
        self,
        config: ImageTrainingConfig,
        body: Body,
        *,
        device: torch.device | str = "cpu",
        mixed: bool = False,
        start: Path | None = None,
    ) -> None:
        self.config, self.schema = config, BODY25
        self.device, self.mixed = torch.device(device), mixed
        sizes = dict(config.sizes)
        self.image_size = int(sizes.pop("image_size", 224))
        torch.manual_seed(config.seed)
        self.model: ProHMRPosterior = build_prohmr(**sizes)
        if start is not None:
            _begin_with(self.model, start)
        self.model.to(self.device).requires_grad_(True)
        _channels_last(self.model)
        set_mixed_precision(self.model, mixed)
        self.body, self.trained_on = body.to(device="cpu"), body.to(device=device)
        self.others: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.critic: Discriminator | None = None
        if config.losses.adversarial > 0:
            self.critic = Discriminator(body.num_betas).to(self.device)
            self.critic_optimizer = torch.optim.AdamW(
                self.critic.parameters(), lr=_CRITIC_RATE, weight_decay=config.weight_decay
            )
            self.others = {"critic": self.critic, "critic_optimizer": self.critic_optimizer}
        self._last: tuple[ProHMRLosses, Tensor, Tensor] | None = None

    def picture_size(self, step: int) -> int:
        """The posterior's."""
        return self.image_size

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As in `Learner`."""
        truth = truth_of(batch, self.body, self.schema)
        images, truth = to_device(batch, truth, self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        found = prohmr_losses(
            self.model, images, truth, self.trained_on, self.schema, self.config.losses,
            generator, self.critic,
        )  # fmt: skip
        known = truth.has_body
        self._last = (found, truth.people.rotations[known], truth.people.betas[known])
        return found.total, found.terms

    def follow(self) -> dict[str, float]:
        """One step of the discriminator on true bodies and on what the posterior made."""
        if self.critic is None or self._last is None or not len(self._last[1]):
            return {}
        made, rotations, betas = self._last
        fake = self.critic(made.rotations.detach(), made.betas.detach())
        loss = discriminator_loss(self.critic(rotations, betas), fake)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {"critic": float(loss.detach())}

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in the released layout."""
        save_prohmr(path, {**self.model.state_dict(), **weights}, facts)


def _channels_last(model: nn.Module) -> None:
    """The order of numbers in memory that convolutions are fastest with."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _begin_with(model: ProHMRPosterior, start: Path) -> None:
    assert model.backbone is not None
    backbone = read_backbone(start)
    if backbone is not None:
        model.backbone.load_state_dict(backbone)
        return
    opened = read_prohmr(start).posterior
    try:
        model.load_state_dict(opened.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{start}: has other sizes than the configuration: {reason}") from None
