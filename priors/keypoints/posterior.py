"""p(body | what was seen): an encoder, a conditional flow over poses, and a head.

The vector of the flow holds the 24 rotations as 6D vectors (the root's in the camera's frame) and,
unless the posterior has ProHMR's form, the betas. The head gives the rest from the condition
alone, as points: the camera, and in ProHMR's form the betas.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.models.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix
from flowfit.priors.networks.encoders import Boxes, KeypointEncoder, Known, keypoint_boxes
from flowfit.priors.networks.flow import ConditionalFlow

ROTATION_NUMBERS = NUM_JOINTS * 6
CAMERA_NUMBERS = 3
_HEAD_WIDTH = 256


class Bodies(NamedTuple):
    """Bodies of B people, S of each: rotations (B, S, 24, 3, 3), betas (B, S, 10).

    Attributes:
        log_prob: (B, S) nats, of the vector that the flow describes.
        vectors: (B, S, D) the flow's own vectors, whose 6D part is not orthonormal.
    """

    rotations: Tensor
    betas: Tensor
    log_prob: Tensor
    vectors: Tensor


class KeypointPosterior(nn.Module):
    """Flow posterior conditioned on 2D keypoints.

    Args:
        keypoints: K of the schema. num_betas: S, inside the flow.
        context, hidden, steps, blocks: sizes of the flow. width, depth: of the encoder.
        conditional_scale, activation: see `ConditionalFlow`. hears: see `KeypointEncoder`.
    """

    def __init__(
        self,
        keypoints: int = 25,
        num_betas: int = 10,
        *,
        context: int = 256,
        hidden: int = 256,
        steps: int = 4,
        blocks: int = 2,
        width: int = 512,
        depth: int = 3,
        conditional_scale: bool = True,
        activation: str = "relu",
        hears: bool = False,
    ) -> None:
        super().__init__()
        self.num_betas = num_betas
        self.encoder = KeypointEncoder(keypoints, context, width=width, blocks=depth, hears=hears)
        self.flow = ConditionalFlow(
            ROTATION_NUMBERS + num_betas,
            context,
            hidden=hidden,
            steps=steps,
            blocks=blocks,
            dropout=0.0,
            batch_norm=False,
            conditional_scale=conditional_scale,
            activation=activation,
        )
        self.camera_head = nn.Sequential(
            nn.Linear(context, _HEAD_WIDTH), nn.ReLU(), nn.Linear(_HEAD_WIDTH, CAMERA_NUMBERS)
        )

    def condition(
        self,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        known: Known | None = None,
    ) -> Tensor:
        """Condition (B, C) of people as they were seen; pixels."""
        return self.encoder(keypoints, confidence, camera, known)

    def vectors(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """The flow's vectors (..., D) of bodies (..., 24, 3, 3), (..., S)."""
        return torch.cat((matrix_to_rotation_6d(rotations).flatten(-2), betas), -1)

    def bodies(self, latent: Tensor, context: Tensor) -> Bodies:
        """Bodies of latents (B, S, D)."""
        vectors, log_prob = self.flow.decode(latent, context)
        six = vectors[..., :ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 6))
        return Bodies(
            rotation_6d_to_matrix(six), vectors[..., ROTATION_NUMBERS:], log_prob, vectors
        )

    def mode(self, context: Tensor) -> Bodies:
        """The bodies at z = 0, one of each."""
        zero = context.new_zeros(len(context), 1, self.flow.features)
        return self.bodies(zero, context)

    def sample(self, context: Tensor, count: int, generator: torch.Generator) -> Bodies:
        """Random bodies, `count` of each person."""
        shape = (len(context), count, self.flow.features)
        noise = torch.randn(shape, generator=generator, dtype=context.dtype, device=context.device)
        return self.bodies(noise, context)

    def log_prob(self, rotations: Tensor, betas: Tensor, context: Tensor) -> Tensor:
        """Log density (B,) or (B, S) of bodies, nats."""
        return self.flow.encode(self.vectors(rotations, betas), context).log_prob

    def camera_numbers(self, context: Tensor) -> Tensor:
        """The head: (B, 3), see `pelvis_from_camera_numbers`."""
        return self.camera_head(context)


def camera_numbers_from_pelvis(pelvis: Tensor, box: Boxes, camera: Camera) -> Tensor:
    """What the head is to say of a pelvis (B, 3) in the camera's frame, metres.

    Its picture's place in the box, in box sides, and log (metres that the box's side spans at the
    pelvis' depth).
    """
    depth = pelvis[:, 2:].clamp(min=0.05)
    pixels = pelvis[:, :2] / depth * camera.focal + camera.center
    place = (pixels - box.center) / box.side[:, None]
    span = (depth[:, 0] * box.side / camera.focal.mean(-1)).log()
    return torch.cat((place, span[:, None]), -1)


def pelvis_from_camera_numbers(numbers: Tensor, box: Boxes, camera: Camera) -> Tensor:
    """Inverse of `camera_numbers_from_pelvis`. -> (B, 3) metres."""
    depth = numbers[:, 2:].exp() * (camera.focal.mean(-1) / box.side)[:, None]
    pixels = box.center + numbers[:, :2] * box.side[:, None]
    return torch.cat(((pixels - camera.center) / camera.focal * depth, depth), -1)


def mode_translation(
    posterior: KeypointPosterior,
    context: Tensor,
    betas: Tensor,
    keypoints: Tensor,
    confidence: Tensor,
    camera: Camera,
    body: Body,
) -> Tensor:
    """Translation (B, 3), metres, at which the head sees bodies of the given betas (B, S)."""
    box = keypoint_boxes(keypoints, confidence)
    pelvis = pelvis_from_camera_numbers(posterior.camera_numbers(context), box, camera)
    return pelvis - body.rest_joints(betas)[:, joint_index("pelvis")]
