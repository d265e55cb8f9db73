"""ProHMR's form of the image posterior in training: betas and camera are points beside the flow.

Losses, weights and conventions are ProHMR's: a crop seen by a camera of 5,000 pixels that looks
at its middle, keypoints in crop sides, two bodies a person (the mode and one random sample), HMR's
discriminator on both. The root's rotation is learned in that camera's frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.models.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix
from flowfit.priors.data.pictures.batches import Batch
from flowfit.priors.data.pictures.crops import turn_to_crop
from flowfit.priors.image.prohmr import (
    ProHMRPosterior,
    build_prohmr,
    read_backbone,
    read_prohmr,
    save_prohmr,
)
from flowfit.priors.image.prohmr_prior import normalised
from flowfit.priors.networks.discriminator import Discriminator, realism_loss
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.critic import Critic
from flowfit.priors.training.image import channels_last
from flowfit.priors.training.image_config import ImageTrainingConfig
from flowfit.priors.training.image_losses import Truth, to_device, truth_of
from flowfit.priors.training.keypoint_losses import LossWeights, orthonormal_error

CROP_FOCAL = 5000 / 224  # focal length of ProHMR's camera, in crop sides
_LEAST_SCALE = 1e-2


class ProHMRForm:
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
        channels_last(self.model)
        set_mixed_precision(self.model, mixed)
        self.body, self.trained_on = body.to(device="cpu"), body.to(device=device)
        self.others: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.critic: Critic | None = None
        if config.losses.adversarial > 0:
            self.critic = Critic(body.num_betas, config.weight_decay, self.device)
            self.others = {
                "other_critic": self.critic.network,
                "other_critic_optimizer": self.critic.optimizer,
            }
        self._last: tuple[ProHMRLosses, Tensor, Tensor] | None = None

    def picture_size(self, step: int) -> int:
        """The posterior's."""
        return self.image_size

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As in `ImageForm`."""
        truth = truth_of(batch, self.body, self.schema)
        images, truth = to_device(batch, truth, self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        found = prohmr_losses(
            self.model, images, truth, self.trained_on, self.schema, self.config.losses,
            generator, None if self.critic is None else self.critic.network,
        )  # fmt: skip
        known = truth.has_body
        self._last = (found, truth.people.rotations[known], truth.people.betas[known])
        return found.total, found.terms

    def follow(self) -> dict[str, float]:
        """One step of the discriminator on true bodies and on what the posterior made."""
        if self.critic is None or self._last is None or not len(self._last[1]):
            return {}
        made, rotations, betas = self._last
        return self.critic.step((rotations, betas), (made.rotations, made.betas))

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in the released layout."""
        save_prohmr(path, {**self.model.state_dict(), **weights}, facts)


class ProHMRLosses(NamedTuple):
    """The weighted sum, its terms, and everybody's bodies: the modes, then the samples.

    Attributes:
        rotations: (2 B, 24, 3, 3). betas: (2 B, 10).
    """

    total: Tensor
    terms: dict[str, Tensor]
    rotations: Tensor
    betas: Tensor


def prohmr_losses(
    posterior: ProHMRPosterior,
    images: Tensor,
    truth: Truth,
    body: Body,
    schema: KeypointSchema,
    weights: LossWeights,
    generator: torch.Generator,
    discriminator: Discriminator | None = None,
) -> ProHMRLosses:
    """Loss of a batch of crops (B, 3, N, N), 0 to 1. `camera` of the weights has no part in it."""
    assert posterior.head is not None
    people, box = truth.people, truth.box
    count = len(images)
    context = posterior.condition(normalised(images))
    betas, numbers = posterior.head(context)
    turn = turn_to_crop(box, people.camera)
    root = turn.transpose(-1, -2) @ people.rotations[:, 0]
    rotations = torch.cat((root[:, None], people.rotations[:, 1:]), 1)

    target = matrix_to_rotation_6d(rotations).flatten(1)
    noise = torch.randn(target.shape, generator=generator, device=target.device)
    density = posterior.flow.encode(target + weights.target_noise * noise, context)
    latent = torch.randn(target.shape, generator=generator, device=target.device)
    latent = torch.stack((torch.zeros_like(latent), latent), 1)
    vectors = posterior.flow.decode(latent, context).latent.transpose(0, 1).flatten(0, 1)
    drawn = rotation_6d_to_matrix(vectors.unflatten(-1, (NUM_JOINTS, 6)))
    both = betas.repeat(2, 1)

    points = _about_pelvis(body, schema, drawn, both)
    true_points = _about_pelvis(body, schema, rotations, people.betas)
    error_3d = (points[:count] - true_points).abs().sum((-1, -2))
    pixels = _project(points, numbers.repeat(2, 1))
    true_pixels = (people.true_keypoints - box.center[:, None]) / box.side[:, None, None]
    true_pixels = torch.where(truth.inside[..., None], true_pixels, 0).repeat(2, 1, 1)
    inside = truth.inside.repeat(2, 1)[..., None]
    error_2d = torch.where(inside, (pixels - true_pixels).clamp(-3, 3), 0).abs().sum((-1, -2))

    # people whose body is not known teach through their keypoints
    known = truth.has_body.to(images.dtype)

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum() / known.sum().clamp(min=1)

    terms = {
        "nll": mean(-density.log_prob),
        "expected_2d": error_2d[count:].mean(),
        "mode_2d": error_2d[:count].mean(),
        "mode_3d": mean(error_3d),
        "mode_theta": mean(((drawn[:count] - rotations) ** 2).sum((-1, -2, -3))),
        "mode_betas": mean(((betas - people.betas) ** 2).sum(-1)),
        "orthonormal": orthonormal_error(vectors),
    }
    if discriminator is not None:
        scores = discriminator(drawn, both)
        terms["adversarial"] = realism_loss(scores[:count]) + realism_loss(scores[count:])
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return ProHMRLosses(total, terms, drawn, both)


def _about_pelvis(body: Body, schema: KeypointSchema, rotations: Tensor, betas: Tensor) -> Tensor:
    points = body.keypoints(betas, rotations, schema).nan_to_num()
    return points - body.rest_joints(betas)[:, None, joint_index("pelvis")]


def _project(points: Tensor, numbers: Tensor) -> Tensor:
    """Crop sides from the middle (B, K, 2) of points about the pelvis, for the head's s, tx, ty."""
    depth = 2 * CROP_FOCAL / numbers[:, :1].clamp(min=_LEAST_SCALE)
    placed = points + torch.cat((numbers[:, 1:], depth), -1)[:, None]
    return CROP_FOCAL * placed[..., :2] / placed[..., 2:].clamp(min=0.2)


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
