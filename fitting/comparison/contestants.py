"""The rows of a comparison: recipes by name with their priors, and how each is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from flowfit.fitting.comparison.inputs import Crowd
from flowfit.fitting.drawing import overlay
from flowfit.fitting.energy.recipes import RECIPES, Recipe
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.results.result import FitResult
from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.priors.base import Pose, PriorModel
from flowfit.priors.image.shown import show
from flowfit.priors.load import load as load_prior

REGRESSION = "regression"
FROM_MODE = "+mode"  # after a recipe's name: begin at the posterior's mode


@dataclass(frozen=True, eq=False)
class Contestant:
    """A row of the table: a recipe, and whether it begins at the posterior's mode."""

    name: str
    recipe: Recipe
    prior: PriorModel
    from_mode: bool

    @property
    def color(self) -> tuple[float, float, float]:
        """The colour of its bodies."""
        if self.recipe.name == REGRESSION:
            return overlay.REGRESSION
        return overlay.FIT if self.prior.looks else overlay.SMPLIFY


def parse(name: str) -> tuple[str, Recipe, bool]:
    """A row's name, its recipe, and whether it begins at the mode; InputError for no such row."""
    base = name.removesuffix(FROM_MODE)
    if base not in RECIPES:
        raise InputError(
            f"recipe {name!r}: choose from {', '.join(RECIPES)}; {FROM_MODE} after a classical one "
            "begins at the posterior's mode"
        )
    recipe, from_mode = RECIPES[base], base != name
    if from_mode and recipe.prior == RECIPES[REGRESSION].prior:
        raise InputError(f"recipe {name!r}: {base} begins at the posterior's mode anyway")
    return name, recipe, from_mode


def load_contestants(
    parsed: Sequence[tuple[str, Recipe, bool]],
    prior: str | None,
    mixture: str | None,
    body: Body,
    dtype: torch.dtype,
    device: str,
) -> list[Contestant]:
    """The rows with their priors; `prior` and `mixture` as in `compare`."""
    up = torch.tensor([0.0, -1.0, 0.0])  # of the picture: an unknown camera is held level
    found = []
    for name, recipe, from_mode in parsed:
        given = prior if recipe.prior == RECIPES[REGRESSION].prior else mixture
        model = load_prior(
            given or recipe.prior,
            num_betas=body.num_betas,
            up=up,
            dtype=dtype,
            device=device,
            bending=recipe.bending,
        )
        if given is prior and prior is not None and not model.looks:
            raise InputError(f"prior {prior}: {name} needs a posterior that looks at the keypoints")
        if given is mixture and mixture is not None and model.looks:
            raise InputError(f"mixture {mixture}: is a posterior; give a file such as gmm_08.pkl")
        found.append(Contestant(name, recipe, model, from_mode))
    return found


def modes_of(
    contestants: Sequence[Contestant],
    group: Crowd,
    body: Body,
    prior: str | None,
    dtype: torch.dtype,
    device: str,
) -> tuple[Pose, torch.Tensor] | None:
    """Where the rows with +mode begin; None where there are none."""
    if not any(one.from_mode for one in contestants):
        return None
    name = prior or RECIPES[REGRESSION].prior
    model = _shown(load_prior(name, dtype=dtype, device=device), group)
    told = tell(model, group.problem, body)
    start = told.start()
    if start is None:
        raise InputError(f"prior {name}: has no mode to begin at; give a posterior")
    return told.decode(start.latent), start.transl


def fit_contestant(
    one: Contestant,
    group: Crowd,
    body: Body,
    mode: tuple[Pose, torch.Tensor] | None,
    solver: str | None,
) -> FitResult:
    """Everyone of one keypoint schema in one way; `mode` as `modes_of` gives it."""
    if one.from_mode:
        told = tell(one.prior, group.problem, body)
        result = fit_people(group.problem, body, told, one.recipe, start=mode, solver=solver)
        return replace(result, recipe=one.name)
    model = _shown(one.prior, group)
    return fit_seen(group.problem, body, model, one.recipe, solver=solver)


def _shown(prior: PriorModel, group: Crowd) -> PriorModel:
    """The prior, shown everybody's picture if it looks at pictures."""
    return show(prior, [seen.pixels for seen in group.seen if seen.pixels is not None])
