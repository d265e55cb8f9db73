"""The known failure cases: what is wrong or missing in the keypoints must show in the result."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.fitting.cli.main import main
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.results.doubts import doubts
from flowfit.fitting.results.quality import LOW_FACING, LOW_QUALITY
from flowfit.fitting.solvers.solution import Status
from flowfit.models.keypoints import BODY25
from flowfit.priors.load import load
from tests.fitting.cli.test_fit import FAST, KEYPOINTS

RECIPES_TO_TRY = ("flow", "gmm", "smplify", "smplifyx")


def fit(problem, body, prior, name):
    if name == "flow":
        return fit_seen(problem, body, load("keypoint-flow", dtype=torch.float64), RECIPES[name])
    if name != "gmm":
        prior = load("smplify", dtype=torch.float64)
    return fit_people(problem, body, prior, RECIPES[name])


def doubts_of(problem, result, row=0):
    seen = problem.keypoints[row].numpy(), problem.confidence[row].numpy()
    return doubts(result, row, *seen)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(2, seed=44, noise=1.5, bend=0.08)


@pytest.fixture(scope="module")
def ordinary(crowd, body, prior):
    return fit(crowd.problem, body, prior, "gmm")


def test_an_ordinary_fit_is_not_doubted(crowd, ordinary):
    assert doubts_of(crowd.problem, ordinary) == []
    assert (ordinary.quality > LOW_QUALITY + 0.1).all()


@pytest.mark.parametrize("name", RECIPES_TO_TRY)
def test_wrong_keypoints_of_high_confidence_are_named(crowd, body, prior, name):
    """Two limbs' ends a whole body away: no pose explains them, and the result says which."""
    keypoints = crowd.problem.keypoints.clone()
    size = crowd.problem.size
    for keypoint, way in (("RWrist", (1.0, -0.4)), ("LAnkle", (-0.9, -0.5))):
        keypoints[:, BODY25.index(keypoint)] += size[:, None] * torch.tensor(way)
    confidence = torch.ones_like(crowd.problem.confidence)
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    result = fit(problem, body, prior, name)
    for row in range(2):
        text = " ".join(doubts_of(problem, result, row))
        assert "disagree" in text, text
        assert "RWrist" in text, text


@pytest.mark.parametrize("name", RECIPES_TO_TRY)
def test_very_few_keypoints_give_a_low_quality_and_a_warning(crowd, body, prior, name):
    confidence = torch.zeros_like(crowd.problem.confidence)
    kept = BODY25.indices(["Nose", "REye", "LEye", "RShoulder", "LShoulder", "RElbow"])
    confidence[:, kept] = 1
    problem = FitProblem.build(BODY25, crowd.problem.keypoints, confidence, crowd.problem.camera)
    result = fit(problem, body, prior, name)
    assert (result.quality < LOW_QUALITY).all()
    found = doubts_of(problem, result)
    assert found[0] == "few keypoints (6 of 25): most of the pose is the prior's guess"
    assert "is low" in found[-1]
    assert result.rotations.isfinite().all()


def test_what_the_detector_itself_doubts_is_not_named(crowd, body, prior):
    keypoints = crowd.problem.keypoints.clone()
    keypoints[:, BODY25.index("RWrist")] += crowd.problem.size[:, None]
    confidence = crowd.problem.confidence.clone()
    confidence[:, BODY25.index("RWrist")] = 0.05
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    result = fit(problem, body, prior, "gmm")
    assert not any("RWrist" in text for text in doubts_of(problem, result))


def test_many_keypoints_are_listed_in_part(crowd, ordinary):
    result = ordinary
    moved = crowd.problem.keypoints.numpy() + 3 * float(result.size.max())
    (text, *_) = doubts(result, 0, moved[0], np.ones(25))
    assert "and 19 more disagree" in text  # the neck and the mid-hip are not counted
    assert "Neck" not in text
    one = crowd.problem.keypoints[0].numpy().copy()
    one[BODY25.index("LKnee")] += 3 * float(result.size.max())
    assert doubts(result, 0, one, np.ones(25)) == [
        "keypoint LKnee disagrees with the body: it is wrong, or the body is"
    ]


def test_a_body_that_may_be_turned_is_doubted(crowd, ordinary):
    turned = replace(ordinary, facing=torch.full_like(ordinary.facing, LOW_FACING - 0.1))
    (text,) = doubts_of(crowd.problem, turned)
    assert text.startswith("facing 0.40 is low; the body may be turned the wrong way")


def test_an_invalid_person_is_only_that(crowd, ordinary):
    broken = replace(ordinary, status=(Status.INVALID, Status.INVALID))
    assert doubts_of(crowd.problem, broken) == [Status.INVALID.value]


def test_the_command_line_prints_and_writes_the_warnings(tmp_path, capsys):
    """The example, its right wrist moved by half of the picture, and few others left."""
    content = json.loads(KEYPOINTS.read_text())
    values = np.array(content["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
    kept = BODY25.indices(["Nose", "REye", "RShoulder", "LShoulder", "RElbow", "RWrist"])
    values[[k for k in range(25) if k not in kept], 2] = 0
    values[kept, 2] = 0.9
    values[BODY25.index("RWrist"), :2] = (20, 20)
    content["people"][0]["pose_keypoints_2d"] = values.ravel().tolist()
    path = tmp_path / "a_keypoints.json"
    path.write_text(json.dumps(content))
    out = tmp_path / "out"
    place = ["--image-size", "512", "512", str(path), "--out", str(out)]
    assert main(["fit", *place, *FAST, "--recipe", "spin", "--solver", "lm"]) == 0
    report = json.loads((out / "a_0.json").read_text())
    assert report["solver"] == "lm"
    assert report["quality"] < LOW_QUALITY
    assert len(report["warnings"]) >= 2
    printed = capsys.readouterr().err
    for text in report["warnings"]:
        assert f"flowfit: warning: person 0: {text}\n" in printed
