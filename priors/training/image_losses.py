"""What an image posterior is trained on: one batch of pictures, and the terms of its loss.

Every person is shown twice, the picture alone and the picture with the keypoints, so that either
may be missing later. Keypoints alone need no training: that is the keypoint posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rotations import matrix_to_rotation_6d
from flowfit.priors.data.datasets.people import SCHEMA
from flowfit.priors.data.people.disguise import disguise
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.data.pictures.batches import Batch
from flowfit.priors.data.pictures.crops import turn_to_crop
from flowfit.priors.image.encoder import Glance
from flowfit.priors.image.fusion import turns_to_camera
from flowfit.priors.image.mending import Mended
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.networks.encoders import Boxes, Known
from flowfit.priors.training.keypoint_losses import LossWeights, Told, told_losses
from flowfit.priors.training.keypoints import rows_of

_FAR = 0.15  # crop sides
_RIGHT_WITHIN = 0.05  # crop sides; a given keypoint that is farther from the true one is wrong
_PEAK = 1.0  # width of a map's true peak, in its cells
_FACE = ("Nose", "LEye", "REye", "LEar", "REar")


@dataclass(frozen=True)
class OwnKeypointWeights:
    """Factors of what the image network's own keypoints cost, beside the posterior's terms.

    Attributes:
        place: of the distances, x plus y in crop sides, summed over the keypoints in the crop; of
            keypoints that are looked for in quite another place they count as 0.15 each.
        heat: of the cross entropy of the maps with a narrow peak at the true place, summed over the
            keypoints in the crop; it is what teaches an untrained network where to look.
        found: of the cross entropy of whether a keypoint is there, summed over the keypoints.
        root: of the squared distance of the pelvis' 6D rotation.
        turns: of the squared distance of all joints' rotations to the camera, as the network that
            joins picture and keypoints sees them, summed over the joints.
        moved: of the distances of given keypoints after mending, as `place`; of those that are
            right. right: of the cross entropy of whether a given keypoint is, summed over them.
    """

    place: float = 0.1
    heat: float = 0.01
    found: float = 0.005
    root: float = 0.05
    turns: float = 0.02
    moved: float = 0.2
    right: float = 0.005


class Truth(NamedTuple):
    """What is known of a batch.

    Attributes:
        people: true bodies and cameras; the keypoints and confidences are the detector's.
        box: the crops. inside: (B, K) whether a true keypoint lies in the crop and in the picture.
        has_body: (B,) whether the body is known; the others' rows of `people` mean nothing.
    """

    people: People
    box: Boxes
    inside: Tensor
    has_body: Tensor


def truth_of(batch: Batch, body: Body, schema: KeypointSchema) -> Truth:
    """The truth of a batch, in the posterior's keypoint schema.

    Of people without a known body the annotated keypoints are taken for true.
    """
    labels = batch.labels
    places = SCHEMA.map_to(schema)
    chosen = torch.tensor([max(p, 0) for p in places])
    there = torch.tensor([p >= 0 for p in places])
    keypoints = labels.keypoints[:, chosen]
    confidence = torch.where(there, labels.confidence[:, chosen], 0)
    has_body = labels.has_pose & labels.has_betas & labels.has_transl
    points = body.keypoints(labels.betas, labels.rotations, schema, labels.transl)
    available = body.keypoint_model(schema).available
    pixels, in_front = labels.camera.project(points.nan_to_num())
    true = torch.where(has_body[:, None, None], pixels, keypoints)
    known = torch.where(has_body[:, None], in_front & available, confidence > 0)
    box = labels.box
    off = ((true - box.center[:, None]) / box.side[:, None, None]).abs().amax(-1)
    inside = known & (off < 0.5)
    inside &= ((true >= 0) & (true < labels.size[:, None])).all(-1)
    people = People(
        labels.rotations, labels.betas, labels.transl, keypoints, confidence,
        labels.camera, labels.size, true, *Known.nothing(true),
    )  # fmt: skip
    return Truth(people, box, inside, has_body)


def to_device(batch: Batch, truth: Truth, device: torch.device) -> tuple[Tensor, Truth]:
    """Images and truth on a device."""

    def move(value: Tensor | Camera | Boxes) -> Tensor | Camera | Boxes:
        if isinstance(value, Camera):
            return value.to(device=device)
        if isinstance(value, Boxes):
            return Boxes(*(t.to(device) for t in value))
        return value.to(device)

    people = People(*(move(v) for v in truth.people))  # type: ignore[arg-type]
    box = Boxes(*(t.to(device) for t in truth.box))
    moved = Truth(people, box, truth.inside.to(device), truth.has_body.to(device))
    return batch.images.to(device), moved


def with_exact_keypoints(truth: Truth, share: float, generator: torch.Generator) -> Truth:
    """The batch with true keypoints in place of detected ones for a share of the known bodies.

    Those that lie in the crop and in the picture are all told, with confidence 1, as of people
    whose keypoints were marked by hand.
    """
    if share == 0:
        return truth
    people = truth.people
    like = people.confidence
    drawn = torch.rand(len(like), generator=generator, dtype=like.dtype, device=like.device)
    exact = ((drawn < share) & truth.has_body)[:, None]
    places = torch.where(truth.inside[..., None], people.true_keypoints, 0)
    told = people._replace(
        keypoints=torch.where(exact[..., None], places, people.keypoints),
        confidence=torch.where(exact, truth.inside.to(like.dtype), like),
    )
    return truth._replace(people=told)


def own_keypoint_losses(glance: Glance, truth: Truth, schema: KeypointSchema) -> dict[str, Tensor]:
    """The terms of `OwnKeypointWeights`, unweighted, summed over keypoints, mean over people."""
    box = truth.box
    true = (truth.people.true_keypoints - box.center[:, None]) / box.side[:, None, None]
    true = torch.where(truth.inside[..., None], true, 0)
    error = (glance.place - true).abs().clamp(max=_FAR)
    error = torch.where(truth.inside[..., None], error, 0).sum((-1, -2))
    # of the faces of people who look away the detector says so
    face = torch.tensor([n in _FACE for n in schema.names], device=error.device)
    found = truth.inside & (~face | (truth.people.confidence > 0))
    entropy = binary_cross_entropy_with_logits(
        glance.confidence_logit, found.to(error.dtype), reduction="none"
    )
    size = glance.log_map.shape[-1]
    line = torch.arange(size, dtype=true.dtype, device=true.device) + 0.5 - size / 2
    far = (line - true[..., None] * size) / _PEAK  # (B, K, 2, M)
    across, down = (-0.5 * far.square()).softmax(-1).unbind(-2)
    heat = -torch.einsum("bky,bkyx,bkx->bk", down, glance.log_map, across)
    heat = torch.where(truth.inside, heat, 0)
    turn = turn_to_crop(box, truth.people.camera)
    root = matrix_to_rotation_6d(turn.transpose(-1, -2) @ truth.people.rotations[:, 0])
    off = (glance.root - root).square().sum(-1) * truth.has_body
    return {
        "own_place": error.mean(),
        "own_heat": heat.sum(-1).mean(),
        "own_found": entropy.sum(-1).mean(),
        "own_root": off.sum() / truth.has_body.sum().clamp(min=1),
    }


def mending_losses(mended: Mended, told: Tensor, truth: Truth) -> dict[str, Tensor]:
    """What the mended keypoints cost, unweighted, summed over keypoints, mean over people.

    Args:
        told: (B, K) confidences of the keypoints that were given.
    """
    box = truth.box

    def in_crop(pixels: Tensor) -> Tensor:
        place = (pixels - box.center[:, None]) / box.side[:, None, None]
        return torch.where(truth.inside[..., None], place, 0)

    true = in_crop(truth.people.true_keypoints)
    given = truth.inside & (told > 0)
    right = given & ((in_crop(truth.people.keypoints) - true).norm(dim=-1) < _RIGHT_WITHIN)
    error = torch.where(right[..., None], (mended.moved - true).abs(), 0)
    entropy = binary_cross_entropy_with_logits(
        mended.right_logit, right.to(true.dtype), reduction="none"
    )
    return {
        "own_moved": error.sum((-1, -2)).mean(),
        "own_right": torch.where(given, entropy, 0).sum(-1).mean(),
    }


def image_losses(
    posterior: ImagePosterior,
    images: Tensor,
    truth: Truth,
    body: Body,
    schema: KeypointSchema,
    weights: LossWeights,
    own: OwnKeypointWeights,
    generator: torch.Generator,
    *,
    keypoints_only: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and its terms, unweighted.

    Args:
        images: (B, 3, N, N) crops. keypoints_only: leave the posterior's terms out, as in the
            first steps, when the image network does not see anything yet.
    """
    glance = posterior.encoder(images)
    terms = own_keypoint_losses(glance, truth, schema)
    total = _weighted(terms, own)
    if keypoints_only or not bool(truth.has_body.any()):
        return total, terms
    rows = truth.has_body.nonzero()[:, 0]
    people, box = rows_of(truth.people, rows), Boxes(truth.box.center[rows], truth.box.side[rows])
    if len(rows) < len(images):
        glance = Glance(*(t[rows] for t in glance))
    told = disguise(people.confidence, schema, 0.0, generator)
    contexts, numbers, around, joins = [], [], [], []
    true_turns = turns_to_camera(people.rotations, turn_to_crop(box, people.camera))
    for confidence in (torch.zeros_like(told), told):  # the picture alone, and both
        seen = Seen(
            images[rows], torch.ones_like(rows, dtype=torch.bool), people.keypoints, confidence,
            people.camera, box,
        )  # fmt: skip
        first = posterior.keypoint_posterior.condition(seen.keypoints, seen.confidence, seen.camera)
        joins.append(posterior.join(glance, first, seen))
        contexts.append(joins[-1].context)
        of_camera, its_box = posterior.camera_numbers(contexts[-1], seen)
        numbers.append(of_camera)
        around.append(its_box)
    # mixed, so that random samples are drawn of either kind
    order = torch.randperm(2 * len(rows), generator=generator, device=rows.device)
    everyone = Told(
        torch.cat(contexts)[order],
        torch.cat(numbers)[order],
        Boxes(*(torch.cat(parts)[order] for parts in zip(*around, strict=True))),
        truth.inside[rows].repeat(2, 1)[order],
    )
    off = torch.cat([(j.turns - true_turns).square().sum((-1, -2)) for j in joins])
    known = Truth(people, box, truth.inside[rows], truth.has_body[rows])
    joined = {"own_turns": off.mean(), **mending_losses(joins[-1].mended, told, known)}
    people = rows_of(people, order % len(rows))
    losses = told_losses(posterior, body, schema, people, everyone, weights, generator)
    total = total + _weighted(joined, own)
    return total + losses.total, {**terms, **joined, **losses.terms}


def _weighted(terms: dict[str, Tensor], own: OwnKeypointWeights) -> Tensor:
    factors = {name: getattr(own, name.removeprefix("own_")) for name in terms}
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()
