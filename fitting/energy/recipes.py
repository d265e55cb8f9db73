"""What a fit minimises and in which stages: data, not code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowfit.models.errors import InputError


@dataclass(frozen=True)
class Reprojection:
    """The data term: sum over keypoints of c^p rho(r) / (2 sigma^2), r the error in its unit.

    Attributes:
        sigma: expected detector noise. scale: Geman-McClure's. Both in the unit.
        confidence_power: p; 1, or 2 as in SMPLify and ProHMR; 0 counts what was seen as sure.
        per_axis: rho is applied to the error's x and y each, as SMPLify and ProHMR do; else to its
            length.
        unit: what sigma and scale are counted in, a name in `units.UNITS`.
        ignored: keypoints that are left out.
        only: keypoints that alone count, of whoever has two of them or more; () for all.
        midpoints: a neck and a mid-hip count beside the shoulders and hips that they lie between.
    """

    sigma: float
    scale: float
    confidence_power: float = 1.0
    per_axis: bool = False
    unit: str = "person"
    ignored: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    midpoints: bool = False


@dataclass(frozen=True)
class Stage:
    """One minimisation.

    Attributes:
        name: for the log. free: blocks that move ("all", or names of the prior's blocks and
            "transl"). reprojection: the data term. weights: factor of each prior energy term by
            name (1 where not named); "depth", where named, holds the depth where the fit began.
            iterations: at most. keep: how many of a person's start hypotheses go on to the next
            stage.
        solver: a name in `solvers.SOLVERS`. rate: Adam's step size, radians.
        turn_below: whoever's shoulders are seen nearer to each other than this (in the unit of the
            data term's scale) is fitted turned about, too, from this stage on.
    """

    name: str
    free: tuple[str, ...]
    reprojection: Reprojection
    weights: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 30
    keep: int = 1
    solver: str = "lm"
    rate: float | None = None
    turn_below: float | None = None


@dataclass(frozen=True)
class Recipe:
    """A named way to fit.

    Attributes:
        name: what results call it. prior: the default prior's name. stages: run in order.
        doubt: with a prior that looks at the keypoints: those further than this from where the
            body has them (in the person's sizes) are doubted; the prior is told what was seen
            again, without them, and the person is fitted once more. None: never.
        exchange: with a flow that looks at the keypoints: nats by which a person's body has to be
            better with the sides of legs or arms exchanged to be fitted so. None: never.
        whole_person: the unit of noise and outlier scales is the whole person's size, seen or
            not; else the box around what was seen.
        start: "prior": where the prior says, else all around; "torso": as SMPLify does.
        bending: a mixture file given as the prior gets SMPLify's other terms, not hinge limits.
    """

    name: str
    prior: str
    stages: tuple[Stage, ...]
    doubt: float | None = None
    exchange: float | None = None
    whole_person: bool = True
    start: str = "prior"
    bending: bool = False


# found on validation people by `python -m benchmarks.one_view.tune`; the mixture's fits begin all
# around, far from the truth, and want a more forgiving loss than fits that begin at a posterior's
# mode
_FINE = Reprojection(sigma=0.014, scale=0.05)
_FINE_GMM = Reprojection(sigma=0.010, scale=0.10)
_HIPS = ("MidHip", "RHip", "LHip", "lsp:RHip", "lsp:LHip")
# ProHMR's objective, halved as every energy here is
_PROHMR = Reprojection(
    sigma=1.0,
    scale=100.0,
    confidence_power=2.0,
    per_axis=True,
    unit="picture",
    ignored=_HIPS,
)
_WEIGHTS = {"pose": 1.0, "shape": 1.0, "limits": 1.0, "upright": 16.0}

# SMPLify and its descendants; docs/compare.md says where each number comes from. Their energies
# have no halves: sigma is root 1/2, and a weight w of theirs on a plain square is 2 w^2 here
_ONE = 0.5**0.5
_PLAIN_SQUARES = 1e6  # an outlier scale that nothing comes near
_TORSO = ("RHip", "LHip", "RShoulder", "LShoulder")
_BODY = ("root", "pose", "shape")  # the translation stays where the camera stage has put it
_ANNEALED = ((404.0, 100.0), (404.0, 50.0), (57.4, 10.0), (4.78, 5.0))  # pose, shape
_BENDING = 3.17  # of the pose weight
_NARROW = 25.0  # pixels between the shoulders
_SPIN_IGNORES = ("Neck", "RHip", "LHip", "lsp:RHip", "lsp:LHip")


def _torso_camera(unit: str, iterations: int, solver: str, rate: float | None = None) -> Stage:
    """Root and translation by the torso's four joints in plain squares, the depth held."""
    return Stage(
        "camera",
        ("root", "transl"),
        Reprojection(_ONE, _PLAIN_SQUARES, 0.0, True, unit, only=_TORSO),
        {"pose": 0.0, "angle": 0.0, "shape": 0.0, "depth": 2 * 100.0**2},
        iterations,
        solver=solver,
        rate=rate,
    )


def _annealed(data: Reprojection, bending_power: int, iterations: int, solver: str) -> list[Stage]:
    """Four stages; the last one's winner of the two orientations is the result."""
    return [
        Stage(
            f"body {number}",
            _BODY,
            data,
            {"pose": w**2, "angle": 2 * (_BENDING * w) ** bending_power, "shape": 2 * shape**2},
            iterations,
            keep=2 if number < len(_ANNEALED) else 1,
            solver=solver,
            turn_below=_NARROW if number == 1 else None,
        )
        for number, (w, shape) in enumerate(_ANNEALED, 1)
    ]


_SMPLIFY = Reprojection(_ONE, 100.0, 2.0, True, "lsp", (*_HIPS, "Neck"))
_SPIN = Reprojection(_ONE, 100.0, 2.0, True, "crop", _SPIN_IGNORES, midpoints=True)
_SMPLIFYX = Reprojection(_ONE, 100.0, 2.0, True, "height", ("Neck", "RHip", "LHip"), midpoints=True)
_SMPLIFY_FAMILY = (
    Recipe(
        "smplify",
        "smplify",
        (_torso_camera("lsp", 100, "lm"), *_annealed(_SMPLIFY, 2, 100, "lm")),
        whole_person=False,
        start="torso",
        bending=True,
    ),
    Recipe(
        "spin",
        "smplify",
        (
            _torso_camera("crop", 100, "adam", 1e-2),
            Stage(
                "body",
                _BODY,
                _SPIN,
                {"pose": 4.78**2, "angle": 2 * 15.2**2, "shape": 2 * 5.0**2},
                100,
                solver="adam",
                rate=1e-2,
            ),
        ),
        whole_person=False,
        start="torso",
        bending=True,
    ),
    Recipe(
        "smplifyx",
        "smplify",
        (_torso_camera("height", 30, "lbfgs"), *_annealed(_SMPLIFYX, 1, 30, "lbfgs")),
        whole_person=False,
        start="torso",
        bending=True,
    ),
)

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
            exchange=6.0,
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
        # the posterior's mode, judged by what `flow` minimises
        Recipe(
            "regression",
            "keypoint-flow",
            (Stage("mode", ("all",), _FINE, _WEIGHTS, 0),),
        ),
        *_SMPLIFY_FAMILY,
    )
}

# what `fit` minimises where nothing is said, and what `compare` and `evaluate` hold side by side
DEFAULT_RECIPE = "flow"
COMPARED = ("regression", "flow", "smplify", "spin", "smplifyx")
EVALUATED = ("regression", "flow", "smplify")


def check_recipes(names: Sequence[str]) -> None:
    """InputError when there is no such recipe."""
    for name in names:
        if name not in RECIPES:
            raise InputError(f"recipe {name!r}: choose from {', '.join(RECIPES)}")
