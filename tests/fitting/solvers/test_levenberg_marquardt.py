from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from flowfit.fitting.energy.objective import Evaluation, Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import Reprojection, Stage
from flowfit.fitting.one_view.starts import hypotheses
from flowfit.fitting.solvers.levenberg_marquardt import Options, _step, minimize
from flowfit.fitting.solvers.solution import STATUSES, Solution, Status
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose

STAGE = Stage("all", ("all",), Reprojection(0.012, 0.15), iterations=40)


def statuses(solution: Solution) -> list[Status]:
    return [STATUSES[int(c)] for c in solution.status]


def start_near(crowd, prior, size=0.2, seed=9):
    latent = prior.encode(Pose(crowd.rotations, crowd.betas))
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(len(latent), 82, generator=generator, dtype=torch.float64)
    return State(prior.move(latent, size * steps), crowd.transl + size * steps[:, :3])


@pytest.fixture(scope="module")
def crowd(make_crowd):
    return make_crowd(6, seed=11, noise=4.0)


@pytest.fixture(scope="module")
def state(crowd, prior):
    return start_near(crowd, prior)


@pytest.fixture(scope="module")
def together(crowd, body, prior, state):
    return minimize(Objective(crowd.problem, body, prior, STAGE), state, 40)


def assert_same(prior, got, expected, rows, among):
    """People `among` of one solution are the people `rows` of the other."""
    rows, among = torch.tensor(rows), torch.tensor(among)
    one, other = got.state.rows(among), expected.state.rows(rows)
    tight = {"rtol": 0, "atol": 1e-6}
    for a, b in zip(prior.decode(one.latent), prior.decode(other.latent), strict=True):
        torch.testing.assert_close(a, b, **tight)
    torch.testing.assert_close(one.transl, other.transl, **tight)
    torch.testing.assert_close(got.energy[among], expected.energy[rows], rtol=1e-9, atol=1e-6)
    for name, value in got.terms.items():
        torch.testing.assert_close(value[among], expected.terms[name][rows], rtol=1e-6, atol=1e-6)
    assert torch.equal(got.status[among], expected.status[rows])
    assert torch.equal(got.iterations[among], expected.iterations[rows])


# --- people do not know of each other ---


def test_alone_as_in_company(crowd, body, prior, state, together):
    objective = Objective(crowd.problem, body, prior, STAGE)
    for row in range(6):
        index = torch.tensor([row])
        alone = minimize(objective.rows(index), state.rows(index), 40)
        assert_same(prior, alone, together, [row], [0])


def test_in_any_order(crowd, body, prior, state, together):
    order = [4, 1, 5, 0, 3, 2, 1]  # one of them twice
    index = torch.tensor(order)
    objective = Objective(crowd.problem, body, prior, STAGE).rows(index)
    shuffled = minimize(objective, state.rows(index), 40)
    assert_same(prior, shuffled, together, order, range(7))


def neighbours(crowd, kind):
    """The crowd with person 2 replaced by somebody impossible."""
    keypoints, confidence = crowd.problem.keypoints.clone(), crowd.problem.confidence.clone()
    generator = torch.Generator().manual_seed(0)
    if kind == "nan":
        keypoints[2] = torch.nan
    elif kind == "one nan":
        keypoints[2, 7, 1] = torch.nan
    elif kind == "infinite":
        keypoints[2, 3] = torch.inf
    elif kind == "nan confidence":
        confidence[2, 5] = torch.nan
    elif kind == "unseen":
        confidence[2] = 0
    elif kind == "garbage":
        keypoints[2] = 1e4 * torch.randn(25, 2, generator=generator, dtype=torch.float64)
    elif kind == "one point":
        keypoints[2] = 100.0
    return FitProblem.build(BODY25, keypoints, confidence, crowd.problem.camera)


