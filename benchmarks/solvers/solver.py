"""How much sooner the solver reaches the energy at which ProHMR's optimizer ends.

    python -m benchmarks.solvers.solver --mocap MOCAP/val [--wide WIDE.safetensors] --page
    docs/solver.md python -m benchmarks.solvers.solver --quick
    python -m benchmarks.solvers.solver --company --mocap MOCAP/val

Both minimise the objective of recipe `prohmr` over the latent and the translation, on the same
people, body and flow, from the same start: the posterior's mode. CPU time, one thread. "Sooner" is
ProHMR's CPU time for its usual ten steps, divided by the solver's until its summed energy is no
higher than ProHMR's at the end. Beside it: how far each person's energy is above the lowest one
known. `--wide` adds a posterior whose flow has 1,024 hidden units.

`--quick` uses the eight mean poses of the built-in mixture (and the coarse mesh for 64 people),
needs no files, and prints one line of JSON last. `--company` prints how far fits of the same people
alone and among 64 lie apart in single precision, with and without bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.solvers.prohmr_optimizer import ProHMRFit, fit_like_prohmr, fits_like_prohmr
from benchmarks.solvers.solver_page import BASELINE_BATCHES, markdown, plot
from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import PEOPLE_AT_ONCE
from flowfit.fitting.solvers.levenberg_marquardt import Options, minimize
from flowfit.fitting.solvers.solution import Solution
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import PriorModel
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import Detector, People, PeopleMaker, Scenery
from flowfit.priors.load import load
from flowfit.priors.networks import bound_flow

# as in ProHMR system's measurement: a little noise, one keypoint in fifty far off
DETECTOR = Detector(noise=0.6, outliers=0.02, outlier_size=0.2, missed=0.0, hidden_limbs=0.0)
BUILT_IN = "keypoint-flow"
FAST = Options(tolerance=0.0)
TO_THE_END = Options(tolerance=1e-5)
EXACT = Options(rows=None, tolerance=1e-9)
BATCHES = (1, 16, 64, 256, 1024)
THREADS = (1, 2)
ALONE = 16  # people who are fitted alone, one after the other
QUICK_ALONE = 5  # the same with --quick
VALLEY_PEOPLE, VALLEY_STARTS, VALLEY_SPREAD = 128, 2, 0.7
_T = TypeVar("_T")
ITERATIONS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 25, 30, 40, 60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.solvers.solver"
    )
    parser.add_argument("--mocap", type=Path, help="folder of AMASS files")
    parser.add_argument("--wide", type=Path, help="a posterior with 1,024 hidden units")
    parser.add_argument("--quick", action="store_true", help="under a minute, no files needed")
    parser.add_argument(
        "--no-bfloat16", action="store_true", help="as on a processor that is slow at it"
    )
    parser.add_argument("--company", action="store_true", help="people alone and among 64")
    parser.add_argument("--body", default="open")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.no_bfloat16:
        bound_flow.fast_bfloat16 = lambda device: False
    if args.quick:
        print(json.dumps(quick(args.seed)))
        return
    if args.mocap is None:
        parser.error("give --mocap FOLDER, or --quick")
    body = find_body(args.body)
    mocap = read_mocap(args.mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
    weights = torch.from_numpy(mocap.balanced_weights()).float()
    maker = PeopleMaker(body, poses, weights, BODY25, DETECTOR, Scenery())
    if args.company:
        print(json.dumps(company(maker, body, args.seed)))
        return
    flows = {"hidden 256": BUILT_IN}
    if args.wide is not None:
        flows["hidden 1024"] = str(args.wide)
    content: dict[str, Any] = {
        "what": "time to the energy at which ProHMR's optimizer ends",
        "body": f"{body.name}, {body.num_vertices} vertices",
        "seed": args.seed,
        **conditions(),
        "flows": {},
    }
    for name, prior in flows.items():
        content["flows"][name] = measure_flow(maker, body, prior, args.seed)
        print(name, json.dumps(content["flows"][name], default=str)[:2000], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    plot(content, args.out / "solver.png")
    for of_flow in content["flows"].values():
        for of_batch in of_flow["batches"].values():
            of_batch.pop("curves", None)
    write_json(args.out / "solver.json", content)
    text = markdown(content)
    (args.out / "solver.md").write_text(text, encoding="utf-8")
    if args.page is not None:
        put_between_marks(args.page, "solver", text)


def build(people: People, body: Body, flow: PriorModel) -> tuple[Objective, State]:
    """The objective of recipe `prohmr` and its start."""
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    given = flow.given(BODY25, people.keypoints, people.confidence, people.camera, body)
    start = given.start()
    assert start is not None
    objective = Objective(problem, body, given, RECIPES["prohmr"].stages[0])
    return objective, State(start.latent, start.transl)


def measure_flow(maker: PeopleMaker, body: Body, prior: str, seed: int) -> dict[str, Any]:
    """All batch sizes with one flow."""
    flow = load(prior)
    found: dict[str, Any] = {"batches": {}}
    for batch in BATCHES:
        count = ALONE if batch == 1 else batch
        people = maker.draw(count, torch.Generator().manual_seed(seed))
        objective, start = build(people, body, flow)
        truth = body.joints(people.betas, people.rotations)
        if batch in BASELINE_BATCHES:
            found["batches"][batch] = against_prohmr(objective, start, truth, batch)
        if batch > 1:
            found["batches"].setdefault(batch, {})["ours"] = ours_alone(objective, start)
    if prior == BUILT_IN:  # it takes a quarter of an hour with a wide one
        found["valleys"] = valleys(*build(
            maker.draw(VALLEY_PEOPLE, torch.Generator().manual_seed(seed + 1)), body, flow
        ))  # fmt: skip
    found["where_time_goes"] = where_time_goes(*build(
        maker.draw(64, torch.Generator().manual_seed(seed)), body, flow
    ))  # fmt: skip
    return found


def against_prohmr(objective: Objective, start: State, truth: Tensor, batch: int) -> dict[str, Any]:
    """ProHMR's optimizer and the solver on the same people, in batches of 1 or all at once."""
    count = len(start.transl)
    groups = [torch.tensor([i]) for i in range(count)] if batch == 1 else [torch.arange(count)]
    rows = []
    for group in groups:
        part, begin = objective.rows(group), start.rows(group)
        prohmr_fit, longer = fits_like_prohmr(part, begin)
        rows.append(compare(part, begin, truth[group], prohmr_fit, longer))
    speedups = [r["prohmr_seconds"] / r["ours_seconds_to_it"] for r in rows]
    joined = {k: torch.cat([r[k] for r in rows]) for k in ("prohmr", "ours", "best", "start")}
    above = joined["ours"] / joined["best"] - 1
    people = float(count)
    return {
        "people": count,
        "prohmr_evaluations": sum(r["prohmr_evaluations"] for r in rows) / len(rows),
        "prohmr_ms_a_person": 1000 * sum(r["prohmr_seconds"] for r in rows) / people,
        "ours_iterations_to_it": sum(r["ours_iterations_to_it"] for r in rows) / len(rows),
        "ours_ms_a_person_to_it": 1000 * sum(r["ours_seconds_to_it"] for r in rows) / people,
        "sooner": sum(r["prohmr_seconds"] for r in rows)
        / sum(r["ours_seconds_to_it"] for r in rows),
        "reached_share": sum(r["reached"] for r in rows) / len(rows),
        "sooner_least": min(speedups),
        "sooner_median": statistics.median(speedups),
        "prohmr_above_best_percent": 100 * (joined["prohmr"] / joined["best"] - 1).mean().item(),
        "converged_ms_a_person": 1000 * sum(r["converged_seconds"] for r in rows) / people,
        "converged_sooner": sum(r["prohmr_seconds"] for r in rows)
        / sum(r["converged_seconds"] for r in rows),
        "converged_below_prohmr_share": (joined["ours"] <= joined["prohmr"]).float().mean().item(),
        "converged_within_0.1_percent_share": (above < 1e-3).float().mean().item(),
        "pa_mpjpe_mm": {
            k: sum(r["pa"][k] * r["people"] for r in rows) / people for k in rows[0]["pa"]
        },
        "curves": rows[0]["curves"],
    }


