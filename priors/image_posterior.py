"""p(body | picture, keypoints): the keypoint posterior, told also what an image network sees.

Either may be missing. The keypoint posterior stays as it was trained. Of a picture, the image
network finds keypoints of its own, which stand in where none are given, and a small network adds to
the condition what the picture tells beyond them. That addition begins at zero: before training,
picture and keypoints together are the keypoint posterior, and keypoints alone always are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.body import Body
from models.cameras import Camera
from models.kinematics import joint_index
from priors.encoders import Boxes, keypoint_boxes
from priors.flow import ConditionalFlow
from priors.image_encoder import Glance, ImageEncoder
from priors.posterior import Bodies, KeypointPosterior, pelvis_from_camera_numbers
from priors.precision import MixedPrecision

_GEOMETRY = 3  # where the crop lies and how large it is, relative to the focal length
_ROOT = 6  # numbers of the rotation that the image network sees
_LEAST_SURE = 0.15  # of a keypoint that the image network finds; below, it has not found it
_FAR = 2.0  # crop sides; how far a given keypoint may lie from where the picture has it


class Seen(NamedTuple):
    """What the posterior is shown of B people.

    Attributes:
        images: (B, 3, N, N) RGB crops, 0 to 1. has_image: (B,) boolean.
        keypoints: (B, K, 2) pixels of the whole picture. confidence: (B, K), all 0 where none are
            given.
        camera: of each person, of the whole picture.
        box: the crop: centre (B, 2) and side (B,), pixels of the whole picture.
    """

    images: Tensor
    has_image: Tensor
    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    box: Boxes


class Condition(NamedTuple):
    """What follows from the seen: the flow's context (B, C), and what was found on the way.

    Attributes:
        glance: what the image network saw of the rows `looked` (N,), or None where of nobody.
    """

    context: Tensor
    glance: Glance | None
    looked: Tensor


class _Fusion(MixedPrecision):
    """Residual network from all that is known to what is added to the condition, first zero."""

    def __init__(self, inputs: int, width: int, context: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.SiLU())
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
        self.leave = nn.Linear(width, context)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, known: Tensor) -> Tensor:
        """(B, inputs) -> (B, C)."""
        with self.autocast(known):
            x = self.enter(known)
            added = self.leave(x + self.block(x))
        return added.to(known.dtype)


class ImagePosterior(nn.Module):
    """Flow posterior conditioned on a picture, keypoints, or both.

    Args:
        keypoint_posterior: in whose flow the bodies live; its weights are not trained.
        image_size: N, pixels of the crops, a multiple of 32. fusion: width of the network that
            joins what is seen. encoder: sizes of the `ImageEncoder`.
    """

    def __init__(
        self,
        keypoint_posterior: KeypointPosterior,
        *,
        image_size: int = 128,
        fusion: int = 384,
        encoder: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.keypoint_posterior = keypoint_posterior.requires_grad_(False)
        self.image_size, self.num_betas = image_size, keypoint_posterior.num_betas
        self.keypoints = keypoint_posterior.encoder.keypoints
        self.encoder = ImageEncoder(self.keypoints, **(encoder or {}))
        context = keypoint_posterior.flow.context
        inputs = 2 * context + self.encoder.whole_features + _ROOT + _GEOMETRY + 1
        inputs += self.keypoints * (self.encoder.keypoint_features + 5 + 4)
        self.fusion = _Fusion(inputs, fusion, context)
        # of people without keypoints the camera is told relative to the crop
        self.camera_head = nn.Sequential(nn.Linear(context, 128), nn.ReLU(), nn.Linear(128, 3))

    def train(self, mode: bool = True) -> ImagePosterior:
        """Training mode of what is trained; the keypoint posterior stays in evaluation mode."""
        super().train(mode)
        self.keypoint_posterior.eval()
        return self

    @property
    def flow(self) -> ConditionalFlow:
        """The keypoint posterior's."""
        return self.keypoint_posterior.flow

    def condition(self, seen: Seen) -> Tensor:
        """Condition (B, C) of people as they were seen."""
        return self.look(seen).context

    def look(self, seen: Seen) -> Condition:
        """Condition of people as they were seen, with what the image network found."""
        told = self.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
        looked = seen.has_image.nonzero()[:, 0]
        if not len(looked):
            return Condition(told, None, looked)
        glance = self.encoder(seen.images[looked])
        rows = Seen(
            seen.images[looked], seen.has_image[looked], seen.keypoints[looked],
            seen.confidence[looked], seen.camera.rows(looked),
            Boxes(seen.box.center[looked], seen.box.side[looked]),
        )  # fmt: skip
        added = self.join(glance, told[looked], rows)
        return Condition(told.index_copy(0, looked, added), glance, looked)

    def join(self, glance: Glance, told: Tensor, seen: Seen) -> Tensor:
        """Condition (B, C) of people who all have a picture.

        Args:
            glance: what the image network saw. told: (B, C) condition of the keypoints given.
        """
        sure = torch.sigmoid(glance.confidence_logit)
        sure = torch.where(sure > _LEAST_SURE, sure, 0)
        box = seen.box
        found = box.center[:, None] + glance.place * box.side[:, None, None]
        own = self.keypoint_posterior.condition(found, sure, seen.camera)
        given = (seen.confidence > 0)[..., None]
        anything = given.any(1)
        offset = (seen.keypoints - found) / box.side[:, None, None]
        offset = torch.where(given, offset, 0).clamp(-_FAR, _FAR)
        known = torch.cat(
            (
                told, own, glance.whole, glance.root, crop_geometry(box, seen.camera),
                anything.to(told.dtype),
                glance.at_keypoints.flatten(1),
                glance.place.flatten(1), sure, 10 * glance.spread, glance.peak,
                5 * offset.flatten(1), seen.confidence, given[..., 0].to(told.dtype),
            ),
            -1,
        )  # fmt: skip
        return torch.where(anything, told, own) + self.fusion(known)

    def vectors(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """As `KeypointPosterior.vectors`."""
        return self.keypoint_posterior.vectors(rotations, betas)

    def bodies(self, latent: Tensor, context: Tensor) -> Bodies:
        """Bodies of latents (B, S, D)."""
        return self.keypoint_posterior.bodies(latent, context)

    def mode(self, context: Tensor) -> Bodies:
        """The bodies at z = 0, one of each."""
        return self.keypoint_posterior.mode(context)

    def sample(self, context: Tensor, count: int, generator: torch.Generator) -> Bodies:
        """Random bodies, `count` of each person."""
        return self.keypoint_posterior.sample(context, count, generator)

    def log_prob(self, rotations: Tensor, betas: Tensor, context: Tensor) -> Tensor:
        """Log density (B,) or (B, S) of bodies, nats."""
        return self.keypoint_posterior.log_prob(rotations, betas, context)

    def camera_numbers(self, context: Tensor, seen: Seen) -> tuple[Tensor, Boxes]:
        """The head (B, 3), and the boxes that its numbers are relative to.

        The box around the keypoints where there are any, else the crop.
        """
        given = (seen.confidence > 0).any(-1)
        around = keypoint_boxes(seen.keypoints, seen.confidence)
        numbers = torch.where(
            given[:, None],
            self.keypoint_posterior.camera_numbers(context),
            self.camera_head(context),
        )
        box = Boxes(
            torch.where(given[:, None], around.center, seen.box.center),
            torch.where(given, around.side, seen.box.side),
        )
        return numbers, box

    def translation(self, context: Tensor, betas: Tensor, seen: Seen, body: Body) -> Tensor:
        """Translation (B, 3), metres, at which the head sees bodies of the given betas (B, S)."""
        numbers, box = self.camera_numbers(context, seen)
        pelvis = pelvis_from_camera_numbers(numbers, box, seen.camera)
        return pelvis - body.rest_joints(betas)[:, joint_index("pelvis")]


def crop_geometry(box: Boxes, camera: Camera) -> Tensor:
    """(B, 3): direction of the crop's middle, and its size, relative to the focal length."""
    ray = (box.center - camera.center) / camera.focal
    size = (box.side / camera.focal.mean(-1)).log()
    return torch.cat((ray, 0.5 * (size[:, None] + 1.0)), -1)
