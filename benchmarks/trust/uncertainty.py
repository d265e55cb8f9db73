"""Samples, their modes, coverage after a fit and the quality score: how honest they are.

    python -m benchmarks.trust.uncertainty --mocap MOCAP --people 200

MOCAP has the folders train and test; bodies and errors are of test, train gives the baseline's
poses. Each part writes `uncertainty/PART.json` when it is done; `--only PART ...` measures these
anew and keeps the others. The page and the plots are made from what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, put_between_marks, write_json
from benchmarks.trust import best_of_n, coverage, quality_score
from benchmarks.trust.corrupted import made_up
from benchmarks.trust.tune_uncertainty import SETS as COVERED_SETS
from benchmarks.trust.uncertainty_page import markdown, plot
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.after_fit import after_fit, surroundings
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.one_view.quantize import quantize
from flowfit.fitting.results.judge import judged
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, Scenery
from flowfit.priors.keypoints.draws import draw, random_latents
from flowfit.priors.load import load

PARTS = ("best_of_n", "coverage", "quality", "judging", "time")
BEST_OF_SETS = {
    "plain": (Detector(), Scenery()),
    "cropped": (Detector(cropped=1.0), Scenery()),
    "truncated": (Detector(), TRUNCATED),
}
_TIMED, _AFTER, _MODES = 20, 1000, 5
_JUDGED, _JUDGED_ALONE = 64, 12


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.trust.uncertainty"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--people", type=int, default=200, help="in each set")
    parser.add_argument("--samples", type=int, default=400, help="of each person after the fit")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="measure these anew")
    parser.add_argument("--photos", type=Path, help="folder of pictures with keypoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.out / "uncertainty"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for part in PARTS:
        path = folder / f"{part}.json"
        wanted = part in args.only if args.only else not path.exists()
        if wanted:
            began = time.perf_counter()
            content = {
                "people_a_set": args.people,
                "seed": args.seed,
                **conditions(),
                **measured(part, args),
                "minutes": (time.perf_counter() - began) / 60,
            }
            write_json(path, content)
            print(f"{part}: {content['minutes']:.1f} minutes", flush=True)
        if path.exists():
            found[part] = json.loads(path.read_text(encoding="utf-8"))
    text = markdown(found)
    (folder / "uncertainty.md").write_text(text, encoding="utf-8")
    plot(found, folder)
    if args.page is not None:
        put_between_marks(args.page, "uncertainty", text)


def measured(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """One part, anew."""
    body, test = find_body("open"), args.mocap / "test"
    if part == "best_of_n":
        pool = best_of_n.training_pool(read_mocap(args.mocap / "train"), body, args.seed)
        sets = made_up(test, body, BEST_OF_SETS, args.people, args.seed)
        return {
            "sets": {n: best_of_n.measure(p, body, pool, args.seed) for n, p in sets.items()},
        }
    if part == "coverage":
        sets = made_up(test, body, COVERED_SETS, args.people, args.seed)
        return {
            "samples": args.samples,
            "sets": {n: coverage.measure(p, body, args.samples) for n, p in sets.items()},
        }
    if part == "quality":
        shown = {} if args.photos is None else {"photos": quality_score.photographs(args.photos)}
        score = quality_score.measure(test, body, args.people, args.seed, "flow")
        return {**score, **shown}
    if part == "judging":
        return judging(
            made_up(test, body, {"plain": BEST_OF_SETS["plain"]}, _JUDGED, args.seed), body
        )
    return timed(made_up(test, body, {"plain": BEST_OF_SETS["plain"]}, _TIMED, args.seed), body)


def judging(sets: dict[str, People], body: Body) -> dict[str, Any]:
    """CPU milliseconds a person of a fit, and of its scores alone; together and one by one."""
    (people,) = sets.values()
    double = body.to(dtype=torch.float64)
    model = load("keypoint-flow", dtype=torch.float64)
    seen = people.keypoints.double(), people.confidence.double()
    everyone = FitProblem.build(BODY25, *seen, people.camera.to(dtype=torch.float64))

    def spent(rows: torch.Tensor) -> tuple[float, float]:
        problem = everyone.rows(rows)
        times = [time.process_time()]
        result = fit_seen(problem, double, model, RECIPES["flow"])
        times.append(time.process_time())
        judged(problem, result, double, model)
        times.append(time.process_time())
        return times[1] - times[0], times[2] - times[1]

    spent(torch.arange(2))  # what is computed once and kept
    together = spent(torch.arange(len(everyone)))
    alone = [spent(torch.tensor([row])) for row in range(_JUDGED_ALONE)]
    return {
        "judged": len(everyone),
        "judged_alone": _JUDGED_ALONE,
        "fit_ms": 1000 * together[0] / len(everyone),
        "scores_ms": 1000 * together[1] / len(everyone),
        "fit_alone_ms": 1000 * statistics.median(a for a, _ in alone),
        "scores_alone_ms": 1000 * statistics.median(b for _, b in alone),
    }


def timed(sets: dict[str, People], body: Body) -> dict[str, Any]:
    """Seconds of one person, on the clock and of the CPU; the first of the process left out."""
    (people,) = sets.values()
    model = load("keypoint-flow")
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    clock: list[tuple[float, float]] = []
    for row in range(len(problem)):
        one = torch.tensor([row])
        began = time.perf_counter(), time.process_time()
        given = tell(model, problem.rows(one), body).as_posterior()
        assert given is not None
        latents = random_latents(best_of_n.MOST, given, 0, 0)
        quantize(draw(given, 0, latents, body).joints3d, _MODES)
        clock.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    double = body.to(dtype=torch.float64)
    exact = load("keypoint-flow", dtype=torch.float64)
    seen = people.keypoints.double(), people.confidence.double()
    problem = FitProblem.build(BODY25, *seen, people.camera.to(dtype=torch.float64))
    few = problem.rows(torch.arange(3))
    result = fit_seen(few, double, exact, RECIPES["flow"])
    after = []
    for around in surroundings(few, double, exact, result):
        assert around is not None
        start = time.process_time()
        after_fit(around, _AFTER, _MODES)
        after.append(time.process_time() - start)
    wall, cpu = zip(*clock[1:], strict=True)
    return {
        "samples": best_of_n.MOST,
        "modes": _MODES,
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(cpu),
        "cpu_minutes_for_1000_people": 1000 * statistics.mean(cpu) / 60,
        "after_fit_samples": _AFTER,
        "after_fit_cpu_seconds": statistics.median(after),
    }


if __name__ == "__main__":
    main()