def compare(
    objective: Objective, start: State, truth: Tensor, prohmr_fit: ProHMRFit, longer: ProHMRFit
) -> dict[str, Any]:
    """One group of people, fitted together."""

    def energy(state: State) -> Tensor:
        return objective.evaluate(state, 0).energy

    by_prohmr, by_longer = energy(prohmr_fit.state), energy(longer.state)
    goal = float(by_prohmr.sum())
    iterations, seconds_to_it, reached = first_below(objective, start, goal)
    curve = []
    for more in ITERATIONS:
        seconds, solution = timed(lambda n=more: minimize(objective, start, n, FAST), 1)
        total = float(solution.energy.sum())
        curve.append((seconds, total, error(objective, solution.state, truth)))
    seconds, ours = timed(lambda: minimize(objective, start, 60, TO_THE_END))
    best = torch.stack((
        by_prohmr, by_longer, ours.energy,
        minimize(objective, start, 300, EXACT).energy,
        minimize(objective, longer.state, 300, EXACT).energy,
    )).amin(0)  # fmt: skip
    return {
        "people": len(start.transl),
        "prohmr_seconds": prohmr_fit.seconds,
        "prohmr_evaluations": prohmr_fit.evaluations,
        "ours_iterations_to_it": iterations,
        "ours_seconds_to_it": seconds_to_it,
        "reached": reached,
        "converged_seconds": seconds,
        "start": energy(start),
        "prohmr": by_prohmr,
        "ours": ours.energy,
        "best": best,
        "pa": {
            "start": error(objective, start, truth),
            "seed, 10 steps": error(objective, prohmr_fit.state, truth),
            "seed, 30 steps": error(objective, longer.state, truth),
            "ours": error(objective, ours.state, truth),
        },
        "curves": {"prohmr": longer.curve, "ours": curve, "goal": goal},
    }


