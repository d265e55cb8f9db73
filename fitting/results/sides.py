"""Left and right: whose limbs a detector may have exchanged, and keypoints with them put back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.models.keypoints import KeypointSchema, mirrored_keypoint

_LEGS = ("hip", "knee", "ankle", "bigtoe", "smalltoe", "heel")
_ARMS = ("elbow", "wrist")
# what changes sides -> how the names of its keypoints end
EXCHANGED: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "legs": _LEGS,
    "arms": _ARMS,
    "legs and arms": (*_LEGS, *_ARMS),
}
SIDES = tuple(EXCHANGED)  # a result's `exchanged` counts in these
AS_SEEN = SIDES[0]


def exchange(schema: KeypointSchema, ends: tuple[str, ...]) -> list[int]:
    """Which keypoint stands at each place when those whose names end so change sides."""
    return [
        schema.index(mirrored_keypoint(name) if _plain(name).endswith(ends) else name)
        for name in schema.names
    ]


def order_of(schema: KeypointSchema, exchanged: Tensor) -> Tensor:
    """Which keypoint stands at each place: (B, K) for exchanges (B,), counted in `SIDES`."""
    orders = [exchange(schema, ends) for ends in EXCHANGED.values()]
    return torch.tensor(orders, device=exchanged.device)[exchanged]


def put_back(problem: FitProblem, exchanged: Tensor) -> FitProblem:
    """The keypoints (of B people) with what a detector exchanged, (B,) in `SIDES`, on its side."""
    order = order_of(problem.schema, exchanged)
    return replace(
        problem,
        keypoints=problem.keypoints.gather(1, order[..., None].expand(-1, -1, 2)),
        confidence=problem.confidence.gather(1, order),
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
