"""ProHMR's training loss, term by term (ProHMR supplementary, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.keypoints.posterior import (
    ROTATION_NUMBERS,
    Bodies,
    KeypointPosterior,
    camera_numbers_from_pelvis,
    pelvis_from_camera_numbers,
)
from flowfit.priors.networks.discriminator import Discriminator, realism_loss
from flowfit.priors.networks.encoders import Boxes, Known, keypoint_boxes
from flowfit.priors.networks.flow import ConditionalFlow


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms; the defaults are ProHMR's.

    `adversarial` (on the mode and on the sample; ProHMR: 5e-4) is off: see docs/training.md.
    `camera` is added to ProHMR's supervision of the camera through 2D alone. `target_noise` is
    the standard deviation put on the 6D targets (ProHMR: 0.005; see docs/results.md), and
    `sampled_share` the share of a batch of which a random sample is decoded for `expected_2d`.
    """

    nll: float = 1e-3
    expected_2d: float = 1e-3
    mode_2d: float = 1e-2
    mode_3d: float = 5e-2
    mode_theta: float = 1e-3
    mode_betas: float = 5e-4
    orthonormal: float = 0.1
    camera: float = 1e-2
    adversarial: float = 0.0
    target_noise: float = 0.03
    sampled_share: float = 0.25


class Losses(NamedTuple):
    """The weighted sum, every term unweighted (means over the batch), and the bodies decoded.

    Attributes:
        drawn: everybody's mode, then the samples; rotations (N, 24, 3, 3) and betas (N, S).
    """

    total: Tensor
    terms: dict[str, Tensor]
    drawn: tuple[Tensor, Tensor]


class Told(NamedTuple):
    """What a posterior says of B people before a body is drawn from it.

    Attributes:
        context: (B, C) of the flow. camera_numbers: (B, 3) of its head, relative to `box`.
        scored: (B, K) boolean, which keypoints' pictures count.
    """

    context: Tensor
    camera_numbers: Tensor
    box: Boxes
    scored: Tensor


