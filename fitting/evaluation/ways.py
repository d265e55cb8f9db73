"""The rows of the evaluation's tables: posteriors told this or that, and what fits make of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.evaluation.people import Joints, Watched
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.one_view.torso_start import torso_start
from flowfit.fitting.results.result import FitResult
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.models.metrics import orientation_error
from flowfit.priors.base import PICTURE, Pose, PosePrior, PriorModel
from flowfit.priors.image.shown import ReadyCrops
from flowfit.priors.keypoints.posterior import ROTATION_NUMBERS
from flowfit.priors.load import load as load_prior

IMAGE, KEYPOINTS, BOTH = "image", "keypoints", "image+keypoints"
MEAN, REGRESSION = "mean", "regression"
DETECTED, ANNOTATED = "detected", "annotated"
_TARGET_NOISE = 0.03  # on the 6D numbers of true bodies, as in training
_FIRST_CHOICE = RECIPES[REGRESSION].prior


@dataclass(frozen=True)
class Way:
    """A row: what the posterior is told, what is done then, and with which keypoints."""

    told: str
    recipe: str
    keypoints: str = DETECTED

    @property
    def key(self) -> str:
        """Its name in files."""
        return "/".join((self.told or "nothing", self.recipe, self.keypoints))


@dataclass(frozen=True, eq=False)
class Priors:
    """What the rows need.

    Attributes:
        posteriors: by what they are told. mixture: of the classical recipes. average: has the
            mean pose.
    """

    posteriors: Mapping[str, PriorModel]
    mixture: PriorModel
    average: PriorModel

    @property
    def first(self) -> str:
        """What the posterior is told at whose mode classical recipes begin."""
        return IMAGE if IMAGE in self.posteriors else KEYPOINTS

    @property
    def image_size(self) -> int | None:
        """Pixels of the crops that the posteriors look at; None where none does."""
        sizes = (model.image_size for model in self.posteriors.values())
        return next((size for size in sizes if size is not None), None)


def load_priors(prior: str, mixture: str, body: Body, device: str) -> Priors:
    """The priors by name or file, in the body's number type.

    Raises:
        InputError: one cannot be used, or `prior` looks at nothing.
    """
    how: dict[str, Any] = {"num_betas": body.num_betas, "dtype": body.dtype, "device": device}
    model = load_prior(prior, **how)
    classical = load_prior(mixture, bending=True, **how)
    average = load_prior("gaussian", **how)
    if PICTURE in model.sees:
        alone, keypoints = model.without_keypoints(), load_prior(_FIRST_CHOICE, **how)
        both = {BOTH: model} if alone.sees != model.sees else {}
        return Priors({IMAGE: alone, **both, KEYPOINTS: keypoints}, classical, average)
    if model.by_keypoints_alone:
        return Priors({KEYPOINTS: model}, classical, average)
    raise InputError(f"prior {prior}: looks at nothing; give an image or a keypoint posterior")


def ways_of(priors: Priors, recipes: Sequence[str], keypoints: Sequence[str]) -> tuple[Way, ...]:
    """All rows, in the table's order.

    Args:
        recipes: names in `RECIPES`. keypoints: `DETECTED`, `ANNOTATED` or both.
    """
    found = [Way("", MEAN)]
    for told in priors.posteriors:
        kinds = (DETECTED,) if told == IMAGE else tuple(keypoints)
        found += [Way(told, REGRESSION, kind) for kind in kinds]
    for kind in keypoints:
        for name in dict.fromkeys(recipes):
            if name == REGRESSION:
                continue
            classical = RECIPES[name].prior != _FIRST_CHOICE
            several = (priors.first,) if classical else tuple(priors.posteriors)
            found += [Way(told, name, kind) for told in several]
    return tuple(found)


class Judged(NamedTuple):
    """What came of a row for B people: errors by name (B,), and the seconds it took."""

    errors: dict[str, Tensor]
    seconds: float


def judge(way: Way, people: Watched, body: Body, priors: Priors, joints: Joints) -> Judged | None:
    """Run a row; None where nobody has the keypoints that it needs."""
    problem = people.detected if way.keypoints == DETECTED else people.annotated
    seen = (problem.confidence > 0).any(-1)
    needs = way.recipe != MEAN and (way.told != IMAGE or way.recipe != REGRESSION)
    if needs and not bool(seen.any()):
        return None
    rows = seen.nonzero()[:, 0] if needs else torch.arange(len(seen), device=seen.device)
    some = problem.rows(rows)
    shown = ReadyCrops(people.images, people.box).rows(rows.tolist())
    began = time.process_time()
    if way.recipe == MEAN:
        pose = _mean_pose(some, body, priors)
    else:
        result = _fitted(way, some, shown, body, priors)
        pose = Pose(result.rotations, result.betas)
    seconds = time.process_time() - began
    points = joints.of(body, pose.betas, pose.rotations)
    errors = joints.errors(points, people.truth[rows], people.known[rows])
    errors["turned"] = orientation_error(pose.rotations[:, 0], people.pose.rotations[rows, 0])
    # a fit that failed has no numbers: it must not vanish from the mean unseen
    failed = ~points.isfinite().flatten(1).any(-1)
    errors["failed"] = failed.to(points)
    everyone = {
        name: torch.full((len(seen),), torch.nan, dtype=value.dtype).index_copy(
            0, rows.cpu(), value.cpu()
        )
        for name, value in errors.items()
    }
    return Judged(everyone, seconds)


def model_of(told: str, shown: ReadyCrops, priors: Priors) -> PriorModel:
    """The posterior, shown the crops if it looks at pictures."""
    return priors.posteriors[told].show(shown)


def _fitted(
    way: Way, problem: FitProblem, shown: ReadyCrops, body: Body, priors: Priors
) -> FitResult:
    recipe = RECIPES[way.recipe]
    model = model_of(way.told, shown, priors)
    if recipe.prior == _FIRST_CHOICE:
        return fit_seen(problem, body, model, recipe)
    told = tell(model, problem, body)
    start = told.start()
    assert start is not None
    begin = told.decode(start.latent), start.transl
    return fit_people(problem, body, tell(priors.mixture, problem, body), recipe, start=begin)


def _mean_pose(problem: FitProblem, body: Body, priors: Priors) -> Pose:
    prior = tell(priors.average, problem, body)
    return prior.decode(torso_start(problem, body, prior).latent)


def best_of(
    told: str,
    people: Watched,
    body: Body,
    priors: Priors,
    joints: Joints,
    counts: Sequence[int],
    generator: torch.Generator,
) -> dict[int, Tensor]:
    """The least PA-MPJPE (B,), mm, of n samples of each person; the mode is the first of them."""
    given = given_of(told, people, body, priors)
    start = given.start()
    assert start is not None
    size, most = given.step_blocks["latent"], max(counts)
    found = torch.full((len(people.names), most), torch.nan)
    for number in range(most):
        latent = start.latent.clone()
        if number:
            noise = torch.randn(len(latent), size, generator=generator, dtype=torch.float64)
            latent[:, :size] = noise.to(latent)
        pose = given.decode(latent)
        points = joints.of(body, pose.betas, pose.rotations)
        found[:, number] = joints.errors(points, people.truth, people.known)["pa_mpjpe"].cpu()
    return {count: found[:, :count].amin(1) for count in counts}


def surprise(
    told: str,
    people: Watched,
    body: Body,
    priors: Priors,
    generator: torch.Generator,
) -> Tensor | None:
    """Negative log density (B,) of the true bodies, nats; None of a flow without the shape in it.

    A rotation's 6D vector lies on a surface, where no density over R^6 is finite: noise is put on
    it, as training does. NaN where the true body is not known.
    """
    given = given_of(told, people, body, priors).as_posterior()
    if given is None:
        return None
    shape = (len(people.names), given.flow.features)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(people.pose.betas)
    noise[:, ROTATION_NUMBERS:] = 0
    return -given.log_density(people.pose, _TARGET_NOISE * noise)


def given_of(told: str, people: Watched, body: Body, priors: Priors) -> PosePrior:
    """The posterior, told of these people."""
    shown = ReadyCrops(people.images, people.box)
    return tell(model_of(told, shown, priors), people.detected, body)
