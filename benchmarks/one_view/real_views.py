"""How good fits of one view are on real people, and on inputs that went wrong before.

    python -m benchmarks.one_view.real_views --scenes SCENES --cases CASES --page docs/real_views.md
    python -m benchmarks.one_view.real_views ... --prior FILE --column "so far"

Every view of every person of the scenes that several cameras saw, each alone, with its true focal
length; keypoints are projected 3D joints or a detector's. PA-MPJPE over shoulders, elbows, wrists,
hips, knees and ankles against the scenes' 3D truth, of the recipes from their own starts; and how
many fits are below 70 mm beside how many of them the scores expect to be. The truth of the data
sets is where their makers have these joints, not where this body has them. `panoptic_band1` and
`campus_gt` may be used to choose and calibrate; the other scenes are for reporting alone.

The cases are single files with known bodies. Writes `real_views.json`, which keeps the columns of
other priors, and puts the tables into the page.
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
from benchmarks.several_views.multiview_real import (
    JOINTS,
    LEAST_JOINTS,
    true_joints,
    truth_kind,
)
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.reading.openpose import read
from flowfit.fitting.results.quality import GOOD_PA_MPJPE
from flowfit.fitting.results.result import FitResult
from flowfit.fitting.scenes.people import find_people, problem_of
from flowfit.fitting.scenes.scene import read_scene
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.kinematics import joint_index
from flowfit.models.metrics import orientation_error, pa_mpjpe
from flowfit.priors.keypoints.files import read_about
from flowfit.priors.load import load, posterior_file

SCENES = ("panoptic_band1", "campus_gt", "panoptic_band2", "shelf_gt")
CHOSEN_BY = SCENES[:2]  # what may be looked at while choosing
CASES = (
    "stand_straight",
    "squat_front",
    "topdown50_wave",
    "crawl_front",
    "straddle_front",
    "handstand",
    "child5",
)
PICTURE = (1280, 960)  # pixels, of the cases
OURS = ("flow", "regression")
CLASSICAL = ("gmm", "smplify", "spin", "smplifyx")
WRONG, SURE = 60.0, 0.7  # mm; quality
THIRDS = ("lowest", "middle", "highest")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.one_view.real_views",
    )
    parser.add_argument("--scenes", type=Path, required=True, help="folder of scenes with truth")
    parser.add_argument("--cases", type=Path, help="folder of cases with known bodies")
    parser.add_argument("--prior", default="keypoint-flow", help="a posterior: name or file")
    parser.add_argument("--column", default="built-in weights", help="what the tables call it")
    parser.add_argument("--classical", action="store_true", help="the classical recipes, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()

    scenes = {}
    for name in SCENES:
        if (args.scenes / name).is_dir():
            scenes[name] = measure(args.scenes / name, args.prior, args.classical)
            print(name, json.dumps(scenes[name]["pa_mpjpe_mm"]), flush=True)
    cases = {}
    for name in CASES:
        if args.cases is not None and (args.cases / name).is_dir():
            cases[name] = measure_case(args.cases / name, args.prior)
            print(name, json.dumps(cases[name]), flush=True)
    path = args.out / "real_views.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["columns"] if path.is_file() else {}
    column = {**conditions(), "scenes": scenes, "cases": cases}
    columns = {**kept, args.column: column}
    write_json(path, {"what": "single views of real people", "columns": columns})
    if args.page is not None:
        put_between_marks(args.page, "real_views", markdown(columns))


def tools(recipe: str, prior: str) -> tuple[Body, Any]:
    """The body that a posterior was trained on, or the built-in one, and a recipe's prior."""
    chosen = prior if recipe in OURS else RECIPES[recipe].prior
    name = read_about(posterior_file(prior))["body"] if recipe in OURS else "open"
    body = find_body(name).to(dtype=torch.float64)
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    model = load(
        chosen,
        num_betas=body.num_betas,
        up=up,
        dtype=torch.float64,
        bending=RECIPES[recipe].bending,
    )
    return body, model


def measure(folder: Path, prior: str, classical: bool) -> dict[str, Any]:
    """A scene's views, fitted one by one with every recipe."""
    scene = read_scene(folder)
    people = find_people(scene, scene.frames)
    views = problem_of(scene, people, calibrated=True, dtype=torch.float64, device="cpu")
    alone = views.single_views()
    truth = true_joints(folder, people).repeat_interleave(views.views, 0)
    there = (alone.confidence > 0).sum(-1) >= LEAST_JOINTS
    there &= truth.isfinite().all(-1).sum(-1) >= LEAST_JOINTS
    rows = there.nonzero()[:, 0]
    alone, truth = alone.rows(rows), truth[rows]
    content: dict[str, Any] = {"people": len(rows), "truth": truth_kind(folder), "pa_mpjpe_mm": {}}
    for recipe in (*OURS, *(CLASSICAL if classical else ())):
        body, model = tools(recipe, prior)
        began = time.process_time()
        result = fit_seen(alone, body, model, RECIPES[recipe])
        errors = limb_errors(result, truth)
        content["pa_mpjpe_mm"][recipe] = float(errors.mean())
        if recipe == OURS[0]:
            content["cpu_ms_a_person"] = 1000 * (time.process_time() - began) / len(rows)
            content["errors_mm"] = [round(e, 2) for e in errors.tolist()]
            content["quality"] = [round(q, 4) for q in result.quality.tolist()]
    return content


