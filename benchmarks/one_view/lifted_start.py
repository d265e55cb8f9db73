"""Fits with a lifter as start and as prior, beside the classical start and the SMPL posterior.

    python -m benchmarks.one_view.lifted_start --mocap MOCAP/test

On made-up people with known bodies from motion capture that no prior has seen. Writes
`lifted_start.json` and `lifted_start.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.one_view.single_image import SCENERIES
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.one_view.lifted_prior import LiftedPrior
from flowfit.fitting.one_view.lifted_start import lifted_start
from flowfit.fitting.results.result import FitResult
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25, H36M17, KeypointSchema
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import Detector, People, PeopleMaker
from flowfit.priors.lifting.files import load_lifter
from flowfit.priors.load import load

# what the detector reports, and where people stand
SETS = {
    "body25, plain": (BODY25, SCENERIES["plain"]),
    "body25, truncated": (BODY25, SCENERIES["truncated"]),
    "h36m17, plain": (H36M17, SCENERIES["plain"]),
}
UP = torch.tensor([0.0, -1.0, 0.0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.one_view.lifted_start",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--lifter", default="lifting")
    parser.add_argument("--people", type=int, default=200, help="in each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body = find_body("open").to(dtype=torch.float64)
    recordings = read_mocap(args.mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).double())
    weights = torch.from_numpy(recordings.balanced_weights())
    content: dict[str, Any] = {
        "what": "fits with a lifter as start and as prior, made-up people",
        "people_a_set": args.people,
        "seed": args.seed,
        **conditions(),
        "sets": {},
    }
    for name, (schema, scenery) in SETS.items():
        maker = PeopleMaker(body, poses, weights, schema, Detector(), scenery)
        people = maker.draw(args.people, torch.Generator().manual_seed(args.seed))
        content["sets"][name] = measure(people, schema, body, args.lifter)
        print(name, json.dumps(content["sets"][name]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "lifted_start.json", content)
    text = markdown(json.loads((args.out / "lifted_start.json").read_text(encoding="utf-8")))
    (args.out / "lifted_start.md").write_text(text, encoding="utf-8")
    if args.page is not None:
        put_between_marks(args.page, "lifted_start", text)


def measure(
    people: People, schema: KeypointSchema, body: Body, lifter_name: str
) -> dict[str, dict[str, float]]:
    """Errors and CPU time of every way to begin, on one set."""
    problem = FitProblem.build(schema, people.keypoints, people.confidence, people.camera)
    model = load("gmm", num_betas=body.num_betas, up=UP, dtype=body.dtype)
    prior = tell(model, problem, body)
    lifter = load_lifter(lifter_name, dtype=body.dtype)[0]
    recipe, count = RECIPES["gmm"], len(problem)
    began = time.process_time()
    start = lifted_start(problem, body, prior, lifter)
    lifted = time.process_time()
    from_lifted = fit_people(problem, body, prior, recipe, start=start)
    fitted = time.process_time()
    all_around = fit_people(problem, body, prior, recipe)
    ended = time.process_time()
    with_lifter = fit_seen(problem, body, LiftedPrior(model, lifter), recipe)
    told = time.process_time()
    flow = fit_seen(problem, body, load("keypoint-flow", dtype=body.dtype), RECIPES["flow"])
    last = time.process_time()
    energies = [_energy(r) for r in (from_lifted, all_around)]
    lower = (energies[0] < energies[1] - 1e-3).double().mean().item()
    poses = {
        "lifted skeleton's body, not fitted": (start[0], lifted - began),
        "gmm, begun there": (Pose(from_lifted.rotations, from_lifted.betas), fitted - began),
        "gmm from eight orientations": (
            Pose(all_around.rotations, all_around.betas),
            ended - fitted,
        ),
    }
    for name, result, seconds in (
        ("gmm, prior lifting", with_lifter, told - ended),
        ("flow (the SMPL posterior)", flow, last - told),
    ):
        poses[name] = Pose(result.rotations, result.betas), seconds
    found = {
        name: {**errors(pose, body, people), "cpu_ms": 1000 * seconds / count}
        for name, (pose, seconds) in poses.items()
    }
    found["gmm, begun there"]["lower_energy_share"] = lower
    return found


def _energy(result: FitResult) -> Tensor:
    return torch.stack(list(result.energy.values())).sum(0)


def errors(pose: Pose, body: Body, people: People) -> dict[str, float]:
    """MPJPE and PA-MPJPE over 14 joints, mm, and wrong orientations."""
    joints = body.joints(pose.betas, pose.rotations)
    truth = body.joints(people.betas, people.rotations)
    aligned = (joints - joints[:, :1] - truth + truth[:, :1])[:, JOINTS]
    turned = orientation_error(pose.rotations[:, 0], people.rotations[:, 0])
    each = 1000 * aligned.norm(dim=-1).mean(-1)
    return {
        "mpjpe_mm": each.mean().item(),
        "mpjpe_median_mm": each.median().item(),
        "pa_mpjpe_mm": 1000 * pa_mpjpe(joints[:, JOINTS], truth[:, JOINTS]).mean().item(),
        "turned_share": (turned > TURNED).double().mean().item(),
    }


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    lines = [
        f"{content['people_a_set']} people a set; 14 joints, mm. {conditions_line(content)}",
        "",
        "| people | fit | MPJPE mean / median | PA-MPJPE | turned > 45° | CPU a person | "
        "lower energy than from eight |",
        "| --- " * 7 + "|",
    ]
    for name, of_set in content["sets"].items():
        for method, m in of_set.items():
            lower = m.get("lower_energy_share")
            lines.append(
                f"| {name} | {method} | {m['mpjpe_mm']:.1f} / {m['mpjpe_median_mm']:.1f} | "
                f"{m['pa_mpjpe_mm']:.1f} | {100 * m['turned_share']:.1f} % | {m['cpu_ms']:.0f} ms "
                + ("| |" if lower is None else f"| {100 * lower:.0f} % |")
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