class FlowPosterior(Protocol):
    """A posterior over rotations and betas, whatever it was shown."""

    num_betas: int

    @property
    def flow(self) -> ConditionalFlow:
        """Over the vectors."""

    def vectors(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """The flow's vectors of bodies."""

    def bodies(self, latent: Tensor, context: Tensor) -> Bodies:
        """Bodies of latents."""


def posterior_losses(
    posterior: KeypointPosterior,
    body: Body,
    schema: KeypointSchema,
    people: People,
    confidence: Tensor,
    weights: LossWeights,
    generator: torch.Generator,
    discriminator: Discriminator | None = None,
    known: Known | None = None,
) -> Losses:
    """Loss of a keypoint posterior on a batch; arguments as in `told_losses`.

    Args:
        people: with their truth. confidence: (B, K), what the posterior is told of it.
        known: what else it is told.
    """
    context = posterior.condition(people.keypoints, confidence, people.camera, known)
    box = keypoint_boxes(people.keypoints, confidence)
    far = (people.true_keypoints.nan_to_num() - box.center[:, None]).norm(dim=-1)
    # clean targets where the detector saw the keypoint
    scored = (confidence > 0) & (far < 2 * box.side[:, None])
    told = Told(context, posterior.camera_numbers(context), box, scored)
    return told_losses(posterior, body, schema, people, told, weights, generator, discriminator)


def with_noise(vectors: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """The flow's vectors (B, D) with noise on the rotations' numbers."""
    normal = torch.randn(
        len(vectors),
        ROTATION_NUMBERS,
        generator=generator,
        dtype=vectors.dtype,
        device=vectors.device,
    )
    missing = vectors.shape[-1] - ROTATION_NUMBERS
    return vectors + noise * torch.nn.functional.pad(normal, (0, missing))


def latents_of_truth(
    posterior: KeypointPosterior,
    people: People,
    confidence: Tensor,
    noise: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Latents (B, D) of true bodies with the targets' noise, and the people's widths (B,)."""
    context = posterior.condition(people.keypoints, confidence, people.camera)
    vectors = posterior.vectors(people.rotations, people.betas)
    latents = posterior.flow.encode(with_noise(vectors, noise, generator), context).latent
    return latents, posterior.flow.widths(context)


def told_losses(
    posterior: FlowPosterior,
    body: Body,
    schema: KeypointSchema,
    people: People,
    told: Told,
    weights: LossWeights,
    generator: torch.Generator,
    discriminator: Discriminator | None = None,
) -> Losses:
    """Loss of a batch; the mode and one random sample of each person are decoded.

    Args:
        people: their truth. told: what the posterior says of them.
        discriminator: for the adversarial term, or None.
    """
    camera, true = people.camera, people
    context, box = told.context, told.box
    target = posterior.vectors(true.rotations, true.betas)
    noisy = with_noise(target, weights.target_noise, generator)
    density = posterior.flow.encode(noisy, context)

    # the mode of everybody, then one random sample of some
    some = max(1, round(weights.sampled_share * len(target)))
    latent = torch.randn(
        some, target.shape[-1], generator=generator, dtype=target.dtype, device=target.device
    )
    latent = torch.cat((torch.zeros_like(target), latent))
    drawn = posterior.bodies(latent, torch.cat((context, context[:some])))
    everyone = torch.arange(len(target), device=target.device)
    who = torch.cat((everyone, everyone[:some]))
    is_mode = torch.arange(len(who), device=target.device) < len(target)

    pelvis = joint_index("pelvis")
    true_rest = body.rest_joints(true.betas)[:, pelvis]
    numbers = told.camera_numbers
    true_numbers = camera_numbers_from_pelvis(true.transl + true_rest, box, camera)
    place = pelvis_from_camera_numbers(numbers.clamp(-6, 6), box, camera)

    rest = body.rest_joints(drawn.betas)[:, pelvis]
    model = body.keypoint_model(schema)
    points = body.keypoints(drawn.betas, drawn.rotations, schema).nan_to_num()
    true_points = body.keypoints(true.betas, true.rotations, schema).nan_to_num()
    relative = points - rest[:, None]
    true_relative = true_points - true_rest[:, None]
    error_3d = (relative[is_mode] - true_relative).abs().sum(-1)

    # 2D: in box sides (ProHMR's crop unit)
    placed = relative + place[who][:, None]
    depth = placed[..., 2:].clamp(min=0.2)
    pixels = placed[..., :2] / depth * camera.focal[who][:, None] + camera.center[who][:, None]
    clean = people.true_keypoints.nan_to_num()
    error_2d = (pixels - clean[who]) / box.side[who][:, None, None]
    seen = told.scored & model.available
    error_2d = torch.where(seen[who][..., None], error_2d.clamp(-3, 3), 0).abs().sum((-1, -2))

    terms = {
        "nll": -density.log_prob.mean(),
        "expected_2d": error_2d[~is_mode].mean(),
        "mode_2d": error_2d[is_mode].mean(),
        "mode_3d": error_3d.sum(-1).mean(),
        "mode_theta": ((drawn.rotations[is_mode] - true.rotations) ** 2).sum((-1, -2, -3)).mean(),
        "mode_betas": ((drawn.betas[is_mode] - true.betas) ** 2).sum(-1).mean(),
        "orthonormal": orthonormal_error(drawn.vectors[..., :ROTATION_NUMBERS]),
        "camera": torch.nn.functional.smooth_l1_loss(
            numbers, true_numbers.clamp(-5, 5), beta=0.1, reduction="none"
        )
        .sum(-1)
        .mean(),
    }
    if discriminator is not None:
        scores = discriminator(drawn.rotations, drawn.betas)
        terms["adversarial"] = realism_loss(scores[is_mode]) + realism_loss(scores[~is_mode])
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return Losses(total, terms, (drawn.rotations, drawn.betas))


def orthonormal_error(vectors: Tensor) -> Tensor:
    """How far 24 6D vectors (N, 144) are from two orthonormal columns each; mean over bodies."""
    six = vectors.unflatten(-1, (NUM_JOINTS, 2, 3))
    gram = six @ six.transpose(-1, -2)
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    return ((gram - eye) ** 2).mean((-1, -2)).sum(-1).mean()
