"""Priors that look at the picture, from a file to a fit."""

import json
import shutil

import numpy as np
import pytest
import torch

from flowfit import compare, fit
from flowfit.fitting.cli.main import main
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.models.errors import InputError
from flowfit.priors.data.pictures.crops import crop_box, cut
from flowfit.priors.image.shown import ReadyCrops, show
from flowfit.priors.keypoints.draws import random_latents
from flowfit.priors.load import load
from tests.picture_posteriors import write_image_posterior
from tests.test_repository import ROOT

PICTURE = ROOT / "examples" / "data" / "camera.png"
KEYPOINTS = ROOT / "examples" / "data" / "camera_keypoints.json"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_image_posterior(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def model(weights):
    return load(str(weights), dtype=torch.float64)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    shades = random.integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)
    return [np.ascontiguousarray(s.repeat(40, 0).repeat(40, 1)) for s in shades]


def test_it_is_shown_the_crop_around_the_keypoints(model, pictures, make_crowd):
    problem = make_crowd(4).problem
    seen = show(model, pictures).seen(
        problem.schema, problem.keypoints, problem.confidence, problem.camera
    )
    box = crop_box(problem.keypoints, problem.confidence)
    crop = cut(pictures[1], box.center[1].numpy(), float(box.side[1]), 64)
    assert torch.allclose(seen.images[1].permute(1, 2, 0) * 255, torch.from_numpy(crop).double())
    assert torch.equal(seen.box.side, box.side)
    assert torch.equal(seen.keypoints, problem.keypoints)
    assert seen.has_image.all()


def test_picture_and_keypoints_both_count(model, pictures, make_crowd, body):
    problem = make_crowd(4).problem
    here = tell(show(model, pictures), problem, body).context
    elsewhere = tell(show(model, pictures[::-1]), problem, body).context
    assert (here - elsewhere).abs().amax(-1).gt(1e-3).all()
    alone = model.without_keypoints()
    moved = FitProblem.build(
        problem.schema, problem.keypoints.roll(1, 0), problem.confidence, problem.camera
    )
    box = crop_box(problem.keypoints, problem.confidence)
    crops = ReadyCrops(torch.rand(4, 3, 64, 64), box)
    first = tell(alone.show(crops), problem, body).context
    assert torch.equal(first, tell(alone.show(crops), moved, body).context)
    told = tell(model.show(crops), problem, body).context
    assert not torch.allclose(told, tell(model.show(crops), moved, body).context)


def test_bodies_are_drawn_as_the_keypoint_posteriors_are(pictures, make_crowd, body):
    built_in, flow = load("image-small", dtype=torch.float64), load("keypoint-flow")
    problem = make_crowd(4).problem
    given = tell(show(built_in, pictures), problem, body)
    assert given.calibration == flow.calibration
    assert given.calibration.noise > 0
    latent = random_latents(5, given, 0, 0)[1:]
    many = given.rows(torch.zeros(4, dtype=torch.long))
    drawn, raw = many.decode_draws(latent).rotations, many.decode(latent).rotations
    assert not torch.allclose(drawn, raw, atol=1e-4)


def test_a_file_may_tell_how_its_bodies_are_drawn(weights, tmp_path):
    for file in weights.parent.iterdir():
        shutil.copy(file, tmp_path)
    beside = (tmp_path / weights.name).with_suffix(".json")
    about = json.loads(beside.read_text())
    beside.write_text(json.dumps({**about, "draws": {"noise": 0.02, "length": 1.1}}))
    found = load(str(tmp_path / weights.name)).calibration
    assert (found.noise, found.length) == (0.02, 1.1)
    beside.write_text(json.dumps({**about, "draws": {"length": 0}}))
    with pytest.raises(InputError, match="draws must hold"):
        load(str(tmp_path / weights.name))


def test_people_are_fitted_independently(model, pictures, make_crowd, body):
    problem = make_crowd(4, noise=1.0).problem
    shown = show(model, pictures)
    together = fit_seen(problem, body, shown, RECIPES["flow"])
    for order in ([3, 1], [0]):
        rows = torch.tensor(order)
        some = fit_seen(problem.rows(rows), body, shown.rows(rows), RECIPES["flow"])
        assert torch.allclose(some.joints3d, together.joints3d[rows], atol=1e-5)
    broken = FitProblem.build(
        problem.schema,
        torch.cat((problem.keypoints[:1], torch.full_like(problem.keypoints[:1], torch.nan))),
        problem.confidence[:2],
        problem.camera,
    )
    beside = fit_seen(broken, body, show(model, pictures[:2]), RECIPES["flow"])
    assert torch.allclose(beside.joints3d[0], together.joints3d[0], atol=1e-5)
    assert beside.status[1].name == "INVALID"