def limb_errors(result: FitResult, truth: Tensor) -> Tensor:
    """(N,) PA-MPJPE, mm, over those of the 12 joints that have a truth (N, 24, 3)."""
    places = [joint_index(name) for name in JOINTS]
    errors = []
    for found, true in zip(result.joints3d[:, places], truth[:, places], strict=True):
        known = true.isfinite().all(-1)
        errors.append(1000 * pa_mpjpe(found[known][None], true[known][None])[0])
    return torch.stack(errors)


def measure_case(folder: Path, prior: str) -> dict[str, Any]:
    """A case's people: errors, quality, facing; mm and degrees."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    seen = read(folder / "keypoints.json", image_size=PICTURE)
    focal = torch.tensor([one["focal"] for one in truth], dtype=torch.float64)
    center = torch.tensor(PICTURE, dtype=torch.float64) / 2
    camera = Camera(focal[:, None].expand(-1, 2), center.expand(len(truth), 2))
    pixels, trust = (torch.as_tensor(a).double() for a in (seen.keypoints, seen.confidence))
    problem = FitProblem.build(seen.schema, pixels, trust, camera)
    body, model = tools(OURS[0], prior)
    result = fit_seen(problem, body, model, RECIPES[OURS[0]])
    joints = torch.tensor([one["joints3d"] for one in truth], dtype=torch.float64)
    root = torch.tensor([one["root"] for one in truth], dtype=torch.float64)
    return {
        "pa_mpjpe_mm": [round(e, 1) for e in limb_errors(result, joints).tolist()],
        "turned_degrees": [
            round(e, 1) for e in orientation_error(result.rotations[:, 0], root).tolist()
        ],
        "depth_mm": [
            round(1000 * e, 0) for e in (result.joints3d[:, 0, 2] - joints[:, 0, 2]).tolist()
        ],
        "quality": [round(q, 3) for q in result.quality.tolist()],
        "facing": [round(q, 3) for q in result.facing.tolist()],
        "sides_exchanged": int((result.exchanged > 0).sum()),
    }


def shares(errors: list[float], quality: list[float]) -> list[tuple[str, int, float, float]]:
    """Shares below 70 mm, true and said, per cent: of all, and of each third of the score."""
    order = sorted(range(len(errors)), key=lambda row: quality[row])
    parts = [("all", order)]
    for place, name in enumerate(THIRDS):
        low, high = (len(order) * n // len(THIRDS) for n in (place, place + 1))
        parts.append((name, order[low:high]))
    found = []
    for name, rows in parts:
        below = [errors[row] < 1000 * GOOD_PA_MPJPE for row in rows]
        said = [quality[row] for row in rows]
        found.append((name, len(rows), 100 * sum(below) / len(rows), 100 * sum(said) / len(rows)))
    return found


def markdown(columns: dict[str, Any]) -> str:
    """The tables, from what the JSON file holds."""
    lines = [
        "| scene | people | prior | " + " | ".join((*OURS, *CLASSICAL)) + " | ms a person |",
        "|" + " --- |" * (4 + len(OURS) + len(CLASSICAL)),
    ]
    for name in SCENES:
        for label, column in columns.items():
            one = column["scenes"].get(name)
            if one is not None:
                cells = [
                    f"{one['pa_mpjpe_mm'][r]:.1f}" if r in one["pa_mpjpe_mm"] else ""
                    for r in (*OURS, *CLASSICAL)
                ]
                mark = " (chosen by)" if name in CHOSEN_BY else ""
                lines.append(
                    f"| {name}{mark} | {one['people']} | {label} | {' | '.join(cells)} | "
                    f"{one['cpu_ms_a_person']:.0f} |"
                )
    lines += [
        "",
        "| prior | third of the score | people | below 70 mm | said |",
        "|" + " --- |" * 5,
    ]
    for label, column in columns.items():
        scenes = column["scenes"].values()
        errors = [e for one in scenes for e in one["errors_mm"]]
        quality = [q for one in scenes for q in one["quality"]]
        for name, count, true, said in shares(errors, quality) if errors else ():
            lines.append(f"| {label} | {name} | {count} | {true:.0f} % | {said:.0f} % |")
    lines += [
        "",
        "| case | prior | PA-MPJPE, mm | turned by | quality | facing | sides exchanged |",
        "|" + " --- |" * 7,
    ]
    for name in CASES:
        for label, column in columns.items():
            one = column["cases"].get(name)
            if one is not None:
                lines.append(
                    f"| {name} | {label} | {_span(one['pa_mpjpe_mm'], 0)} | "
                    f"{_span(one['turned_degrees'], 0)} | {_span(one['quality'], 2)} | "
                    f"{_span(one['facing'], 2)} | {one['sides_exchanged']} |"
                )
    lines += [""]
    lines += [f"{label}: {conditions_line(column)}" for label, column in columns.items()]
    return "\n".join(lines) + "\n"


def _span(values: list[float], digits: int) -> str:
    """One number, or the mean and the range of several."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
