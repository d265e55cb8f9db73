from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Recipe, Reprojection, Stage
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.results.laplace import keypoint_sd
from flowfit.fitting.results.quality import LOW_QUALITY
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.solution import Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, COCO17, MEDIAPIPE33, SCHEMAS
from flowfit.models.metrics import pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.load import load

GMM = RECIPES["gmm"]
_QUIET = Reprojection(0.002, 0.1)
# a recipe that is told that there is no noise to speak of
EXACT = Recipe(
    "exact",
    "gmm",
    (
        Stage("camera", ("root", "transl"), Reprojection(0.05, 0.5), {"upright": 16.0}, 10, 8),
        Stage("coarse", ("all",), Reprojection(0.03, 0.3), {"upright": 16.0}, 12, 4),
        Stage("fine", ("all",), _QUIET, {"upright": 1.0}, 60, 1),
    ),
)


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(5, seed=31, noise=3.0)


@pytest.fixture(scope="module")
def together(crowd, body, prior):
    return fit_people(crowd.problem, body, prior, GMM)


def assert_same(got: FitResult, expected: FitResult, rows, among, atol=1e-6):
    for field in fields(FitResult):
        a, b = getattr(got, field.name), getattr(expected, field.name)
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(
                a[list(among)],
                b[list(rows)],
                rtol=1e-6,
                atol=atol * (1000 if field.name == "keypoints2d" else 1),  # pixels
                equal_nan=True,
                msg=lambda text, name=field.name: f"{name}: {text}",
            )
    for name, value in expected.energy.items():
        torch.testing.assert_close(
            got.energy[name][list(among)], value[list(rows)], atol=1e-5, rtol=1e-6
        )
    assert [got.status[k] for k in among] == [expected.status[k] for k in rows]


# --- recovering the truth ---


def test_noiseless_people_are_recovered(make_crowd, body, prior):
    crowd = make_crowd(24, seed=7, noise=0.0, bend=0.1)
    found = fit_people(crowd.problem, body, prior, EXACT)
    share = found.reprojection_px / found.size
    assert (share < 0.005).float().mean() >= 0.95
    error = pa_mpjpe(found.joints3d, crowd.joints3d)
    assert error.median() < 0.03
    assert (error < 0.08).float().mean() >= 0.9
    depth = (found.transl[:, 2] / crowd.transl[:, 2] - 1).abs()
    assert depth.median() < 0.1


def test_the_recipe_as_it_is_explains_the_keypoints(make_crowd, body, prior):
    crowd = make_crowd(8, seed=8, noise=2.0, bend=0.1)
    found = fit_people(crowd.problem, body, prior, GMM)
    assert ((found.reprojection_px / found.size) < 0.03).all()
    assert pa_mpjpe(found.joints3d, crowd.joints3d).median() < 0.06
    assert (found.quality > 0.3).all()


def test_the_energy_is_not_above_that_of_the_truth(make_crowd, body, prior):
    """The truth is one explanation; the fit must not find a worse one."""
    crowd = make_crowd(8, seed=9, noise=3.0)
    found = fit_people(crowd.problem, body, prior, EXACT)
    objective = Objective(crowd.problem, body, prior, EXACT.stages[-1])
    truth = State(prior.encode(Pose(crowd.rotations, crowd.betas)), crowd.transl)
    total = sum(found.energy.values())
    assert (total < objective.evaluate(truth).energy).float().mean() >= 0.9


def test_energy_is_that_of_the_result(crowd, body, prior, together):
    problem = replace(crowd.problem, unit=together.unit)
    objective = Objective(problem, body, prior, GMM.stages[-1])
    latent = prior.encode(Pose(together.rotations, together.betas))
    again = objective.evaluate(State(latent, together.transl))
    assert together.energy.keys() == again.terms.keys()
    for name, value in again.terms.items():
        torch.testing.assert_close(together.energy[name], value)
    assert (sum(together.energy.values()) <= together.start_energy).all()


# --- what a result is ---