@pytest.mark.parametrize(
    "kind", ["nan", "one nan", "infinite", "nan confidence", "unseen", "garbage", "one point"]
)
def test_beside_somebody_impossible(crowd, body, prior, state, together, kind):
    problem = neighbours(crowd, kind)
    got = minimize(Objective(problem, body, prior, STAGE), state, 40)
    others = [0, 1, 3, 4, 5]
    assert_same(prior, got, together, others, others)
    if "nan" in kind or kind == "infinite":
        assert statuses(got)[2] is Status.INVALID
        assert int(got.iterations[2]) == 0
        assert torch.equal(got.state.latent[2], state.latent[2])
    else:
        assert statuses(got)[2] is not Status.INVALID
        assert got.state.latent[2].isfinite().all()
        assert got.energy[2].isfinite()


@pytest.mark.parametrize("where", ["latent", "transl"])
def test_beside_a_start_that_is_nan(crowd, body, prior, state, together, where):
    start = State(state.latent.clone(), state.transl.clone())
    getattr(start, where)[2] = torch.nan
    got = minimize(Objective(crowd.problem, body, prior, STAGE), start, 40)
    others = [0, 1, 3, 4, 5]
    assert_same(prior, got, together, others, others)
    assert statuses(got)[2] is Status.INVALID


def test_everybody_invalid(crowd, body, prior, state):
    problem = replace(crowd.problem, keypoints=torch.full((6, 25, 2), torch.nan).double())
    got = minimize(Objective(problem, body, prior, STAGE), state, 10)
    assert statuses(got) == [Status.INVALID] * 6
    assert not got.iterations.any()


# --- going down ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_never_ends_above_the_start(body, prior, dtype):
    """500 problems that make no sense, from starts that make no sense."""
    count = 500
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    spread = 10 ** (1 + normal(1, 1).clamp(-2, 3))
    keypoints = 300 + spread * normal(25, 2)
    confidence = normal(25).clamp(0, 1)
    confidence[::50] = 0
    camera = Camera.from_size(640, 480, 800.0).to(dtype=dtype)
    problem = FitProblem.build(BODY25, keypoints.to(dtype), confidence.to(dtype), camera)
    rotations = axis_angle_to_matrix(1.5 * normal(24, 3))
    transl = 3 * normal(3)  # half of them behind the camera
    body = body.to(dtype=dtype)
    prior = prior.to(dtype=dtype, device="cpu")
    start = State(prior.encode(Pose(rotations, 2 * normal(10))).to(dtype), transl.to(dtype))
    objective = Objective(problem, body, prior, STAGE)
    before = objective.evaluate(start).energy
    got = minimize(objective, start, 8)
    assert (got.energy <= before).all()
    assert (got.energy < before).float().mean() > 0.95
    # what is reported is the energy of what is given back
    again = objective.evaluate(got.state).energy
    torch.testing.assert_close(again, got.energy)
    assert got.state.latent.isfinite().all()
    assert Status.INVALID not in statuses(got)


def test_start_and_problem_are_not_changed(crowd, body, prior, state):
    inputs = [state.latent, state.transl, crowd.problem.keypoints, crowd.problem.confidence]
    before = [x.clone() for x in inputs]
    minimize(Objective(crowd.problem, body, prior, STAGE), state, 5)
    for now, then in zip(inputs, before, strict=True):
        assert torch.equal(now, then)


def test_repeat_runs_are_identical(crowd, body, prior, state, together):
    again = minimize(Objective(crowd.problem, body, prior, STAGE), state, 40)
    assert torch.equal(again.state.latent, together.state.latent)
    assert torch.equal(again.energy, together.energy)


def test_rotations_stay_rotations(prior, together):
    rotations = prior.decode(together.state.latent).rotations
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(-1, -2), eye)


