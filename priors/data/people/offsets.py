"""What a detector calls a joint is not SMPL's joint: offsets of keypoints in their bones' axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import joint_index

# the bone in whose axes a keypoint's offset is, by end of the name; x is outwards on both sides
_BONES = {
    **{"Hip": "pelvis", "Shoulder": "spine3", "Elbow": "{side}_shoulder"},
    **{"Wrist": "{side}_elbow", "Knee": "{side}_hip", "Ankle": "{side}_knee"},
    **{"Toe": "{side}_ankle", "Heel": "{side}_ankle"},
    **{"Nose": "head", "Eye": "head", "Ear": "head"},
}

Centimetres = tuple[float, float, float]


class Family(NamedTuple):
    """Where detectors of a kind put a keypoint, from SMPL's point: cm outwards, up, ahead.

    Attributes:
        mean: of the family. spread: standard deviation among its detectors and people.
    """

    mean: Centimetres
    spread: Centimetres


_FACE = Family((0.0, 0.0, 0.0), (0.5, 0.7, 0.7))
_FOOT = Family((0.0, 0.0, 0.0), (0.8, 0.8, 1.2))
# SMPL's own points; points as annotators click them (hips at the sides, shoulders further in);
# points as capture systems with many views report them (hips at the sides and up). Guesses, not
# measured: they are still to be estimated from the training half of the real scenes
FAMILIES: tuple[Mapping[str, Family], ...] = (
    {
        "Hip": Family((0.3, 0.0, 0.0), (0.8, 0.8, 0.8)),
        "Shoulder": Family((0.0, 0.0, 0.0), (0.7, 0.7, 0.7)),
        **dict.fromkeys(("Elbow", "Wrist", "Knee", "Ankle"), Family((0, 0, 0), (0.5, 0.5, 0.5))),
        **dict.fromkeys(("Nose", "Eye", "Ear"), _FACE),
        **dict.fromkeys(("Toe", "Heel"), _FOOT),
    },
    {
        "Hip": Family((2.5, 1.0, 0.0), (1.5, 2.0, 1.0)),
        "Shoulder": Family((-1.0, 0.0, 0.0), (1.2, 1.5, 1.0)),
        **dict.fromkeys(("Elbow", "Wrist", "Knee", "Ankle"), Family((0, 0, 0), (1.0, 1.0, 1.0))),
        **dict.fromkeys(("Nose", "Eye", "Ear"), _FACE),
        **dict.fromkeys(("Toe", "Heel"), _FOOT),
    },
    {
        "Hip": Family((3.0, 3.0, 0.0), (1.5, 2.0, 1.5)),
        "Shoulder": Family((-2.0, -0.5, 0.0), (1.5, 1.5, 1.0)),
        **dict.fromkeys(("Elbow", "Wrist", "Knee", "Ankle"), Family((0, 0, 0), (1.2, 1.2, 1.2))),
        **dict.fromkeys(("Nose", "Eye", "Ear"), _FACE),
        **dict.fromkeys(("Toe", "Heel"), _FOOT),
    },
)
_SAME_ON_BOTH_SIDES = 0.8  # of the variance: an error of meaning, not of the eye


@dataclass(frozen=True)
class KeypointOffsets:
    """What a detector calls a joint is not SMPL's: an offset in the axes of its bone, per person.

    Attributes:
        shares: how often each of `FAMILIES` is drawn; all zero means no offsets at all.
    """

    shares: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __bool__(self) -> bool:
        return any(self.shares)

    def draw(
        self, schema: KeypointSchema, turned: Tensor, size: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Offsets (B, K, 3), metres, of people with global rotations (B, 24, 3, 3).

        Args:
            size: (B,) of the person, as a share of the mean adult.
        """
        count, device, dtype = len(turned), turned.device, turned.dtype
        table = _table(schema)
        shares = torch.tensor(self.shares, dtype=dtype, device=device)
        family = torch.multinomial(shares, count, True, generator=generator)
        mean = table.mean.to(device=device, dtype=dtype)[family]
        spread = table.spread.to(device=device, dtype=dtype)[family]

        def normal() -> Tensor:
            shape = (count, len(schema), 3)
            return torch.randn(shape, generator=generator, dtype=dtype, device=device)

        own = normal()
        both = normal()[:, table.first]  # the left side's numbers serve the right side, too
        noise = math.sqrt(_SAME_ON_BOTH_SIDES) * both + math.sqrt(1 - _SAME_ON_BOTH_SIDES) * own
        local = (mean + spread * noise) * table.outward.to(device=device, dtype=dtype)
        axes = turned[:, table.bone]
        moved = (axes * local[..., None, :]).sum(-1)
        return 0.01 * size[:, None, None] * moved


class _Table(NamedTuple):
    """By keypoint: mean and spread (F, K, 3), the bone (K,), signs (K, 3), whose noise (K,)."""

    mean: Tensor
    spread: Tensor
    bone: Tensor
    outward: Tensor
    first: Tensor


_tables: dict[str, _Table] = {}


def _table(schema: KeypointSchema) -> _Table:
    if schema.name not in _tables:
        _tables[schema.name] = _make_table(schema)
    return _tables[schema.name]


def _make_table(schema: KeypointSchema) -> _Table:
    count = len(schema)
    mean, spread = (torch.zeros(len(FAMILIES), count, 3) for _ in range(2))
    bone = torch.zeros(count, dtype=torch.long)
    outward, first = torch.ones(count, 3), torch.arange(count)
    for place, name in enumerate(schema.names):
        end = next((e for e in _BONES if name.endswith(e)), None)
        if end is None or schema.midpoint_of(name) is not None:
            continue  # middle points follow their neighbours
        side = {"L": "left", "R": "right"}.get(name[0], "left")
        bone[place] = joint_index(_BONES[end].format(side=side))
        if name.startswith("R"):
            outward[place, 0] = -1
            first[place] = min(place, schema.flip[place])
        elif name.startswith("L"):
            first[place] = min(place, schema.flip[place])
        for kind, family in enumerate(FAMILIES):
            mean[kind, place] = torch.tensor(family[end].mean, dtype=torch.float32)
            spread[kind, place] = torch.tensor(family[end].spread, dtype=torch.float32)
    return _Table(mean, spread, bone, outward, first)