def test_fields_fit_together(crowd, body, prior, together):
    people, keypoints = 5, 25
    shapes = {
        "rotations": (people, 24, 3, 3),
        "betas": (people, body.num_betas),
        "transl": (people, 3),
        "joints3d": (people, 24, 3),
        "keypoints3d": (people, keypoints, 3),
        "keypoints2d": (people, keypoints, 2),
        "keypoint_sd": (people, keypoints),
        "start_energy": (people,),
        "reprojection_px": (people,),
        "size": (people,),
        "quality": (people,),
        "facing": (people,),
        "iterations": (people,),
    }
    for name, shape in shapes.items():
        value = getattr(together, name)
        assert value.shape == shape, name
        assert value.isfinite().all(), name
        assert value.dtype == (torch.int64 if name == "iterations" else torch.float64)
    assert len(together) == people
    assert together.camera is crowd.problem.camera
    assert together.schema is BODY25
    assert (together.recipe, together.prior, together.body) == ("gmm", "gmm", "open-low")
    assert together.seconds > 0
    assert all(isinstance(s, Status) for s in together.status)
    for value in together.energy.values():
        assert value.shape == (people,)
        assert (value >= 0).all()
    for chance in (together.quality, together.facing):
        assert ((chance >= 0) & (chance <= 1)).all()
    assert (together.iterations >= len(GMM.stages)).all()
    assert (together.iterations <= sum(s.iterations for s in GMM.stages)).all()


def test_points_are_those_of_the_parameters(crowd, body, together):
    pose = together.betas, together.rotations
    joints = body.joints(*pose, together.transl)
    torch.testing.assert_close(together.joints3d, joints)
    points = body.keypoints(*pose, BODY25, together.transl)
    torch.testing.assert_close(together.keypoints3d, points)
    pixels, _ = crowd.problem.camera.project(points)
    torch.testing.assert_close(together.keypoints2d, pixels)
    error = (pixels - crowd.problem.keypoints).norm(dim=-1)
    torch.testing.assert_close(together.reprojection_px, error.median(-1).values)
    eye = torch.eye(3, dtype=torch.float64).expand_as(together.rotations)
    torch.testing.assert_close(together.rotations @ together.rotations.transpose(-1, -2), eye)


def test_unseen_joints_are_less_sure(make_crowd, body, prior):
    crowd = make_crowd(6, seed=4, noise=2.0)
    whole = fit_people(crowd.problem, body, prior, GMM)
    hidden = BODY25.indices(["RElbow", "RWrist", "LKnee", "LAnkle"])
    feet = BODY25.indices(["LBigToe", "LSmallToe", "LHeel"])
    confidence = crowd.problem.confidence.clone()
    confidence[:, hidden + feet] = 0
    problem = FitProblem.build(BODY25, crowd.problem.keypoints, confidence, crowd.problem.camera)
    part = fit_people(problem, body, prior, GMM)
    ratio = part.keypoint_sd[:, hidden] / whole.keypoint_sd[:, hidden]
    assert (ratio > 1).float().mean() > 0.9  # some now lie in another component of the mixture
    assert ratio.median() > 1.3
    twins = BODY25.indices(["LElbow", "LWrist", "RKnee", "RAnkle"])  # the other side, seen
    assert (part.keypoint_sd[:, hidden] > part.keypoint_sd[:, twins]).float().mean() > 0.9
    assert (part.keypoint_sd >= 0).all()
    assert (part.keypoint_sd < 1.5).all()  # metres
    # the two fits of a person differ, and one of a hidden limb may happen to look better
    assert (part.quality < whole.quality).float().mean() > 0.8
    assert part.quality.mean() < whole.quality.mean() - 0.1


def test_at_the_same_pose_less_evidence_is_never_surer(make_crowd, body, prior):
    crowd = make_crowd(6, seed=4, noise=2.0)
    state = State(prior.encode(Pose(crowd.rotations, crowd.betas)), crowd.transl)

    def spread(confidence):
        problem = replace(crowd.problem, confidence=confidence)
        objective = Objective(problem, body, prior, GMM.stages[-1])
        return keypoint_sd(objective, state, objective.evaluate(state))

    confidence = crowd.problem.confidence.clone()
    seen = spread(confidence)
    hidden = BODY25.indices(["RElbow", "RWrist", "LKnee", "LAnkle", "LBigToe", "LHeel"])
    confidence[:, hidden] = 0
    part = spread(confidence)
    assert (part >= seen * (1 - 1e-6)).all()
    assert (part[:, hidden] > 1.05 * seen[:, hidden]).all()
    pelvis = spread(confidence)[:, BODY25.index("MidHip")]
    assert pelvis.max() < 1e-4  # everything is measured from there


