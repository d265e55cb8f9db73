"""How far off the fits of single pictures are, on made-up people with known bodies.

    python -m benchmarks.one_view.single_image --mocap MOCAP/test

Draws people from motion capture that no prior has seen, whole ones and ones that the picture's
frame cuts, with a made-up detector's errors; fits them with a recipe, once with the true
focal length and once with the assumed one (the picture's diagonal); writes `single_image.json`,
`single_image.md` and pictures of the ten worst, of all and of the whole people.

"From the truth" is a second fit that starts at the true body. Where it ends with a lower energy,
the search has missed the minimum; where not, the minimum itself is in the wrong place.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.one_view.worst_people import Drawn, draw_worst
from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.solvers.levenberg_marquardt import minimize
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.kinematics import joint_index
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, PosePrior, PriorModel
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, People, PeopleMaker, Scenery
from flowfit.priors.load import load

LIMBS = [
    (joint_index(f"{side}_{a}"), joint_index(f"{side}_{b}"))
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    for side in ("left", "right")
]
SCHEMA = BODY25
SCENERIES = {"plain": Scenery(), "truncated": TRUNCATED}
FOCALS = ("true", "assumed")
GROSS = 0.05  # of the box; a keypoint this far off is an outlier
FLIPPED = 0.08  # metres in depth, towards the camera instead of away; less is no flip
NOTABLE = 1.0  # nats; a lower energy by more than this means that the search has missed
WORST = 10


@dataclass(frozen=True, eq=False)
class Run:
    """One set of people, fitted in one way, and what came of it, by person."""

    people_set: str
    focal: str
    people: People
    problem: FitProblem
    prior: PosePrior
    result: FitResult
    true_joints: Tensor
    measures: dict[str, Tensor]
    cpu_seconds: float


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.one_view.single_image",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default=DEFAULT_RECIPE)
    parser.add_argument("--people", type=int, default=300, help="in each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()

    body = find_body("open")
    recipe = RECIPES[args.recipe]
    up = torch.tensor([0.0, -1.0, 0.0])
    prior = load(recipe.prior, num_betas=body.num_betas, up=up)
    mocap = read_mocap(args.mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
    weights = torch.from_numpy(mocap.balanced_weights()).float()
    runs = []
    for name, scenery in SCENERIES.items():
        maker = PeopleMaker(body, poses, weights, schema=SCHEMA, scenery=scenery)
        people = maker.draw(args.people, torch.Generator().manual_seed(args.seed))
        for focal in FOCALS:
            runs.append(run(name, focal, people, body, prior, recipe))
            print(row_of(summary(runs[-1])), flush=True)
    worst = {"all": worst_people(runs), "plain": worst_people(runs[: len(FOCALS)])}
    content = {
        "what": "single pictures, made-up people from unseen motion capture",
        "recipe": recipe.name,
        "prior": prior.name,
        "people_a_set": args.people,
        "seed": args.seed,
        "joints": len(JOINTS),
        "cpu_seconds_alone": alone(runs[0], body, recipe),
        **conditions(),
        "runs": [summary(r) for r in runs],
        "worst": {name: [fact for _, _, fact in found] for name, found in worst.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "single_image.json", content)
    text = markdown(json.loads((args.out / "single_image.json").read_text(encoding="utf-8")))
    (args.out / "single_image.md").write_text(text, encoding="utf-8")
    for name, picture in (("all", "worst10.png"), ("plain", "worst10_plain.png")):
        rows = [drawn(r, i, fact, body) for r, i, fact in worst[name]]
        draw_worst(args.out / picture, rows)
    if args.page is not None:
        put_between_marks(args.page, f"single_image_{recipe.name}", text)


def run(
    name: str, focal: str, people: People, body: Body, model: PriorModel, recipe: Recipe
) -> Run:
    """Fit a set of people and compare with the truth."""
    camera = people.camera
    if focal == "assumed":
        diagonal = people.size.norm(dim=-1, keepdim=True)
        camera = Camera(diagonal.expand(-1, 2), people.camera.center)
    problem = FitProblem.build(SCHEMA, people.keypoints, people.confidence, camera)
    began = time.process_time()
    result = fit_seen(problem, body, model, recipe)
    cpu_seconds = time.process_time() - began
    # the prior as it was told last, so that energies can be compared
    trusted = torch.where(result.doubted, 0, problem.confidence)
    prior = tell(model, replace(problem, confidence=trusted), body)
    truth = body.joints(people.betas, people.rotations, people.transl)
    found, true = result.joints3d[:, JOINTS], truth[:, JOINTS]
    error = (found - result.joints3d[:, :1]) - (true - truth[:, :1])

    # the true body, as far away as this focal length puts it
    stretch = torch.ones(len(people.transl), 3)
    stretch[:, 2] = camera.focal[:, 0] / people.camera.focal[:, 0]
    start = State(prior.encode(Pose(people.rotations, people.betas)), people.transl * stretch)
    same = replace(problem, unit=result.unit)
    objective = Objective(same, body, prior, recipe.stages[-1])
    from_truth = minimize(objective, start, recipe.stages[-1].iterations)
    other = prior.decode(from_truth.state.latent)
    other_joints = body.joints(other.betas, other.rotations)[:, JOINTS]
    energy = torch.stack(list(result.energy.values())).sum(0)

    bone, true_bone = (torch.stack([j[:, b] - j[:, a] for a, b in LIMBS], 1)[..., 2]
                       for j in (result.joints3d, truth))  # fmt: skip
    flipped = (bone * true_bone < 0) & (bone.abs() > FLIPPED) & (true_bone.abs() > FLIPPED)
    seen = people.confidence > 0
    off = (people.keypoints - people.true_keypoints).norm(dim=-1) / problem.size[:, None]
    measures = {
        "mpjpe": 1000 * error.norm(dim=-1).mean(-1),
        "pa_mpjpe": 1000 * pa_mpjpe(found, true),
        "depth_part": 1000 * error[..., 2].abs().mean(-1),
        "sideways_part": 1000 * error[..., :2].norm(dim=-1).mean(-1),
        "orientation": orientation_error(result.rotations[:, 0], people.rotations[:, 0]),
        "reprojection": 100 * result.reprojection_px / result.size,
        "flipped_limbs": flipped.sum(-1).float(),
        "seen": seen.sum(-1).float(),
        "outliers": ((problem.evidence() > 0) & (off > GROSS)).sum(-1).float(),
        "energy": energy,
        "energy_from_truth": from_truth.energy,
        "pa_from_truth": 1000 * pa_mpjpe(other_joints, true),
        "quality": result.quality,
        "distance": result.transl[:, 2],
        "true_distance": people.transl[:, 2],
    }
    return Run(name, focal, people, problem, prior, result, truth, measures, cpu_seconds)


def summary(done: Run) -> dict[str, Any]:
    """Averages of a run."""
    m = done.measures
    turned = m["orientation"] > TURNED
    missed = m["energy_from_truth"] < m["energy"] - NOTABLE
    return {
        "set": done.people_set,
        "focal": done.focal,
        "mpjpe_mean_mm": m["mpjpe"].mean().item(),
        "mpjpe_median_mm": m["mpjpe"].median().item(),
        "mpjpe_95_mm": m["mpjpe"].quantile(0.95).item(),
        "pa_mpjpe_mean_mm": m["pa_mpjpe"].mean().item(),
        "pa_mpjpe_median_mm": m["pa_mpjpe"].median().item(),
        "pa_mpjpe_95_mm": m["pa_mpjpe"].quantile(0.95).item(),
        "depth_part_mm": m["depth_part"].mean().item(),
        "sideways_part_mm": m["sideways_part"].mean().item(),
        "orientation_mean_deg": m["orientation"].mean().item(),
        "turned_share": turned.float().mean().item(),
        "mpjpe_not_turned_mm": m["mpjpe"][~turned].mean().item(),
        "pa_mpjpe_not_turned_mm": m["pa_mpjpe"][~turned].mean().item(),
        "reprojection_percent_of_box": m["reprojection"].median().item(),
        "flipped_limbs_share": m["flipped_limbs"].mean().item() / len(LIMBS),
        "search_missed_share": missed.float().mean().item(),
        "pa_from_truth_mm": m["pa_from_truth"].mean().item(),
        "cpu_ms_a_person": 1000 * done.cpu_seconds / len(done.result),
        "ms_a_person": 1000 * done.result.seconds / len(done.result),
    }


def alone(done: Run, body: Body, recipe: Recipe, people: int = 10) -> float:
    """Median CPU seconds of a person who is fitted alone."""
    seconds = []
    for i in range(min(people, len(done.problem))):
        one = torch.tensor([i])
        began = time.process_time()
        fit_people(done.problem.rows(one), body, done.prior.rows(one), recipe)
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def worst_people(runs: list[Run]) -> list[tuple[Run, int, dict[str, Any]]]:
    """The people with the largest PA-MPJPE when the focal length is assumed, worst first."""
    table = [
        (float(error), done, row)
        for done in runs
        if done.focal == "assumed"
        for row, error in enumerate(done.measures["pa_mpjpe"])
    ]
    table.sort(key=lambda entry: -entry[0])
    found = []
    for _, done, row in table[:WORST]:
        facts = {name: float(value[row]) for name, value in done.measures.items()}
        found.append((done, row, {"set": done.people_set, "person": row, **facts}))
    return found


def drawn(done: Run, row: int, fact: dict[str, Any], body: Body) -> Drawn:
    """What the picture of a person needs."""
    one = slice(row, row + 1)
    people, result = done.people, done.result
    return Drawn(
        label=f"{fact['set']} {row}: PA-MPJPE {fact['pa_mpjpe']:.0f} mm, {fact['seen']:.0f} seen, "
        f"{fact['outliers']:.0f} off, {fact['flipped_limbs']:.0f} limbs flipped, "
        f"turned {fact['orientation']:.0f} deg",
        keypoints=people.keypoints[row].numpy(),
        confidence=people.confidence[row].numpy(),
        edges=done.problem.schema.edge_indices,
        size=tuple(int(n) for n in people.size[row]),
        center=tuple(people.camera.center[row].tolist()),
        faces=body.faces.numpy(),
        fitted=body.vertices(result.betas[one], result.rotations[one], result.transl[one])[0]
        .numpy(),
        fitted_focal=float(result.camera.focal[row, 0]),
        true=body.vertices(people.betas[one], people.rotations[one], people.transl[one])[0]
        .numpy(),
        true_focal=float(people.camera.focal[row, 0]),
    )  # fmt: skip


_HEAD = (
    "| set | focal | MPJPE mean / median / 95 % | PA-MPJPE mean / median / 95 % | "
    "root turned: mean, > 45° | reprojection, % of box | limbs flipped in depth | "
    "search missed | CPU ms a person |"
)


def row_of(one: dict[str, Any]) -> str:
    """A run as a table row."""
    mpjpe, pa = (
        " / ".join(f"{one[f'{name}_{part}_mm']:.1f}" for part in ("mean", "median", "95"))
        for name in ("mpjpe", "pa_mpjpe")
    )
    return (
        f"| {one['set']} | {one['focal']} | {mpjpe} | {pa} | {one['orientation_mean_deg']:.1f}°, "
        f"{100 * one['turned_share']:.1f} % | {one['reprojection_percent_of_box']:.2f} | "
        f"{100 * one['flipped_limbs_share']:.1f} % | {100 * one['search_missed_share']:.1f} % | "
        f"{one['cpu_ms_a_person']:.0f} |"
    )


def markdown(content: dict[str, Any]) -> str:
    """The table, from what the JSON file holds."""
    lines = [
        f"{content['people_a_set']} people a set, seed {content['seed']}, recipe "
        f"`{content['recipe']}`, prior `{content['prior']}`; {content['joints']} joints, mm. "
        f"In batches of 64; one person alone takes {content['cpu_seconds_alone']:.2f} CPU seconds. "
        + conditions_line(content),
        "",
        _HEAD,
        "|" + " --- |" * (_HEAD.count("|") - 1),
        *(row_of(one) for one in content["runs"]),
        "",
        "| set | focal | error in depth / sideways | without the turned: MPJPE, PA | "
        "from the truth: PA |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one['set']} | {one['focal']} | {one['depth_part_mm']:.1f} / "
        f"{one['sideways_part_mm']:.1f} | {one['mpjpe_not_turned_mm']:.1f}, "
        f"{one['pa_mpjpe_not_turned_mm']:.1f} | {one['pa_from_truth_mm']:.1f} |"
        for one in content["runs"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
