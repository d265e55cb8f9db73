"""The data term: robust reprojection errors, of one view and of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Reprojection
from flowfit.fitting.energy.units import UNITS, Unit
from flowfit.models.body import Body

_LEAST_ALONE = 2  # keypoints; fewer than these fix neither a place nor a size


class Met(NamedTuple):
    """How keypoints are met.

    Attributes:
        energy: (...) nats. error: (..., K, 2) pixels, 0 where nothing was seen.
        weight: (..., K, 1), per axis (..., K, 2): what a squared pixel of the error weighs in the
            quadratic model (iteratively reweighted least squares); 0 behind the camera.
    """

    energy: Tensor
    error: Tensor
    weight: Tensor

    def linearized(self, to_pixels: Tensor) -> tuple[Tensor, Tensor]:
        """For Gauss-Newton: weighted errors (..., K, 2) and their derivatives (..., K, 2, 3).

        Args:
            to_pixels: (..., K, 2, 3), of the pixels by the points in the camera's frame.
        """
        root = self.weight.sqrt()
        return root * self.error, root[..., None] * to_pixels


@dataclass(frozen=True, eq=False)
class ReprojectionTerm:
    """Half the sum over keypoints of trust times Geman-McClure's loss of the error.

    Leading axes are free: people, candidates of a person, or the views of a frame.

    Attributes:
        seen: (..., K, 2) pixels. trust: (..., K), what a squared pixel of an error weighs; 0 where
            nothing was seen. scale: (...) pixels, Geman-McClure's.
        per_axis: the loss is of x and y each, else of the error's length.
    """

    seen: Tensor
    trust: Tensor
    scale: Tensor
    per_axis: bool

    @classmethod
    def of(cls, data: Reprojection, seen: Tensor, evidence: Tensor, unit: Unit) -> ReprojectionTerm:
        """The term of a stage.

        Args:
            data: its numbers. seen: (..., K, 2) pixels. evidence: (..., K), from 0 to 1.
            unit: pixels (...) that they are counted in.
        """
        power = torch.where(evidence == 0, 0, evidence**data.confidence_power)
        trust = power / (data.sigma * unit.sigma[..., None]) ** 2
        return cls(seen, trust, data.scale * unit.scale, data.per_axis)

    @classmethod
    def of_people(cls, data: Reprojection, problem: FitProblem, body: Body) -> ReprojectionTerm:
        """The term of B people, over what both a stage and the body know."""
        evidence = problem.confidence if data.midpoints else problem.evidence()
        evidence = evidence * body.keypoint_model(problem.schema).available
        names = problem.schema.names
        evidence[:, [i for i, name in enumerate(names) if name in data.ignored]] = 0
        if data.only:
            alone = evidence.clone()
            alone[:, [i for i, name in enumerate(names) if name not in data.only]] = 0
            enough = (alone > 0).sum(-1, keepdim=True) >= _LEAST_ALONE
            evidence = torch.where(enough, alone, evidence)
        return cls.of(data, problem.keypoints, evidence, UNITS[data.unit](problem))

    def met(self, pixels: Tensor, in_front: Tensor) -> Met:
        """How keypoints at some pixels (..., K, 2) meet what was seen.

        Args:
            pixels: where the body has them. in_front: (..., K), whether of the camera. What lies
                behind it is as wrong as can be, in no direction.
        """
        trust, scale = self.trust[..., None], self.scale[..., None, None]
        there = trust > 0
        error = torch.where(there, pixels - self.seen, 0)
        squared = error * error
        if not self.per_axis:
            squared = squared.sum(-1, keepdim=True)
        loss, weight = geman_mcclure(squared, scale)
        loss = torch.where(in_front[..., None] | ~there, loss, scale**2)
        weight = trust * weight * in_front[..., None]
        return Met(0.5 * (trust * loss).sum((-1, -2)), error, weight)


def geman_mcclure(squared: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """Geman-McClure's loss s^2 r^2 / (s^2 + r^2), which grows to s^2 and no further.

    Args:
        squared: r^2. scale: s, in the unit of r.

    Returns:
        The loss, and its derivative by r^2: the weight of iteratively reweighted least squares.
        (Its true second derivative is negative beyond s / sqrt 3 and is no use in a solver.)
    """
    ratio = scale * scale / (scale * scale + squared)
    return ratio * squared, ratio * ratio
