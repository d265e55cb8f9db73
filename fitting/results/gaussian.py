"""A fit's surroundings as a Gaussian: Laplace's approximation, by the normal equations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation
from flowfit.fitting.results.laplace import whitening
from flowfit.models.rows import Rows


@dataclass(frozen=True, eq=False)
class Laplace(Rows):
    """Gaussians over the steps of B people, each around its own state.

    The inverse covariance is D^-1 L L' D^-1 with D diagonal, as in `uncertainty.Whitening`.

    Attributes:
        scale: (B, P), D. factor: (B, P, P), L. good: (B,), whether the Hessian has an inverse.
    """

    scale: Tensor
    factor: Tensor
    good: Tensor

    @classmethod
    def of(cls, evaluation: Evaluation) -> Laplace:
        """From an exact evaluation of which every number of the step is free."""
        everything = torch.arange(evaluation.gradient.shape[-1], device=evaluation.gradient.device)
        return cls(*whitening(evaluation, everything))

    def steps(self, noise: Tensor) -> Tensor:
        """Draws (B, S, P) from standard normal noise (B, S, P)."""
        turned = torch.linalg.solve_triangular(self.factor.mT, noise.double().mT, upper=True).mT
        return (turned * self.scale[:, None]).to(noise.dtype)