def first_below(objective: Objective, start: State, goal: float) -> tuple[int, float, bool]:
    """Fewest iterations after which the summed energy is at the goal, and their CPU seconds.

    Where it never is, because ProHMR's optimizer found another valley: all iterations, and False.
    """
    for iterations in ITERATIONS:
        seconds, solution = timed(lambda n=iterations: minimize(objective, start, n, FAST))
        if float(solution.energy.sum()) <= goal:
            return iterations, seconds, True
    return iterations, seconds, False


def ours_alone(objective: Objective, start: State) -> dict[str, Any]:
    """The solver on batches of which ProHMR's optimizer would take too long.

    In chunks, as `fit_people` does: the matrices of more people do not fit the caches.
    """
    people = len(start.transl)
    chunks = torch.arange(people).split(PEOPLE_AT_ONCE)

    def fit() -> list[Solution]:
        return [minimize(objective.rows(c), start.rows(c), 8, FAST) for c in chunks]

    minimize(objective.rows(chunks[0]), start.rows(chunks[0]), 1, FAST)
    walls, cpu = {}, {}
    for threads in THREADS:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        cpu[threads], solutions = timed(fit, 1)
        walls[threads] = 1000 * (time.perf_counter() - began) / people
    torch.set_num_threads(1)
    return {
        "people": people,
        "iterations": 8,
        "ms_a_person": 1000 * cpu[1] / people,
        "wall_ms_a_person_by_threads": walls,
        "mean_energy": torch.cat([s.energy for s in solutions]).mean().item(),
    }


def valleys(objective: Objective, start: State) -> dict[str, float]:
    """How often the solver ends in the lowest valley that a wider search knows, on other people.

    The search is the solver with exact derivatives, from the start and from two random places
    around it. Nobody else's valleys are known, so the true shares are no higher.
    """
    exact = minimize(objective, start, 300, EXACT).energy
    ours = minimize(objective, start, 60, TO_THE_END).energy
    lowest = torch.minimum(exact, ours)
    generator = torch.Generator().manual_seed(0)
    for _ in range(VALLEY_STARTS):
        noise = torch.randn(start.latent.shape, generator=generator)
        aside = State(start.latent + VALLEY_SPREAD * noise, start.transl)
        lowest = torch.minimum(lowest, minimize(objective, aside, 300, EXACT).energy)

    def lowest_share(energy: Tensor) -> float:
        return (energy / lowest - 1 < 1e-3).float().mean().item()

    return {"people": len(exact), "ours": lowest_share(ours), "exact": lowest_share(exact)}


def timed(run: Callable[[], _T], times: int = 2) -> tuple[float, _T]:
    """Least CPU seconds of several runs, and the last result."""
    least = torch.inf
    for _ in range(times):
        began = time.process_time()
        result = run()
        least = min(least, time.process_time() - began)
    return float(least), result


def error(objective: Objective, state: State, truth: Tensor) -> float:
    """Mean PA-MPJPE, mm."""
    pose = objective.prior.decode(state.latent)
    found = objective.body.joints(pose.betas, pose.rotations)
    return 1000 * pa_mpjpe(found[:, JOINTS], truth[:, JOINTS]).mean().item()


