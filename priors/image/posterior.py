"""p(body | picture, keypoints): the keypoint posterior, told also what an image network sees.

Either may be missing. The keypoint posterior stays as it was trained. Of a picture, the image
network finds keypoints of its own, which stand in where none are given. Features are read at the
keypoints and along the limbs; with them the given keypoints are mended, and a small network adds to
the condition what the picture tells beyond keypoints. All that is added begins at zero: before
training, picture and keypoints together are the keypoint posterior, and keypoints alone always are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.kinematics import joint_index
from flowfit.priors.data.pictures.crops import turn_to_crop
from flowfit.priors.image.encoder import Glance, ImageEncoder
from flowfit.priors.image.fusion import Fusion, Joined, turns_to_camera
from flowfit.priors.image.mending import Mender
from flowfit.priors.image.points import PointReader
from flowfit.priors.keypoints.posterior import Bodies, KeypointPosterior, pelvis_from_camera_numbers
from flowfit.priors.networks.encoders import Boxes, keypoint_boxes
from flowfit.priors.networks.flow import ConditionalFlow

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


class ImagePosterior(nn.Module):
    """Flow posterior conditioned on a picture, keypoints, or both.

    Args:
        keypoint_posterior: in whose flow the bodies live; its weights are not trained.
        image_size: N, pixels of the crops, a multiple of 32. fusion: width of the network that
            joins what is seen. blocks: that it is deep. encoder: sizes of the `ImageEncoder`.
            points: sizes of the `PointReader`. schema: of the keypoints.
    """

    def __init__(
        self,
        keypoint_posterior: KeypointPosterior,
        *,
        image_size: int = 128,
        fusion: int = 384,
        blocks: int = 3,
        encoder: Mapping[str, Any] | None = None,
        points: Mapping[str, Any] | None = None,
        schema: KeypointSchema = BODY25,
    ) -> None:
        super().__init__()
        self.keypoint_posterior = keypoint_posterior.requires_grad_(False)
        self.image_size, self.num_betas = image_size, keypoint_posterior.num_betas
        self.keypoints = keypoint_posterior.encoder.keypoints
        if len(schema) != self.keypoints:
            raise ValueError(f"{self.keypoints} keypoints; schema {schema.name} has {len(schema)}")
        self.encoder = ImageEncoder(self.keypoints, **(encoder or {}))
        self.reader = PointReader(schema, self.encoder.map_features, **(points or {}))
        context = keypoint_posterior.flow.context
        inputs = 2 * context + self.encoder.whole_features + _ROOT + _GEOMETRY + 1
        inputs += self.keypoints * (self.encoder.keypoint_features + 5 + 4)
        self.mender = Mender(self.keypoints, self.reader.features)
        close = self.reader.points * self.reader.features + context
        self.fusion = Fusion(inputs, close, fusion, context, blocks)
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
        joined = self.join(glance, told[looked], rows)
        return Condition(told.index_copy(0, looked, joined.context), glance, looked)

    def join(self, glance: Glance, told: Tensor, seen: Seen) -> Joined:
        """Condition (B, C) of people who all have a picture.

        Args:
            glance: what the image network saw. told: (B, C) condition of the keypoints given.
        """
        sure = torch.sigmoid(glance.confidence_logit)
        sure = torch.where(sure > _LEAST_SURE, sure, 0)
        box, given = seen.box, seen.confidence > 0
        anything = given.any(1, keepdim=True)
        found = box.center[:, None] + glance.place * box.side[:, None, None]
        own = self.keypoint_posterior.condition(found, sure, seen.camera)
        offset = (seen.keypoints - found) / box.side[:, None, None]
        offset = torch.where(given[..., None], offset, 0).clamp(-_FAR, _FAR)
        known = torch.cat(
            (
                told, own, glance.whole, glance.root, crop_geometry(box, seen.camera),
                anything.to(told.dtype),
                glance.at_keypoints.flatten(1),
                glance.place.flatten(1), sure, 10 * glance.spread, glance.peak,
                5 * offset.flatten(1), seen.confidence, given.to(told.dtype),
            ),
            -1,
        )  # fmt: skip

        place = glance.place + offset  # given, or found
        close = self.reader(
            (glance.near, glance.wide), place, given, torch.where(given, seen.confidence, sure)
        )
        around = keypoint_boxes(seen.keypoints, seen.confidence)
        outside = (found - around.center[:, None]).abs().amax(-1) > around.side[:, None] / 2
        mended = self.mender(
            close[:, : self.keypoints], glance, place, seen.confidence, sure, ~(outside & anything)
        )
        there = box.center[:, None] + mended.place * box.side[:, None, None]
        better = self.keypoint_posterior.condition(there, mended.confidence, seen.camera)

        with torch.no_grad():  # a starting point, not a way for what is learned
            rotations = self.keypoint_posterior.mode(better).rotations[:, 0]
            guess = turns_to_camera(rotations, turn_to_crop(box, seen.camera))
        added = self.fusion(known, torch.cat((close.flatten(1), better), -1), guess)
        first = torch.where(anything, told, own)
        context = first + added.trust * (better - first) + added.context
        return Joined(context, mended, guess + added.turns)

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
