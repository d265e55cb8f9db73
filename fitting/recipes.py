"""What a fit minimises and in which stages: data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reprojection:
    """The data term: sum over keypoints of c^p rho(r) / (2 sigma^2), r the error in person's sizes.

    Attributes:
        sigma: expected detector noise. scale: Geman-McClure's. Both in the person's sizes.
        confidence_power: p; 1, or 2 as in SMPLify and ProHMR.
        per_axis: rho is applied to the error's x and y each, as SMPLify and ProHMR do; else to its
            length.
        in_pixels: as ProHMR has it: sigma in thousandths of the picture's longer side, scale in
            pixels, however large the person is.
        ignored: keypoints that are left out.
    """

    sigma: float
    scale: float
    confidence_power: float = 1.0
    per_axis: bool = False
    in_pixels: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One minimisation.

    Attributes:
        name: for the log. free: blocks that move ("all", or names of the prior's blocks and
            "transl"). reprojection: the data term. weights: factor of each prior energy term by
            name (1 where not named). iterations: at most. keep: how many of a person's start
            hypotheses go on to the next stage.
    """

    name: str
    free: tuple[str, ...]
    reprojection: Reprojection
    weights: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 30
    keep: int = 1


@dataclass(frozen=True)
class Recipe:
    """A named way to fit.

    Attributes:
        name: what results call it. prior: the default prior's name. stages: run in order.
        doubt: with a prior that looks at the keypoints: those further than this from where the
            body has them (in the person's sizes) are doubted; the prior is told what was seen
            again, without them, and the person is fitted once more. None: never.
        whole_person: the unit of noise and outlier scales is the whole person's size, seen or
            not; else the box around what was seen.
    """

    name: str
    prior: str
    stages: tuple[Stage, ...]
    doubt: float | None = None
    whole_person: bool = True


# found on validation people by `python -m benchmarks.tune`; the mixture's fits begin all around,
# far from the truth, and want a more forgiving loss than fits that begin at a posterior's mode
_FINE = Reprojection(sigma=0.014, scale=0.05)
_FINE_GMM = Reprojection(sigma=0.010, scale=0.10)
_HIPS = ("MidHip", "RHip", "LHip", "lsp:RHip", "lsp:LHip")
# ProHMR's objective, halved as every energy here is
_PROHMR = Reprojection(
    sigma=1.0,
    scale=100.0,
    confidence_power=2.0,
    per_axis=True,
    in_pixels=True,
    ignored=_HIPS,
)
_WEIGHTS = {"pose": 1.0, "shape": 1.0, "limits": 1.0, "upright": 16.0}

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe(
            "flow",
            "keypoint-flow",
            (
                Stage("camera", ("transl",), Reprojection(0.03, 0.3), _WEIGHTS, 5),
                Stage("coarse", ("all",), Reprojection(0.03, 0.3), _WEIGHTS, 10),
                Stage("fine", ("all",), _FINE, _WEIGHTS, 60),
            ),
            doubt=0.12,
        ),
        Recipe(
            "prohmr",
            "keypoint-flow",
            (Stage("all", ("all",), _PROHMR, {"latent": 4.0**2, "shape": 6.0**2}, 60),),
            whole_person=False,
        ),
        Recipe(
            "gmm",
            "gmm",
            (
                Stage("camera", ("root", "transl"), Reprojection(0.05, 0.5), _WEIGHTS, 10, 8),
                Stage("coarse", ("all",), Reprojection(0.03, 0.3), _WEIGHTS, 12, 4),
                Stage("fine", ("all",), _FINE_GMM, _WEIGHTS, 60, 1),
            ),
        ),
    )
}