def test_single_precision_is_close(crowd, body, prior, state, together):
    single = crowd.problem
    problem = FitProblem.build(
        BODY25,
        single.keypoints.float(),
        single.confidence.float(),
        single.camera.to(dtype=torch.float32),
    )
    low_body = body.to(dtype=torch.float32)
    low_prior = prior.to(dtype=torch.float32, device="cpu")
    start = State(state.latent.float(), state.transl.float())
    got = minimize(Objective(problem, low_body, low_prior, STAGE), start, 40)
    torch.testing.assert_close(got.energy.double(), together.energy, rtol=2e-3, atol=0)
    a, b = prior.decode(got.state.latent.double()), prior.decode(together.state.latent)
    distance = (body.joints(a.betas, a.rotations) - body.joints(b.betas, b.rotations)).norm(dim=-1)
    assert distance.mean() < 0.003
    assert distance.max() < 0.02


# --- endings ---


def test_converged_is_stationary(body, prior, make_crowd):
    crowd = make_crowd(16, seed=2, noise=4.0)
    objective = Objective(crowd.problem, body, prior, STAGE)
    start = start_near(crowd, prior)
    got = minimize(objective, start, 300, Options(tolerance=1e-9))
    converged = got.status == STATUSES.index(Status.CONVERGED)
    assert converged.float().mean() > 0.8
    now = objective.evaluate(got.state).rows(converged)
    # what a full Newton step would still gain, as a share of the energy
    diagonal = now.hessian.diagonal(dim1=-2, dim2=-1)
    damped = now.hessian + torch.diag_embed(1e-9 * diagonal + 1e-12)
    newton = torch.linalg.solve(damped, now.gradient)
    gain = 0.5 * (now.gradient * newton).sum(-1) / now.energy
    assert gain.max() < 1e-6
    before = objective.evaluate(start).rows(converged).gradient
    assert (now.gradient.norm(dim=-1) < 1e-3 * before.norm(dim=-1)).all()


def test_the_default_tolerance_ends_near_the_minimum(crowd, body, prior, together):
    objective = Objective(crowd.problem, body, prior, STAGE)
    further = minimize(objective, together.state, 200, Options(tolerance=1e-10))
    converged = together.status == STATUSES.index(Status.CONVERGED)
    assert converged.any()
    left = together.energy - further.energy
    assert (left[converged] < 0.01 * together.energy[converged]).all()


def test_iterations_at_most(crowd, body, prior, state):
    objective = Objective(crowd.problem, body, prior, STAGE)
    got = minimize(objective, state, 3)
    assert got.iterations.tolist() == [3] * 6
    assert statuses(got) == [Status.MAX_ITERATIONS] * 6
    none = minimize(objective, state, 0)
    assert not none.iterations.any()
    assert torch.equal(none.state.latent, state.latent)


def test_each_person_has_an_ending_of_their_own(crowd, body, prior, state, together):
    """One already at the minimum, one invalid, the others not done in 4 iterations."""
    objective = Objective(crowd.problem, body, prior, STAGE)
    start = State(state.latent.clone(), state.transl.clone())
    fine = minimize(objective, together.state, 200, Options(tolerance=1e-12)).state
    start.latent[1], start.transl[1] = fine.latent[1], fine.transl[1]
    start.latent[4] = torch.nan
    got = minimize(objective, start, 4)
    found = statuses(got)
    assert found[1] in (Status.CONVERGED, Status.STALLED)
    assert int(got.iterations[1]) < 4
    assert found[4] is Status.INVALID
    assert [found[k] for k in (0, 2, 3, 5)] == [Status.MAX_ITERATIONS] * 4


def test_every_status_says_something():
    assert len({s.value for s in Status}) == len(Status)


# --- which blocks move ---


