"""What is still open after a fit: weighted bodies that explain the keypoints about as well.

A posterior that was told of the keypoints, times the likelihood of the same keypoints, counts that
evidence twice and comes out too sure. So the target is this product to a power below one: its
energy is divided by a temperature, which was chosen on validation people by coverage
(`python -m benchmarks.trust.tune_uncertainty`). A prior that has not looked at the keypoints needs
none.

The draws begin at Laplace's approximation around the fit, and are corrected by annealed importance
sampling, since the body is no linear function of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import Evaluation, Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.annealed import Annealed, annealed, resample
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.fitting.one_view.importance import TRUSTED_K
from flowfit.fitting.one_view.quantize import Modes, quantize
from flowfit.fitting.results.gaussian import Laplace
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.results.sides import put_back
from flowfit.fitting.solvers.levenberg_marquardt import minimize
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body import Body
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.priors.base import Pose, PriorModel
from flowfit.priors.keypoints.draws import AT_ONCE, Draws

LEAST_SAMPLES, MOST_SAMPLES = 50, 20_000
_FOR_VERTICES = 256  # draws that the vertices' deviations are worked out from
_VERTICES_AT_ONCE = 32


@dataclass(frozen=True)
class Heat:
    """How a person's temperature follows from how well their keypoints are met.

    Whoever's keypoints are met worse than usual has noisier ones than the data term takes them for,
    and the posterior was told of these, too.

    Attributes:
        base: of people whose keypoints are met as usual, or better. power: how fast it rises with
            the data term's mean; 0: never. most: of the base.
    """

    base: float
    power: float = 0.0
    most: float = 2.0

    def of(self, met: Tensor) -> Tensor:
        """Temperatures (B,) of mean data terms (B,), see `how_met`."""
        return self.base * (met / USUALLY_MET).pow(self.power).clamp(1.0, self.most)


# found on validation people by `python -m benchmarks.trust.tune_uncertainty`
HEAT = Heat(1.4, 0.4)
COLD = Heat(1.0)
USUALLY_MET = 0.35  # `how_met` of ordinary people, the median


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The tempered energy around one person's fit, in coordinates where Laplace's is N(0, I).

    Attributes:
        objective: of this person alone. state: the minimum. laplace: there.
        temperature: what the energy is divided by.

    The heat is not to make giants: betas are distributed as N(0, 1), and what the temperature takes
    from that is put back.
    """

    objective: Objective
    state: State
    laplace: Laplace
    temperature: float

    @property
    def size(self) -> int:
        """P, numbers of a step."""
        return self.laplace.scale.shape[-1]

    def states(self, points: Tensor) -> State:
        """States (n, ...) of points (n, P)."""
        steps = self.laplace.steps(self.temperature**0.5 * points[None])[0]
        whose = torch.zeros(len(points), dtype=torch.long, device=points.device)
        return self.objective.rows(whose[:1]).move(self.state.rows(whose), steps)

    def energy(self, points: Tensor, at_once: int = AT_ONCE) -> Tensor:
        """Tempered energy (n,) of points (n, P)."""
        parts = []
        for some in points.split(at_once):
            whose = torch.zeros(len(some), dtype=torch.long, device=some.device)
            state, objective = self.states(some), self.objective.rows(whose)
            pose = objective.prior.decode(state.latent)
            shape = 0.5 * (pose.betas * pose.betas).sum(-1)
            cold = objective.energy(state, pose) + (self.temperature - 1) * shape
            parts.append(cold / self.temperature)
        return torch.cat(parts)

    def log_weight(self, points: Tensor) -> Tensor:
        """Log of the target over Laplace's approximation (n,), up to a constant."""
        return 0.5 * (points * points).sum(-1) - self.energy(points)

    def draws(self, points: Tensor, at_once: int = AT_ONCE) -> Draws:
        """Bodies of points (n, P); their log_prob is the tempered energy's negative."""
        parts = []
        for some in points.split(at_once):
            whose = torch.zeros(len(some), dtype=torch.long, device=some.device)
            state = self.states(some)
            pose = self.objective.prior.rows(whose).decode(state.latent)
            parts.append((pose.rotations, pose.betas, state.transl))
        rotations, betas, transl = (torch.cat(p) for p in zip(*parts, strict=True))
        joints = self.objective.body.joints(betas, rotations, transl)
        return Draws(rotations, betas, transl, joints, -self.energy(points, at_once))


@dataclass(frozen=True, eq=False)
class AfterFit:
    """What is open after one person's fit.

    Attributes:
        draws: n bodies. weights: (n,), they sum to 1. modes: the few bodies they come down to.
        joint_sd: (24,) metres, of a joint's place relative to the pelvis: root of the summed
            variances of x, y and z. vertex_sd: (V,), the same of the mesh.
        distance_sd: metres, of the pelvis' distance from the camera.
        k_hat: the worst Pareto shape of the weights; above 0.7 they are not to be trusted.
        effective: least effective number of draws of a bridge. bridges, accepted: see `Annealed`.
        temperature: of the target.
    """

    draws: Draws
    weights: Tensor
    modes: Modes
    joint_sd: Tensor
    vertex_sd: Tensor
    distance_sd: float
    k_hat: float
    effective: float
    bridges: int
    accepted: float
    temperature: float

    @property
    def trusted(self) -> bool:
        """Whether the weights tell of the target."""
        return self.k_hat <= TRUSTED_K


