"""A prior says of itself all that callers need: none of them asks which class it is of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from flowfit.models.errors import InputError
from flowfit.priors.base import KEYPOINTS, PICTURE, Pose
from flowfit.priors.image.shown import show
from flowfit.priors.load import load, load_with_draws
from flowfit.priors.registry import BUILT_IN
from tests.picture_posteriors import write_prohmr_checkpoint

ROOT = Path(__file__).parents[2]
FLOORS = ("models", "priors", "fitting", "benchmarks", "examples")
LOADED = [name for name in BUILT_IN if name != "lifting"]  # made around a fit, on the floor above


def parsed() -> dict[str, ast.Module]:
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
        for floor in FLOORS
        for file in sorted((ROOT / floor).rglob("*.py"))
    }


def prior_classes(trees: list[ast.Module]) -> set[str]:
    """Names of the protocol's classes and of all that inherit from them."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"PriorModel", "PosePrior"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def asked(tree: ast.Module, classes: set[str]) -> list[str]:
    """What a file asks the class of a prior with."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("isinstance", "issubclass", "type")
        and {ast.unparse(part) for arg in node.args[1:] for part in ast.walk(arg)} & classes
    ]


def test_no_caller_asks_for_a_prior_of_a_class():
    trees = parsed()
    classes = prior_classes(list(trees.values()))
    assert {"FlowPrior", "FlowGiven", "RotationPrior", "ImagePrior", "LiftedGiven"} <= classes
    wrong = [f"{file}: {what}" for file, tree in trees.items() for what in asked(tree, classes)]
    assert not wrong


def test_the_question_is_found():
    source = "class A(PosePrior): ...\nclass B(A): ...\nisinstance(x, (int, B))\nisinstance(x, int)"
    tree = ast.parse(source)
    assert asked(tree, prior_classes([tree])) == ["isinstance(x, (int, B))"]


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(2).problem


def told(name, problem, body, keypoints=None):
    model = load(name, dtype=torch.float64)
    pictures = [torch.zeros(480, 640, 3, dtype=torch.uint8).numpy()] * len(problem)
    keypoints = problem.keypoints if keypoints is None else keypoints
    seen = problem.schema, keypoints, problem.confidence, problem.camera
    return model, show(model, pictures).given(*seen, body)


@pytest.mark.parametrize("name", LOADED)
def test_what_it_sees_makes_a_difference(name, crowd, body):
    model, here = told(name, crowd, body)
    _, there = told(name, crowd, body, crowd.keypoints.roll(1, 0))
    pose = Pose(*(torch.cat((t[:1], t[:1])) for t in here.modes()))
    latents = [given.encode(pose) for given in (here, there)]
    assert torch.equal(*latents) == (KEYPOINTS not in model.sees)
    assert model.looks == bool(model.sees)
    assert (model.image_size is None) == (PICTURE not in model.sees)


@pytest.mark.parametrize("name", LOADED)
def test_what_has_draws_can_be_drawn_from(name, crowd, body):
    model, given = told(name, crowd, body)
    assert model.has_draws == BUILT_IN[name].has_draws
    assert model.has_draws == (name in ("keypoint-flow", "image-small"))
    assert model.by_keypoints_alone == (name == "keypoint-flow")
    if model.has_draws:
        posterior = given.as_posterior()
        assert posterior.start() is not None
        latent = torch.zeros(2, posterior.flow.features, dtype=torch.float64)
        assert posterior.decode_draws(latent).betas.shape == (2, body.num_betas)
        assert posterior.log_prob(latent).isfinite().all()
        assert (posterior.draw_lengths(latent[:, 0]) > 0).all()
        noise = 0.03 * torch.ones_like(latent)
        assert posterior.log_density(posterior.decode(latent), noise).isfinite().all()
    else:
        with pytest.raises(InputError, match="cannot be sampled") as caught:
            load_with_draws(name)
        assert "keypoint-flow, image-small" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_one_told_of_the_picture_alone():
    model = load("image-small")
    alone = model.without_keypoints()
    assert model.sees == {PICTURE, KEYPOINTS}
    assert alone.sees == {PICTURE}
    assert alone.has_draws
    assert alone.without_keypoints().sees == alone.sees


def test_prohmrs_says_so_too(tmp_path):
    model = load(str(write_prohmr_checkpoint(tmp_path)))
    assert model.sees == {PICTURE}
    assert model.without_keypoints() is model
    assert not model.has_draws
    assert not model.by_keypoints_alone


def test_the_lifted_prior_is_known_by_name():
    with pytest.raises(InputError, match="fit --recipe gmm, and for nothing else"):
        load("lifting")
    with pytest.raises(InputError, match="fit --recipe gmm; it cannot be sampled, only"):
        load_with_draws("lifting")