def test_the_spread_says_how_wrong_it_is(make_crowd, body, prior):
    """Errors about the pelvis are of the order of the stated standard deviations."""
    crowd = make_crowd(12, seed=6, noise=4.0)
    found = fit_people(crowd.problem, body, prior, GMM)
    truth = body.keypoints(crowd.betas, crowd.rotations, BODY25, crowd.transl)
    ours = found.keypoints3d - found.joints3d[:, :1]
    error = (ours - (truth - crowd.joints3d[:, :1])).norm(dim=-1)
    ratio = (error / found.keypoint_sd)[:, BODY25.indices(["LWrist", "RWrist", "LKnee", "RKnee"])]
    assert 0.2 < ratio.median() < 2.0


# --- people do not know of each other ---


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_chunks_change_nothing(crowd, body, prior, together, at_once):
    seen = []
    got = fit_people(crowd.problem, body, prior, GMM, people_at_once=at_once, progress=seen.append)
    assert_same(got, together, range(5), range(5))
    assert sum(seen) == 5
    assert max(seen) == at_once
    assert got.camera is crowd.problem.camera


def test_any_order(crowd, body, prior, together):
    order = torch.tensor([3, 0, 4, 4, 1, 2])
    got = fit_people(crowd.problem.rows(order), body, prior, GMM)
    assert_same(got, together, order.tolist(), range(6))


