"""Left and right that a detector exchanged: put back where that explains a person better."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.fitting.cli.main import main
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.after_fit import surroundings
from flowfit.fitting.one_view.fit_seen import fit_seen, try_sides
from flowfit.fitting.results.doubts import doubts
from flowfit.fitting.results.sides import AS_SEEN, EXCHANGED, SIDES, exchange, order_of, put_back
from flowfit.fitting.results.tellings import believed_exchange, tell_all
from flowfit.fitting.solvers.solution import Status
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.priors.load import load
from tests.fitting.cli.test_fit import FAST, KEYPOINTS

FLOW = RECIPES["flow"]
AS_IT_WAS = replace(FLOW, exchange=None)
KINDS = torch.tensor([SIDES.index("legs"), 0, SIDES.index("arms"), 0])
WRONG = KINDS.nonzero()[:, 0]


@pytest.fixture(scope="module")
def model():
    return load("keypoint-flow", dtype=torch.float64)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(4, seed=7, noise=1.5, bend=0.08)


@pytest.fixture(scope="module")
def problem(crowd):
    """The crowd, the legs of one and the arms of another exchanged by the detector."""
    return put_back(crowd.problem, KINDS)


@pytest.fixture(scope="module")
def fitted(problem, body, model):
    return fit_seen(problem, body, model, FLOW)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
def test_sides_change_and_the_middle_stays(schema):
    for ends in EXCHANGED.values():
        places = exchange(schema, ends)
        assert sorted(places) == list(range(len(schema)))
        assert [places[p] for p in places] == list(range(len(schema)))  # twice is not at all
    assert exchange(schema, EXCHANGED[AS_SEEN]) == list(range(len(schema)))
    assert exchange(schema, EXCHANGED["legs"]) != list(range(len(schema)))


def test_limbs_by_name():
    names = BODY25.names
    legs = {names[i]: names[p] for i, p in enumerate(exchange(BODY25, EXCHANGED["legs"]))}
    assert (legs["LKnee"], legs["RHip"], legs["LBigToe"]) == ("RKnee", "LHip", "RBigToe")
    assert all(legs[n] == n for n in ("MidHip", "Neck", "Nose", "LWrist", "RShoulder", "LEye"))
    arms = {names[i]: names[p] for i, p in enumerate(exchange(BODY25, EXCHANGED["arms"]))}
    assert (arms["LElbow"], arms["RWrist"]) == ("RElbow", "LWrist")
    assert all(arms[n] == n for n in ("LShoulder", "RKnee", "LEar"))


def test_everyone_gets_their_own_exchange(crowd):
    before = crowd.problem.keypoints.clone()
    changed = put_back(crowd.problem, KINDS)
    for row, kind in enumerate(KINDS.tolist()):
        places = exchange(BODY25, EXCHANGED[SIDES[kind]])
        assert order_of(BODY25, KINDS)[row].tolist() == places
        assert torch.equal(changed.keypoints[row], before[row, places])
        assert torch.equal(changed.confidence[row], crowd.problem.confidence[row, places])
    again = put_back(changed, KINDS)
    assert torch.equal(again.keypoints, before)
    assert torch.equal(again.confidence, crowd.problem.confidence)
    assert torch.equal(crowd.problem.keypoints, before)  # not changed in place


def test_an_exchange_of_what_was_not_seen_is_none(problem, body, model):
    doubted = torch.zeros_like(problem.confidence, dtype=torch.bool)
    believed = believed_exchange(tell_all(problem, doubted, body, model), problem)
    assert believed[WRONG].tolist() == KINDS[WRONG].tolist()
    blind = problem.confidence.clone()
    limbs = [i for i, p in enumerate(exchange(BODY25, EXCHANGED["legs and arms"])) if p != i]
    blind[:, limbs] = 0
    unseen = FitProblem.build(BODY25, problem.keypoints, blind, problem.camera)
    told = tell_all(unseen, doubted, body, model)
    assert believed_exchange(told, unseen).tolist() == [0, 0, 0, 0]


def test_exchanged_sides_are_put_back(crowd, problem, body, model, fitted):
    assert fitted.exchanged.tolist() == KINDS.tolist()
    right = fit_seen(crowd.problem, body, model, FLOW)
    assert right.exchanged.tolist() == [0, 0, 0, 0]
    for name in ("rotations", "betas", "transl", "keypoints2d", "quality", "facing", "doubted"):
        torch.testing.assert_close(getattr(fitted, name), getattr(right, name), msg=name)
    truth = crowd.joints3d[:, JOINTS]
    as_seen = fit_seen(problem, body, model, AS_IT_WAS)
    assert not as_seen.exchanged.any()
    wrong, better = (pa_mpjpe(r.joints3d[:, JOINTS], truth)[WRONG] for r in (as_seen, fitted))
    assert (better < 0.7 * wrong).all()
    calm = (KINDS == 0).nonzero()[:, 0]
    assert torch.equal(fitted.rotations[calm], as_seen.rotations[calm])
    assert (fitted.iterations[WRONG] > right.iterations[WRONG]).all()


def test_the_gain_decides(problem, body, model, fitted):
    as_seen = fit_seen(problem, body, model, AS_IT_WAS)
    tried = try_sides(problem, as_seen, body, model, FLOW)
    assert set(WRONG.tolist()) <= set(tried.rows.tolist())
    taken = tried.rows[tried.gain > FLOW.exchange]
    assert taken.tolist() == WRONG.tolist()
    strict = replace(FLOW, exchange=float(tried.gain.max()) + 1)
    assert not fit_seen(problem, body, model, strict).exchanged.any()


def test_alone_permuted_or_beside_nobody(problem, body, model, fitted):
    order = torch.tensor([2, 0, 3, 1])
    turned = fit_seen(problem.rows(order), body, model, FLOW)
    keypoints = problem.keypoints.clone()
    keypoints[1] = torch.nan
    broken = replace(problem, keypoints=keypoints)
    beside = fit_seen(broken, body, model, FLOW)
    assert beside.status[1] is Status.INVALID
    assert int(beside.exchanged[1]) == 0
    for row in WRONG.tolist():
        alone = fit_seen(problem.rows(torch.tensor([row])), body, model, FLOW)
        for other, place in ((alone, 0), (turned, order.tolist().index(row)), (beside, row)):
            assert int(other.exchanged[place]) == int(fitted.exchanged[row])
            torch.testing.assert_close(
                other.joints3d[place], fitted.joints3d[row], rtol=0, atol=1e-6
            )


def test_a_mixture_and_other_recipes_put_nothing_back(problem, body, prior, model):
    assert not fit_seen(problem, body, prior, FLOW).exchanged.any()
    assert not fit_seen(problem, body, model, RECIPES["prohmr"]).exchanged.any()


def test_what_is_open_after_the_fit_is_of_the_keypoints_put_back(problem, body, model, fitted):
    around = surroundings(problem, body, model, fitted)
    for row in WRONG.tolist():
        moved = around[row].state.transl[0] - fitted.transl[row]
        assert float(moved.norm()) < 0.01  # the minimum is where the fit is


def test_the_user_is_told(problem, fitted):
    row = int(WRONG[0])
    seen = problem.keypoints[row].numpy(), problem.confidence[row].numpy()
    found = doubts(fitted, row, *seen)
    assert found[0] == (
        "left and right of the legs look exchanged in the keypoints: "
        "they were fitted the other way round"
    )
    assert not any("disagree" in text for text in found)


def test_the_command_line_says_so(tmp_path, capsys):
    content = json.loads(KEYPOINTS.read_text())
    values = np.array(content["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
    values = values[exchange(BODY25, EXCHANGED["legs"])]
    content["people"][0]["pose_keypoints_2d"] = values.ravel().tolist()
    path = tmp_path / "a_keypoints.json"
    path.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert main(["fit", "--image-size", "512", "512", str(path), "--out", str(out), *FAST]) == 0
    assert json.loads((out / "a_0.json").read_text())["sides_exchanged"] == "legs"
    assert "left and right of the legs look exchanged" in capsys.readouterr().err
