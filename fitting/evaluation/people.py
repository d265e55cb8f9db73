"""People to evaluate on: their crops, keypoints and true joints, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.models.body import Body
from flowfit.models.keypoints import SMPL24, KeypointSchema
from flowfit.models.kinematics import JOINT_NAMES
from flowfit.models.metrics import EVALUATION_JOINTS, pa_mpjpe
from flowfit.priors.base import Pose
from flowfit.priors.data.datasets.people import SCHEMA
from flowfit.priors.networks.encoders import Boxes

_LEAST_JOINTS = 4  # a similarity fits three points to any others


@dataclass(frozen=True)
class Joints:
    """What bodies are judged on.

    Attributes:
        schema: where the joints stand. names: which of them. root: their middle is where bodies
            are brought together for MPJPE.
    """

    schema: KeypointSchema
    names: tuple[str, ...]
    root: tuple[str, ...]

    def of(self, body: Body, betas: Tensor, rotations: Tensor) -> Tensor:
        """(..., K, 3) metres, all of the schema's; NaN where the body has no such point."""
        flat = body.keypoints(betas.flatten(0, -2), rotations.flatten(0, -4), self.schema)
        return flat.unflatten(0, betas.shape[:-1])

    def errors(self, found: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        """MPJPE and PA-MPJPE (B,) in mm; NaN of whom too little is known.

        Args:
            found, truth: (B, K, 3) metres. known: (B, K), which of the truth is known.
        """
        places = self.schema.indices(self.names)
        root = self.schema.indices(self.root)
        mpjpe = torch.full_like(found[:, 0, 0], torch.nan)
        aligned = mpjpe.clone()
        there = known[:, places] & found[:, places].isfinite().all(-1)
        rooted = known[:, root].all(-1)
        patterns, which = torch.unique(there, dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            if int(pattern.sum()) < _LEAST_JOINTS:
                continue
            rows = (which == number).nonzero()[:, 0]
            some = [place for place, good in zip(places, pattern.tolist(), strict=True) if good]
            aligned[rows] = pa_mpjpe(found[rows][:, some], truth[rows][:, some])
            apart = [points - points[:, root].mean(1, keepdim=True) for points in (found, truth)]
            distance = (apart[0] - apart[1])[rows][:, some].norm(dim=-1).mean(-1)
            mpjpe[rows] = torch.where(rooted[rows], distance, torch.nan)
        return {"pa_mpjpe": 1000 * aligned, "mpjpe": 1000 * mpjpe}


SMPL = Joints(SMPL24, EVALUATION_JOINTS, (JOINT_NAMES[0],))


def field_joints(names: Sequence[str]) -> Joints:
    """A dataset's joints; they are brought together at the middle of the hips."""
    return Joints(SCHEMA, tuple(names), ("lsp:LHip", "lsp:RHip"))


class Watched(NamedTuple):
    """B people.

    Attributes:
        names: for messages. images: (B, 3, N, N) crops, 0 to 1. box: where they were cut.
        detected: their keypoints as a detector has them. annotated: the true ones. Of whom there
            are none, all confidences are 0.
        truth: (B, K, 3) metres, the joints of `Joints.schema`. known: (B, K) boolean.
        pose: true rotations (B, 24, 3, 3), the root's in the camera's frame, and betas; NaN where
            not known.
        frame: (B,) whose views belong together, -1 for single ones.
    """

    names: tuple[str, ...]
    images: Tensor
    box: Boxes
    detected: FitProblem
    annotated: FitProblem
    truth: Tensor
    known: Tensor
    pose: Pose
    frame: Tensor


class PeopleSource(Protocol):
    """Where people come from, in the number type to compute in.

    Attributes:
        sets: names. joints: what they are judged on.
    """

    sets: tuple[str, ...]
    joints: Joints

    def parts(self, name: str) -> int:
        """Into how many parts a set is cut; a part is what is evaluated and saved at once."""
        ...

    def part(self, name: str, number: int) -> tuple[Watched | None, list[tuple[str, str]]]:
        """The people of a part, None where there is nobody, and who was passed over and why."""
        ...
