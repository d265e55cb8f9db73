"""Is it better than SMPLify? Regression, flow fitting and the SMPLify family on the same people.

    python -m benchmarks.one_view.compare --mocap MOCAP/test --page docs/compare.md

On the made-up people of `benchmarks.posterior.posterior`: whole, cut by crops, cut by the frame,
and with two wrong keypoints of high confidence. Every published recipe runs from its own start and
from the posterior's mode, with its own optimizer and with Levenberg-Marquardt. Writes
`compare.json` and `compare.md`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.posterior.posterior import SETS, errors
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.solution import Status
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, PriorModel
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import People, PeopleMaker
from flowfit.priors.load import load

FAMILY = ("smplify", "spin", "smplifyx")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.one_view.compare"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=200, help="in each set")
    parser.add_argument("--prior", default="keypoint-flow")
    parser.add_argument("--mixture", default="smplify", help="or gmm_08.pkl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    parser.add_argument("--processes", type=int, default=1, help="sets measured side by side")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = args.mocap, args.prior, args.mixture, args.people, args.seed
    found: dict[str, Any] = {}
    # fresh processes: torch's threads do not survive a fork
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=fresh) as pool:
        running = {name: pool.submit(measure_set, name, *settings) for name in args.sets}
        for name, one in running.items():
            found[name] = one.result()
            print(name, json.dumps(found[name]), flush=True)
    content = {
        "what": "SMPLify family beside flow fitting, made-up people from unseen motion capture",
        "prior": args.prior,
        "mixture": args.mixture,
        "people_a_set": args.people,
        "seed": args.seed,
        **conditions(),
        "sets": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "compare.json", content)
    text = markdown(json.loads((args.out / "compare.json").read_text(encoding="utf-8")))
    (args.out / "compare.md").write_text(text, encoding="utf-8")
    if args.page is not None:
        put_between_marks(args.page, "compare", text)


def measure_set(
    name: str, mocap: Path, prior: str, mixture: str, people: int, seed: int
) -> list[dict[str, Any]]:
    """Every way to fit one set of people."""
    torch.set_num_threads(1)
    body, recordings = find_body("open"), read_mocap(mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).float())
    weights = torch.from_numpy(recordings.balanced_weights()).float()
    maker = PeopleMaker(body, poses, weights, BODY25, *SETS[name])
    drawn = maker.draw(people, torch.Generator().manual_seed(seed))
    double = torch.float64  # as the command line computes
    priors = load(prior, dtype=double), load(mixture, dtype=double, bending=True)
    return measure(drawn, body, *priors)


def measure(
    people: People, body: Body, flow: PriorModel, mixture: PriorModel
) -> list[dict[str, Any]]:
    """One dictionary for each way: kind, recipe, solver and its measures."""
    double = torch.float64
    exact = body.to(dtype=double)
    seen = (people.keypoints.to(double), people.confidence.to(double))
    problem = FitProblem.build(BODY25, *seen, people.camera.to(dtype=double))
    truth = body.joints(people.betas, people.rotations)
    told = tell(flow, problem, exact)
    start = told.start()
    assert start is not None
    mode = told.decode(start.latent), start.transl
    found = []

    def note(kind: str, name: str, result: FitResult, seconds: float) -> None:
        pose = Pose(result.rotations.float(), result.betas.float())
        share = result.reprojection_px / result.size
        falling = sum(s is Status.MAX_ITERATIONS for s in result.status)
        has_an_end = result.solver not in ("none", "adam")
        found.append(
            {
                "kind": kind,
                "recipe": name,
                "solver": result.solver,
                **errors(body.joints(pose.betas, pose.rotations), truth, pose, people),
                "reprojection_percent": 100 * share.nanmean().item(),
                "quality": result.quality.mean().item(),
                "facing": result.facing.mean().item(),
                "failed": sum(s is Status.INVALID for s in result.status),
                "still_falling": falling if has_an_end else None,
                "cpu_ms": 1000 * seconds / len(problem),
            }
        )

    # what is computed once and kept is nobody's time
    few = problem.rows(torch.arange(min(2, len(problem))))
    fit_seen(few, exact, flow, RECIPES["flow"])
    fit_seen(few, exact, mixture, RECIPES["spin"])
    for name in ("regression", "flow"):
        began = time.process_time()
        result = fit_seen(problem, exact, flow, RECIPES[name])
        note(name, name, result, time.process_time() - began)
    for kind, begin in (("mode", mode), ("scratch", None)):
        for name in FAMILY:
            own = RECIPES[name].stages[-1].solver
            for solver in dict.fromkeys((own, "lm")):
                began = time.process_time()
                prior = tell(mixture, problem, exact)
                result = fit_people(
                    problem, exact, prior, RECIPES[name], start=begin, solver=solver
                )
                note(kind, name, result, time.process_time() - began)
    return found


def markdown(content: dict[str, Any]) -> str:
    """The tables as a page's part: one a set, the lowest of each column in bold."""
    lines = [conditions_line(content), ""]
    for name, ways in content["sets"].items():
        lines += [
            f"**{name}** ({content['people_a_set']} people)",
            "",
            "| from | recipe | solver | PA-MPJPE mm | MPJPE mm | orientation | turned > 45° | "
            "reprojection | quality | facing | still falling | CPU |",
            "|" + " --- |" * 12,
        ]
        keys = ("pa_mpjpe_mm", "mpjpe_mm", "orientation_deg", "turned_share")
        least = {key: min(way[key] for way in ways) for key in keys}
        for way in ways:
            forms = ("{:.1f}", "{:.1f}", "{:.1f}°", "{:.1%}")
            texts = [form.format(way[key]) for key, form in zip(keys, forms, strict=True)]
            bold = [
                f"**{text}**" if way[key] == least[key] else text
                for key, text in zip(keys, texts, strict=True)
            ]
            falling = way["still_falling"]
            begins = {"mode": "the mode", "scratch": "its own start"}.get(way["kind"], "")
            lines.append(
                f"| {begins} | {way['recipe']} | {way['solver']} | {' | '.join(bold)} | "
                f"{way['reprojection_percent']:.2f} % of box | "
                f"{way['quality']:.2f} | {way['facing']:.2f} | "
                f"{'' if falling is None else falling} | {way['cpu_ms']:.0f} ms |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