def where_time_goes(objective: Objective, start: State) -> dict[str, float]:
    """Shares of the solver's CPU time, by function, for 64 people."""
    import cProfile
    import pstats

    minimize(objective, start, 2, FAST)
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    minimize(objective, start, 8, FAST)
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    # functions of these names in other files are called by these
    inside = {
        name: sum(
            v[3] for (where, _, function), v in stats.items()
            if function == name and Path(where).stem == file
        )
        for name, file in {
            "minimize": "levenberg_marquardt", "pull_back": "bound_flow",
            "linearize": "flow_prior", "keypoints_with_jacobian": "body_jacobian",
            "damped_step": "normal_equations", "corrected": "tangent",
        }.items()
    }  # fmt: skip
    whole = inside["minimize"]
    parts = {
        "rows pulled back through the flow": inside["pull_back"],
        "bodies of the latents": inside["linearize"],
        "keypoints with derivatives": inside["keypoints_with_jacobian"],
        "damped steps": inside["damped_step"],
        "learning the tangent": inside["corrected"],
    }
    shares = {name: seconds / whole for name, seconds in parts.items()}
    return {**shares, "the rest": 1 - sum(shares.values())}


def company(maker: PeopleMaker, body: Body, seed: int) -> dict[str, Any]:
    """Distances, mm, between the joints of 64 people fitted alone and together."""
    flow = load(BUILT_IN)
    objective, start = build(maker.draw(64, torch.Generator().manual_seed(seed)), body, flow)
    rows = [torch.tensor([row]) for row in range(64)]

    def joints(solutions: list[Solution]) -> Tensor:
        pose = objective.prior.decode(torch.cat([s.state.latent for s in solutions]))
        return body.joints(pose.betas, pose.rotations)

    found: dict[str, Any] = {}
    as_it_is = bound_flow.fast_bfloat16
    for name, answer in (("bfloat16", as_it_is), ("without", lambda device: False)):
        bound_flow.fast_bfloat16 = answer
        together = joints([minimize(objective, start, 60)])
        alone = joints([minimize(objective.rows(r), start.rows(r), 60) for r in rows])
        apart = 1000 * (together - alone).norm(dim=-1).mean(-1)
        found[name] = {
            "median_mm": apart.median().item(),
            "largest_mm": apart.max().item(),
            "above_1_mm": int((apart > 1).sum()),
        }
    bound_flow.fast_bfloat16 = as_it_is
    return {**found, "people": 64, "measured_on": conditions_line(conditions())}


def quick(seed: int) -> dict[str, Any]:
    """Both speedups on few people, in under a minute.

    The 64 have the coarse mesh: with the other one ProHMR's optimizer alone takes half a minute.
    """
    flow, gmm = load("keypoint-flow"), load("gmm")
    mean = gmm.modes().rotations  # type: ignore[attr-defined]
    alone = [torch.tensor([row]) for row in range(QUICK_ALONE)]
    found: dict[str, Any] = {}
    told = []
    for name, of_body, groups in (
        ("speedup_b1", "open", alone),
        ("speedup_b1_coarse", "open-low", alone),
        ("speedup_b64", "open-low", [torch.arange(64)]),
    ):
        body = find_body(of_body)
        maker = PeopleMaker(body, mean, None, BODY25, DETECTOR, Scenery())
        people = maker.draw(64, torch.Generator().manual_seed(seed))
        objective, start = build(people, body, flow)
        by_prohmr, ours = [], []
        for rows in groups:
            part, begin = objective.rows(rows), start.rows(rows)
            by_prohmr.append(fit_like_prohmr(part, begin))
            goal = part.evaluate(by_prohmr[-1].state, 0).energy.sum()
            ours.append(first_below(part, begin, float(goal)))
        seconds = sum(fit.seconds for fit in by_prohmr), sum(one[1] for one in ours)
        found[name] = round(seconds[0] / seconds[1], 1)
        found[f"{name}_reached"] = all(one[2] for one in ours)
        found[f"{name}_evaluations_iterations"] = [
            statistics.mean(fit.evaluations for fit in by_prohmr),
            statistics.mean(one[0] for one in ours),
        ]
        who = "64 together" if len(groups) == 1 else f"{len(groups)} people one by one"
        told.append(f"{who} with the {body.name} body ({body.num_vertices} vertices)")
    return {
        **found,
        "measured_on": f"{', '.join(told)}; hidden 256, one thread, CPU time, "
        f"{conditions_line(conditions())}",
    }


if __name__ == "__main__":
    main()
