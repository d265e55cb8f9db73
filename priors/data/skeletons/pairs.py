"""Pairs of 2D and 3D skeletons to train lifting on: made up from motion capture, or from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import Detector, PeopleMaker, Scenery
from flowfit.priors.lifting.input import FACE, JOINTS, ROOT, to_joints

LEAST_SEEN = 5  # keypoints of a made-up person
# what a detector reports of the middle of the body: everything as Human3.6M's, Halpe's top of the
# head alone, or nothing as OpenPose and COCO
_TRUNK_AND_HEAD = ("Spine", "Jaw", "HeadTop")
_HALPE_HAS = "HeadTop"
_NO_TRUNK, _HALPE = 0.5, 0.15
_NO_FACE = 0.25
_NO_MIDDLE = 0.1
_ALL_SURE = 0.2  # detectors that say 1 for all they found
_CONFIDENCE_POWERS = (0.15, 2.0)


class Pairs(NamedTuple):
    """B people: what was seen of them, and where their joints are.

    Attributes:
        keypoints: (B, K, 2) pixels. confidence: (B, K). camera: of each person.
        joints: (B, 17, 3) metres, camera axes, the pelvis at the origin.
    """

    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    joints: Tensor


class PairSource(Protocol):
    """Where pairs come from; the same generator state draws the same pairs."""

    def draw(self, count: int, generator: torch.Generator) -> Pairs:
        """Some pairs."""
        ...


@dataclass(frozen=True, eq=False)
class MadeUpPairs:
    """People from motion capture through virtual cameras and a made-up detector.

    Attributes:
        makers: of people, and how many of each hundred are drawn from each.
        schema: what the network is told. disguised: also imitate other detectors.
    """

    makers: Sequence[tuple[PeopleMaker, float]]
    schema: KeypointSchema
    disguised: bool = True

    @classmethod
    def build(
        cls,
        body: Body,
        mocap: Mocap,
        schema: KeypointSchema,
        sceneries: Sequence[tuple[Scenery, float]],
        detector: Detector,
        augmentation: Augmentation | None,
        *,
        disguised: bool = True,
    ) -> MadeUpPairs:
        """From recordings; frequent actions are drawn less often than their frames would have."""
        poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).to(body.dtype)).to(body.device)
        weights = torch.from_numpy(mocap.balanced_weights()).to(poses)
        makers = [
            (PeopleMaker(body, poses, weights, schema, detector, scenery, augmentation), share)
            for scenery, share in sceneries
        ]
        return cls(makers, schema, disguised)

    def draw(self, count: int, generator: torch.Generator) -> Pairs:
        """Made-up pairs; the makers' people follow each other."""
        parts, left = [], count
        for place, (maker, share) in enumerate(self.makers):
            last = place == len(self.makers) - 1
            some = left if last else min(left, round(share * count))
            left -= some
            if some:
                parts.append(self._of(maker, some, generator))
        camera = Camera(
            torch.cat([p.camera.focal for p in parts]), torch.cat([p.camera.center for p in parts])
        )
        keypoints, confidence, joints = (
            torch.cat([getattr(p, name) for p in parts])
            for name in ("keypoints", "confidence", "joints")
        )
        return Pairs(keypoints, confidence, camera, joints)

    def _of(self, maker: PeopleMaker, count: int, generator: torch.Generator) -> Pairs:
        people = maker.draw(count, generator, least_seen=LEAST_SEEN)
        joints = maker.body.keypoints(people.betas, people.rotations, JOINTS)
        root = JOINTS.index(ROOT)
        joints = joints - joints[:, root : root + 1]
        keypoints, confidence = thorax_between_shoulders(
            self.schema, people.keypoints, people.confidence
        )
        if self.disguised:
            confidence = disguise(confidence, self.schema, generator)
        return Pairs(keypoints, confidence, people.camera, joints)


@dataclass(frozen=True, eq=False)
class FilePairs:
    """Pairs that were read from files, every one as likely.

    Attributes:
        keypoints: (N, K, 2) pixels. confidence: (N, K). focal, center: (N, 2) pixels.
        joints: (N, 17, 3) metres, camera axes, the pelvis at the origin.
    """

    keypoints: Tensor
    confidence: Tensor
    focal: Tensor
    center: Tensor
    joints: Tensor

    def __len__(self) -> int:
        return len(self.joints)

    def draw(self, count: int, generator: torch.Generator) -> Pairs:
        """Rows at random."""
        device = self.joints.device
        rows = torch.randint(len(self), (count,), generator=generator, device=device)
        return self.rows(rows)

    def to(self, device: torch.device | str) -> FilePairs:
        """The same on another device."""
        return FilePairs(*(getattr(self, f.name).to(device) for f in fields(self)))

    def rows(self, index: Tensor) -> Pairs:
        """Some of them."""
        camera = Camera(self.focal[index], self.center[index])
        return Pairs(self.keypoints[index], self.confidence[index], camera, self.joints[index])


@dataclass(frozen=True, eq=False)
class Mixed:
    """Half of the pairs from each of several sources."""

    sources: Sequence[PairSource]

    def draw(self, count: int, generator: torch.Generator) -> Pairs:
        """As many of each as can be."""
        shares = [count // len(self.sources)] * len(self.sources)
        shares[0] += count - sum(shares)
        parts = [s.draw(n, generator) for s, n in zip(self.sources, shares, strict=True) if n]
        camera = Camera(
            torch.cat([p.camera.focal for p in parts]), torch.cat([p.camera.center for p in parts])
        )
        kept = [torch.cat(t) for t in zip(*((p[0], p[1], p[3]) for p in parts), strict=True)]
        return Pairs(kept[0], kept[1], camera, kept[2])


def thorax_between_shoulders(
    schema: KeypointSchema, keypoints: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """The thorax as detectors report it, in the middle of the shoulders; new tensors."""
    bare = confidence.clone()
    bare[:, schema.index("Thorax")] = 0
    return to_joints(schema, schema, keypoints, bare)


def disguise(confidence: Tensor, schema: KeypointSchema, generator: torch.Generator) -> Tensor:
    """Confidences (B, K) as other detectors report them, without the joints that they lack."""
    count, device, dtype = len(confidence), confidence.device, confidence.dtype

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=dtype, device=device)

    low, high = (torch.tensor(p).log().item() for p in _CONFIDENCE_POWERS)
    told = confidence ** torch.exp(low + (high - low) * rand(1))
    told = torch.where(rand(1) < _ALL_SURE, 1.0, told)
    told = torch.where(confidence > 0, told, 0)

    def leave_out(names: Sequence[str], who: Tensor) -> None:
        for name in names:
            if name in schema:
                place = schema.index(name)
                told[:, place] = torch.where(who, 0, told[:, place])

    kind = rand()
    leave_out(_TRUNK_AND_HEAD, kind < _NO_TRUNK)
    halpe = (kind >= _NO_TRUNK) & (kind < _NO_TRUNK + _HALPE)
    leave_out([n for n in _TRUNK_AND_HEAD if n != _HALPE_HAS], halpe)
    # Human3.6M has no face, detectors without its trunk mostly have one
    leave_out(FACE, (kind >= _NO_TRUNK + _HALPE) & (rand() < 2 * _NO_FACE))
    leave_out(FACE, rand() < 0.2 * _NO_FACE)
    leave_out((ROOT, "Thorax"), rand() < _NO_MIDDLE)
    return told