@pytest.mark.parametrize("kind", ["nan", "infinite", "unseen", "garbage", "one keypoint"])
def test_beside_somebody_impossible(crowd, body, prior, together, kind):
    keypoints, confidence = crowd.problem.keypoints.clone(), crowd.problem.confidence.clone()
    if kind == "nan":
        keypoints[1] = torch.nan
    elif kind == "infinite":
        keypoints[1, 6] = torch.inf
    elif kind == "unseen":
        confidence[1] = 0
    elif kind == "garbage":
        keypoints[1] = keypoints[1].flip(0) * 40
    else:
        confidence[1, 1:] = 0
    problem = FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)
    got = fit_people(problem, body, prior, GMM)
    others = [0, 2, 3, 4]
    assert_same(got, together, others, others)
    if kind in ("nan", "infinite"):
        assert got.status[1] is Status.INVALID
        assert (float(got.quality[1]), float(got.facing[1])) == (0, 0)
        assert int(got.iterations[1]) == 0
    else:
        assert got.status[1] is not Status.INVALID
        assert got.joints3d[1].isfinite().all()
        assert got.rotations[1].isfinite().all()
        assert float(got.quality[1]) < LOW_QUALITY
        assert got.keypoint_sd[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seen", [[], [0], [0, 1], [2, 5, 9, 12]])
def test_few_keypoints_are_finite(crowd, body, prior, seen, dtype):
    confidence = torch.zeros(5, 25, dtype=dtype)
    confidence[:, seen] = 0.8
    problem = FitProblem.build(
        BODY25, crowd.problem.keypoints.to(dtype), confidence, crowd.problem.camera.to(dtype=dtype)
    ).rows(torch.tensor([0, 1]))
    got = fit_people(problem, body.to(dtype=dtype), prior.to(dtype=dtype, device="cpu"), GMM)
    assert Status.INVALID not in got.status
    for name in ("rotations", "betas", "transl", "joints3d", "keypoint_sd", "quality"):
        assert getattr(got, name).isfinite().all(), name
    assert (got.quality < LOW_QUALITY).all()
    assert (got.transl[:, 2] > 0).all()


def test_nobody_valid(crowd, body, prior):
    keypoints = torch.full_like(crowd.problem.keypoints, torch.nan)
    problem = FitProblem.build(BODY25, keypoints, crowd.problem.confidence, crowd.problem.camera)
    got = fit_people(problem, body, prior, GMM)
    assert got.status == (Status.INVALID,) * 5
    assert not got.quality.any()
    assert not got.facing.any()


def test_unseen_keypoints_may_be_nan(crowd, body, prior):
    confidence = crowd.problem.confidence.clone()
    confidence[:, [4, 22]] = 0
    keypoints = crowd.problem.keypoints.clone()
    camera = crowd.problem.camera
    clean = fit_people(FitProblem.build(BODY25, keypoints, confidence, camera), body, prior, GMM)
    keypoints[:, [4, 22]] = torch.nan
    got = fit_people(FitProblem.build(BODY25, keypoints, confidence, camera), body, prior, GMM)
    assert_same(got, clean, range(5), range(5))


def test_a_camera_each_as_one_for_all(crowd, body, prior, together):
    camera = crowd.problem.camera
    each = Camera(camera.focal.expand(5, 2).clone(), camera.center.expand(5, 2).clone())
    problem = FitProblem.build(BODY25, crowd.problem.keypoints, crowd.problem.confidence, each)
    got = fit_people(problem, body, prior, GMM, people_at_once=3)
    assert_same(got, together, range(5), range(5))


def test_repeat_runs_are_identical(crowd, body, prior, together):
    again = fit_people(crowd.problem, body, prior, GMM)
    assert_same(again, together, range(5), range(5), atol=0)
    assert torch.equal(again.rotations, together.rotations)
    assert torch.equal(again.keypoint_sd, together.keypoint_sd)


def test_inputs_are_not_changed(crowd, body, prior):
    problem = crowd.problem
    inputs = [problem.keypoints, problem.confidence, problem.size, body.joint_template]
    before = [x.clone() for x in inputs]
    fit_people(problem, body, prior, GMM)
    for now, then in zip(inputs, before, strict=True):
        assert torch.equal(now, then)


# --- other things that can be asked of it ---


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_schema(make_crowd, body, prior, schema):
    crowd = make_crowd(2, seed=2, noise=1.0, schema=schema)
    got = fit_people(crowd.problem, body, prior, GMM)
    assert ((got.reprojection_px / got.size) < 0.03).all()
    available = body.keypoint_model(schema).available
    assert got.keypoints3d[:, available].isfinite().all()
    assert got.keypoint_sd[:, available].isfinite().all()
    if schema is MEDIAPIPE33:
        assert got.keypoint_sd[:, ~available].isinf().all()
        assert got.keypoints3d[:, ~available].isnan().all()


@pytest.mark.parametrize("name", ["gaussian", "gmm"])
@pytest.mark.parametrize("gravity", [True, False])
def test_other_priors(make_crowd, body, up, name, gravity):
    crowd = make_crowd(2, seed=3, schema=COCO17)
    prior = load(name, dtype=torch.float64, up=up if gravity else None)
    got = fit_people(crowd.problem, body, prior, GMM)
    assert got.prior == name
    assert ((got.reprojection_px / got.size) < 0.05).all()


def test_single_precision(crowd, body, prior, together):
    problem = crowd.problem
    single = FitProblem.build(
        BODY25,
        problem.keypoints.float(),
        problem.confidence.float(),
        problem.camera.to(dtype=torch.float32),
    )
    got = fit_people(
        single, body.to(dtype=torch.float32), prior.to(dtype=torch.float32, device="cpu"), GMM
    )
    assert got.rotations.dtype == torch.float32
    energy, expected = sum(got.energy.values()), sum(together.energy.values())
    torch.testing.assert_close(energy.double(), expected, rtol=1e-2, atol=0)
    error = (got.joints3d.double() - together.joints3d).norm(dim=-1)
    assert error.median() < 0.01
    torch.testing.assert_close(got.keypoint_sd.double(), together.keypoint_sd, rtol=0.05, atol=0)


def test_people_upside_down_and_lying(make_crowd, body, prior):
    """The recipe prefers upright people; what is seen decides."""
    crowd = make_crowd(4, seed=12, noise=1.0, bend=0.05)
    rolls = torch.zeros(4, 3, dtype=torch.float64)
    rolls[:, 2] = torch.tensor([1.5, -1.5, 0.8, 3.1])
    rotations = crowd.rotations.clone()
    rotations[:, 0] = axis_angle_to_matrix(rolls) @ rotations[:, 0]
    points = body.keypoints(crowd.betas, rotations, BODY25, crowd.transl)
    pixels, _ = crowd.problem.camera.project(points)
    problem = FitProblem.build(BODY25, pixels, crowd.problem.confidence, crowd.problem.camera)
    got = fit_people(problem, body, prior, GMM)
    assert ((got.reprojection_px / got.size) < 0.03).all()


def test_an_empty_problem_is_refused(crowd, body, prior):
    nobody = crowd.problem.rows(torch.tensor([], dtype=torch.long))
    with pytest.raises(ValueError, match="at least one"):
        fit_people(nobody, body, prior, GMM)


def test_a_recipe_of_one_stage(crowd, body, prior):
    stage = replace(GMM.stages[-1], iterations=5, keep=99)
    with_all = Recipe("one", "gmm", (replace(stage, keep=1),))
    got = fit_people(crowd.problem, body, prior, with_all)
    assert len(got) == 5
    assert (got.iterations <= 5).all()