@pytest.mark.parametrize("free", [("root", "transl"), ("transl",), ("shape",), ("pose", "root")])
def test_only_free_blocks_move(crowd, body, prior, state, free):
    stage = replace(STAGE, free=free)
    objective = Objective(crowd.problem, body, prior, stage)
    got = minimize(objective, state, 6)
    before, after = prior.decode(state.latent), prior.decode(got.state.latent)
    moved = {
        "root": (before.rotations[:, 0], after.rotations[:, 0]),
        "pose": (before.rotations[:, 1:], after.rotations[:, 1:]),
        "shape": (before.betas, after.betas),
        "transl": (state.transl, got.state.transl),
    }
    for name, (old, new) in moved.items():
        if name in free:
            assert ((old - new).flatten(1).abs().amax(-1) > 1e-4).all(), name
        else:
            torch.testing.assert_close(new, old, rtol=0, atol=1e-14)
    assert (got.energy < objective.evaluate(state).energy).all()


def test_columns_of_blocks(crowd, body, prior):
    def columns(*free):
        return Objective(crowd.problem, body, prior, replace(STAGE, free=free)).free_columns()

    assert columns("all").tolist() == list(range(85))
    assert columns("transl", "root").tolist() == [0, 1, 2, 82, 83, 84]
    assert columns("shape").tolist() == list(range(72, 82))


# --- systems that cannot be solved ---


def test_steps_are_bounded_and_go_down():
    jacobian = torch.diag(torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)).expand(2, 3, 3)
    gradient = torch.tensor([[1.0, 1, 1], [1e-9, 0, 0]], dtype=torch.float64)
    none = torch.zeros(2, 3, dtype=torch.float64)
    now = Evaluation(
        torch.ones(2, dtype=torch.float64), {}, gradient, jacobian[..., :2], jacobian[..., 2:],
        torch.zeros(2, 0, 3, dtype=torch.float64), none,
    )  # fmt: skip
    step, predicted, solved = _step(now, None, torch.arange(3), torch.zeros(2).double(), 0.5)
    assert solved.all()
    assert step.abs().max() <= 0.5 + 1e-12
    assert ((step * gradient).sum(-1) < 0).all()
    assert (predicted > 0).all()


class NoPrior:
    """Stands for a prior that costs nothing to differentiate."""

    costly = False


@dataclass(frozen=True)
class Bowls:
    """Stands for an Objective: |latent - 1|^2 of every row; some rows' Hessians are wrong."""

    wrong: torch.Tensor
    prior = NoPrior()
    moves_pose = True

    def free_columns(self, device="cpu"):
        return torch.arange(6, device=device)

    def rows(self, index):
        return Bowls(self.wrong[index])

    def move(self, state, step):
        return State(state.latent + step[:, :3], state.transl + step[:, 3:])

    def evaluate(self, state, pulled_rows=None, turn=0):
        x = torch.cat((state.latent, state.transl), -1) - 1
        energy = 0.5 * (x * x).sum(-1) + 1
        none = x.new_zeros(len(x), 0, 6)
        curvature = torch.where(self.wrong[:, None], -1.0, 1.0).expand_as(x)
        return Evaluation(energy, {"all": energy}, x, none[..., :3], none[..., 3:], none, curvature)


def test_a_row_that_cannot_be_solved_stalls_where_it_is():
    start = State(torch.zeros(3, 3).double(), torch.zeros(3, 3).double())
    bowls = Bowls(torch.tensor([False, True, False]))
    got = minimize(bowls, start, 60, Options(tolerance=1e-12))
    assert statuses(got) == [Status.CONVERGED, Status.STALLED, Status.CONVERGED]
    assert not got.state.latent[1].any()
    torch.testing.assert_close(got.state.latent[[0, 2]], torch.ones(2, 3).double())
    clean = minimize(Bowls(torch.zeros(3, dtype=torch.bool)), start, 60, Options(tolerance=1e-12))
    assert torch.equal(clean.state.latent[[0, 2]], got.state.latent[[0, 2]])


def test_from_hypotheses_everybody_gets_better(crowd, body, prior):
    start = hypotheses(crowd.problem, body, prior, prior.modes())
    objective = Objective(crowd.problem, body, prior, STAGE).rows(start.person)
    got = minimize(objective, start.state, 10)
    assert (got.energy < objective.evaluate(start.state).energy).all()