def surroundings(
    problem: FitProblem,
    body: Body,
    model: PriorModel,
    result: FitResult,
    *,
    heat: Heat | None = None,
) -> list[Surroundings | None]:
    """For every person of a fit; None for whom there is no Gaussian.

    Args:
        problem, body, model, result: what was given to `fit_seen`, and what came of it. Of a recipe
            that has no minimisation, the last stage's energy counts.
        heat: None: `HEAT` for a prior that looks at the keypoints, else `COLD`.
    """
    heat = heat or (HEAT if model.looks else COLD)
    stage = RECIPES[result.recipe].stages[-1]
    same = replace(put_back(problem, result.exchanged), unit=result.unit)
    trusted = torch.where(result.doubted, 0, same.confidence)
    prior = tell(model, replace(same, confidence=trusted), body)
    latent = prior.encode(Pose(result.rotations, result.betas))
    stage = replace(stage, free=("all",), weights={**stage.weights, "depth": 0.0})
    found: list[Surroundings | None] = []
    for row, status in enumerate(result.status):
        one = torch.tensor([row], device=latent.device)
        if status is Status.INVALID or not bool(latent[row].isfinite().all()):
            found.append(None)
            continue
        objective = Objective(same, body, prior, stage).rows(one)
        # what a body is encoded to differs from what was fitted where the body does not show it
        state = minimize(objective, State(latent[one], result.transl[one]), 30).state
        temperature = float(heat.of(how_met(objective, state))[0])
        laplace = Laplace.of(_with_shape(objective, state, temperature - 1))
        good = bool(laplace.good[0])
        found.append(Surroundings(objective, state, laplace, temperature) if good else None)
    return found


def how_met(objective: Objective, state: State) -> Tensor:
    """(B,): the data term over the summed confidence; about 1 where the noise is as expected."""
    terms = objective.evaluate(state, 0 if objective.prior.costly else None).terms
    return terms["reprojection"] / objective.problem.evidence().sum(-1).clamp(min=1e-9)


def _with_shape(objective: Objective, state: State, factor: float) -> Evaluation:
    """The evaluation's model with `factor` times half the squared betas on top."""
    evaluation = objective.evaluate(state)
    pose, pull_back = objective.prior.linearize(state.latent)
    size = pose.betas.shape[-1]
    rows = pose.betas.new_zeros(1, size, NUM_JOINTS * 3 + size)
    rows[:, :, NUM_JOINTS * 3 :] = torch.eye(size, dtype=rows.dtype, device=rows.device)
    by_step = pull_back(rows)
    missing = evaluation.gradient.shape[-1] - by_step.shape[-1]
    by_step = factor**0.5 * torch.nn.functional.pad(by_step, (0, missing))
    return replace(evaluation, prior=torch.cat((evaluation.prior, by_step), 1))


def after_fit(around: Surroundings, count: int, modes: int, seed: int = 0) -> AfterFit:
    """Weighted draws and what they say. ProHMR and the person alone decide.

    Args:
        around: of the person. count: n. modes: how many bodies to quantise to.
    """
    found = weighted(around, count, seed)
    draws = around.draws(found.points)
    weights = found.weights
    pelvis = joint_index("pelvis")
    relative = draws.joints3d - draws.joints3d[:, pelvis : pelvis + 1]
    return AfterFit(
        draws,
        weights,
        quantize(draws.joints3d, modes, weights=weights, seed=seed),
        deviation(relative, weights),
        _vertex_sd(draws, weights, around.objective.body),
        float(deviation(draws.joints3d[:, pelvis, 2:], weights)),
        found.k_hat,
        found.effective,
        found.bridges,
        found.accepted,
        around.temperature,
    )


def weighted(around: Surroundings, count: int, seed: int) -> Annealed:
    """Weighted points of a person's surroundings."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, around.size, generator=generator, dtype=torch.float64)
    return annealed(around.log_weight, noise.to(around.state.latent), generator)


def deviation(points: Tensor, weights: Tensor) -> Tensor:
    """Root of the summed variances along the last axis. (n, ..., C), (n,) -> (...)."""
    weight = weights.view(-1, *(1,) * (points.ndim - 1))
    mean = (weight * points).sum(0)
    return (weight * (points - mean) ** 2).sum(0).sum(-1).sqrt()


def _vertex_sd(draws: Draws, weights: Tensor, body: Body) -> Tensor:
    """(V,) metres, relative to the pelvis, of some draws as they weigh."""
    even = resample(weights, torch.Generator().manual_seed(0))
    even = even[:: max(1, len(even) // _FOR_VERTICES)]
    pelvis = joint_index("pelvis")
    first = torch.zeros(body.num_vertices, 3, dtype=torch.float64, device=weights.device)
    second = torch.zeros_like(first)
    for some in even.split(_VERTICES_AT_ONCE):
        vertices = body.vertices(draws.betas[some], draws.rotations[some], draws.transl[some])
        vertices = (vertices - draws.joints3d[some, pelvis, None]).double()
        first += vertices.sum(0) / len(even)
        second += (vertices * vertices).sum(0) / len(even)
    return (second - first * first).clamp(min=0).sum(-1).sqrt().to(weights)