def test_who_is_doubted_keeps_the_own_picture(model, pictures, make_crowd, body):
    """The second fit, without wrong keypoints, is of some people only: pictures must follow."""
    crowd = make_crowd(4, noise=1.0)
    keypoints = crowd.problem.keypoints.clone()
    wrist = crowd.problem.schema.index("RWrist")
    keypoints[2, wrist] += 120
    problem = FitProblem.build(
        crowd.problem.schema, keypoints, crowd.problem.confidence, crowd.problem.camera
    )
    shown = show(model, pictures)
    together = fit_seen(problem, body, shown, RECIPES["flow"])
    assert together.doubted[2].any()
    one = torch.tensor([2])
    alone = fit_seen(problem.rows(one), body, show(model, [pictures[2]]), RECIPES["flow"])
    assert torch.allclose(alone.joints3d[0], together.joints3d[2], atol=1e-5)
    assert torch.equal(alone.doubted[0], together.doubted[2])


def test_a_photograph_is_fitted_with_a_file(weights, tmp_path):
    done = fit(PICTURE, KEYPOINTS, tmp_path, prior=str(weights), body="open-low", draw=False)
    assert done.result.prior == "small"
    report = json.loads((tmp_path / "camera_0.json").read_text())
    assert report["prior"] == "small"
    plain = fit(PICTURE, KEYPOINTS, body="open-low")
    assert not torch.allclose(done.result.joints3d, plain.result.joints3d, atol=1e-3)


def test_a_comparison_shows_everybody_the_own_picture(weights, tmp_path):
    done = compare(
        PICTURE, KEYPOINTS, tmp_path, prior=str(weights), body="open-low", draw=False,
        recipes=("regression", "flow", "spin+mode"),
    )  # fmt: skip
    alone = fit(PICTURE, KEYPOINTS, prior=str(weights), body="open-low")
    assert torch.allclose(done.results["flow"][0].joints3d, alone.result.joints3d, atol=1e-6)
    assert [row["recipe"] for row in done.rows] == ["regression", "flow", "spin+mode"]


def test_several_views_refuse_it(weights, tmp_path, capsys):
    frame = tmp_path / "scene" / "keypoints" / "000"
    frame.mkdir(parents=True)
    for view in ("a", "b"):
        shutil.copy(KEYPOINTS, frame / f"{view}_keypoints.json")
    arguments = ["multiview", str(tmp_path / "scene"), "--out", str(tmp_path / "out")]
    arguments += ["--prior", str(weights), "--image-size", "512", "512"]
    assert main(arguments) == 2
    assert "looks at one picture" in capsys.readouterr().err


def test_without_a_picture_it_is_a_mistake(weights, tmp_path, capsys):
    arguments = ["fit", "--image-size", "512", "512", str(KEYPOINTS), "--out", str(tmp_path / "x")]
    assert main([*arguments, "--prior", str(weights)]) == 2
    error = capsys.readouterr().err
    assert "give the picture" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_classical_recipes_and_scenes_refuse_it(weights):
    with pytest.raises(InputError, match="need a mixture"):
        load(str(weights), bending=True)
    assert load(str(weights)).sees == {"picture", "keypoints"}


def test_crops_of_another_size_are_refused(model, make_crowd, body):
    problem = make_crowd(1).problem
    box = crop_box(problem.keypoints, problem.confidence)
    with pytest.raises(InputError, match="64 pixels"):
        tell(model.show(ReadyCrops(torch.zeros(1, 3, 32, 32), box)), problem, body)


def test_samples_depend_on_the_picture(weights):
    from flowfit import sample

    settings = {"count": 20, "modes": 2, "prior": str(weights)}
    seen = sample(PICTURE, KEYPOINTS, **settings).people[0].draws.joints3d
    again = sample(PICTURE, KEYPOINTS, **settings).people[0].draws.joints3d
    told = sample(PICTURE, KEYPOINTS, **{**settings, "prior": None}).people[0].draws.joints3d
    assert torch.equal(seen, again)
    assert (seen[0] - told[0]).norm(dim=-1).max() > 1e-3
    with pytest.raises(InputError, match="give the picture, not only its size"):
        sample(None, KEYPOINTS, image_size=(512, 512), **settings)
