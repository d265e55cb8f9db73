"""No fit ends worse than it began, whatever was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.priors.load import load

K = len(BODY25)
SIDE = 1000.0


def garbage(count, generator):
    """Keypoints of nobody, in ten ways."""

    def rand(*shape):
        return torch.rand(count, *shape, generator=generator)

    points = SIDE * rand(K, 2)
    kind = torch.randint(10, (count, 1, 1), generator=generator)
    points = torch.where(kind == 0, 1e4 * (rand(K, 2) - 0.5), points)  # far outside
    points = torch.where(kind == 1, points[:, :1].expand_as(points), points)  # all in one place
    points = torch.where(kind == 2, points * torch.tensor([1.0, 0.0]), points)  # on a line
    points = torch.where(kind == 3, 500 + 3 * rand(K, 2), points)  # a person of three pixels
    points = torch.where(kind == 4, points.round(decimals=-2), points)  # on a coarse grid
    points = torch.where(kind == 5, 1e6 * rand(K, 2), points)
    confidence = rand(K)
    confidence = torch.where(rand(K) < rand(1), confidence, 0)
    plain = kind[..., 0]
    confidence = torch.where(plain == 6, torch.zeros_like(confidence), confidence)  # nobody
    one = torch.nn.functional.one_hot(torch.randint(K, (count,), generator=generator), K)
    confidence = torch.where(plain == 7, one.to(confidence), confidence)  # one keypoint
    confidence = torch.where(plain == 8, torch.ones_like(confidence), confidence)
    points = torch.where((kind == 9) & (rand(K, 1) < 0.1), torch.nan, points)
    focal = SIDE * torch.exp(1.5 * rand(1) - 0.7).expand(-1, 2)
    camera = Camera(focal, torch.full((count, 2), SIDE / 2))
    return FitProblem.build(BODY25, points, confidence, camera)


@pytest.fixture(scope="module")
def body():
    return find_body("open-low")


def cut_short(recipe, iterations):
    stages = tuple(replace(s, iterations=min(s.iterations, iterations)) for s in recipe.stages)
    return replace(recipe, stages=stages)


TEN_THOUSAND = pytest.param(10_000, 5, marks=pytest.mark.slow, id="ten thousand")


@pytest.mark.parametrize("name", ["flow", "prohmr", "gmm"])
@pytest.mark.parametrize(("count", "iterations"), [(40, 30), TEN_THOUSAND])
def test_garbage_never_ends_worse_than_it_began(body, name, count, iterations):
    problem = garbage(count, torch.Generator().manual_seed(count))
    recipe = cut_short(RECIPES[name], iterations)
    prior = load(recipe.prior)
    if name == "gmm":
        result = fit_people(problem, body, prior, recipe)
    else:
        result = fit_seen(problem, body, prior, recipe)
    ended = torch.stack(list(result.energy.values())).sum(0)
    valid = torch.tensor([s is not Status.INVALID for s in result.status])
    assert (ended <= result.start_energy * (1 + 1e-5))[valid].all()
    assert result.rotations[valid].isfinite().all()
    assert result.betas[valid].isfinite().all()
    # whoever has all their numbers is fitted
    finite = (problem.keypoints.isfinite().all(-1) | (problem.confidence == 0)).all(-1)
    assert valid[finite].all()
    assert valid.float().mean() > 0.85
