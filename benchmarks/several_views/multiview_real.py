"""How well bodies fit real calibrated scenes: what several cameras saw, and the 3D truth.

    python -m benchmarks.several_views.multiview_real --scenes SCENES --page docs/multiview_real.md

Fits every person of every frame of the scenes that are there, with the cameras given, refined and
unknown; writes `multiview_real.json` and puts the table into the page.

Measured: the reprojection error in each view, and the distance of shoulders, elbows, wrists, hips,
knees and ankles from the truth, as they lie in the world and after Procrustes. The truth of the
data sets is where annotators and other bodies have these joints, not where this body has them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.fitting.scenes.cameras import mean_refined_rig
from flowfit.fitting.scenes.people import ScenePeople, find_people, problem_of
from flowfit.fitting.scenes.results import contradicts
from flowfit.fitting.scenes.scene import read_scene
from flowfit.fitting.several_views.fit_views import fit_views
from flowfit.fitting.several_views.result import ViewsResult
from flowfit.fitting.several_views.triangulate import triangulate
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import joint_index
from flowfit.models.metrics import pa_mpjpe
from flowfit.priors.load import load

SCENES = ("shelf_detections", "shelf_gt", "campus_gt", "panoptic_band1", "panoptic_band2")
TRUTHS = ("gt_joints3d.json", "triangulated_joints3d.json")
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
JOINTS = [f"{side}_{joint}" for joint in LIMBS for side in ("left", "right")]
WAYS = ("calibrated", "refined", "uncalibrated")
LEAST_JOINTS = 6  # with a truth, of the 12; fewer align with anything


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.several_views.multiview_real",
    )
    parser.add_argument("--scenes", type=Path, required=True, help="folder of scenes with truth")
    parser.add_argument("--body", default="open")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    runs = []
    for name in SCENES:
        if not (args.scenes / name).is_dir():
            print(f"{name}: not there, left out")
            continue
        runs += measure(args.scenes / name, args.body)
        for one in runs[-len(WAYS) :]:
            print(row_of(one), flush=True)
    content = {
        "what": "real calibrated scenes",
        "joints": JOINTS,
        "body": args.body,
        **conditions(),
        "runs": runs,
    }
    write_json(args.out / "multiview_real.json", content)
    if args.page is not None:
        read = json.loads((args.out / "multiview_real.json").read_text(encoding="utf-8"))
        put_between_marks(args.page, "multiview_real", markdown(read))


def measure(folder: Path, body_name: str) -> list[dict[str, Any]]:
    """A scene, fitted in every way."""
    scene = read_scene(folder)
    people = find_people(scene, scene.frames)
    matched = find_people(scene, scene.frames, match=True)
    body = find_body(body_name).to(dtype=torch.float64)
    prior = load("keypoint-flow", num_betas=body.num_betas, dtype=torch.float64)
    given = problem_of(scene, people, calibrated=True, dtype=torch.float64, device="cpu")
    truth = true_joints(folder, people)
    found = triangulate(given)
    runs = []
    for way in WAYS:
        problem = given if way != "uncalibrated" else replace(given, rig=None)
        began = time.process_time()
        if way == "refined":
            problem = replace(given, rig=mean_refined_rig(given, body, prior).rig)
        result = fit_views(problem, body, prior)
        one = {
            "scene": folder.name,
            "way": way,
            "people": len(people),
            "truth": truth_kind(folder),
            "status": [status.name.lower() for status in result.status],
            "reprojection_px": by_view(result, scene.views),
            "reprojection_of_box_percent": percent_of_box(result),
            "views_contradicting": [
                f"{people.frames[row]} person {people.people[row].number} {view}"
                for row in range(len(result))
                for place, view in enumerate(scene.views)
                if contradicts(result, row, place)
            ],
            "matched_as_given": agreement(people, matched),
            **against(result.joints3d_world, truth, placed=way != "uncalibrated"),
            "cpu_seconds_a_person": (time.process_time() - began) / len(people),
        }
        if way == "calibrated":
            points = points_of(found.points, scene.schema)
            one["triangulation"] = against(points, truth, placed=True)
            one["triangulation_px"] = float(found.error[found.valid].median())
            one["view_pixels_the_lens_bends"] = bent_by(problem)
        runs.append(one)
    return runs


def truth_kind(folder: Path) -> str:
    """What the 3D points are: ground truth, or triangulated from the same detections."""
    return "ground truth" if (folder / TRUTHS[0]).is_file() else "triangulated"


def true_joints(folder: Path, people: ScenePeople) -> Tensor:
    """(N, 24, 3) metres, world; NaN where there is no truth."""
    path = next(folder / name for name in TRUTHS if (folder / name).is_file())
    frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
    truth = torch.full((len(people), 24, 3), torch.nan, dtype=torch.float64)
    for row, (frame, seen) in enumerate(zip(people.frames, people.people, strict=True)):
        for entry in frames.get(frame, []):
            if entry["person_id"] == seen.number:
                for name in JOINTS:
                    point = entry["joints"].get(name)
                    if point is not None:
                        truth[row, joint_index(name)] = torch.tensor(point[:3], dtype=torch.float64)
    return truth


def points_of(keypoints: Tensor, schema: KeypointSchema) -> Tensor:
    """Triangulated keypoints (N, K, 3) as joints (N, 24, 3), NaN where there are none."""
    joints = torch.full((len(keypoints), 24, 3), torch.nan, dtype=keypoints.dtype)
    for joint in LIMBS:
        for side in ("left", "right"):
            name = side[0].upper() + joint.capitalize()
            joints[:, joint_index(f"{side}_{joint}")] = keypoints[:, schema.index(name)]
    return joints


def against(joints: Tensor, truth: Tensor, *, placed: bool) -> dict[str, Any]:
    """Mean errors in mm over the people: in the world, pelvis-free, after Procrustes, by joint."""
    rows, by_joint = [], {name: [] for name in LIMBS}
    for found, true in zip(joints, truth, strict=True):
        there = true.isfinite().all(-1) & found.isfinite().all(-1)
        if int(there.sum()) < LEAST_JOINTS:
            continue
        one, two = found[there], true[there]
        off = 1000 * (one - two).norm(dim=-1)
        shift = 1000 * ((one - one.mean(0)) - (two - two.mean(0))).norm(dim=-1).mean()
        rows.append((float(off.mean()), float(shift), 1000 * float(pa_mpjpe(one[None], two[None]))))
        for joint in LIMBS:
            for side in ("left", "right"):
                place = joint_index(f"{side}_{joint}")
                if bool(there[place]):
                    error = (found[place] - true[place]).norm()
                    by_joint[joint].append(1000 * float(error))
    if not rows:
        return {}
    world, centred, procrustes = (sum(values) / len(rows) for values in zip(*rows, strict=True))
    summary: dict[str, Any] = {"pa_mpjpe_mm": procrustes, "people_with_truth": len(rows)}
    if placed:
        summary |= {
            "mpjpe_world_mm": world,
            "mpjpe_centred_mm": centred,
            "worst_person_mm": max(row[0] for row in rows),
            "by_joint_mm": {name: sum(v) / len(v) for name, v in by_joint.items() if v},
        }
    return summary


def by_view(result: ViewsResult, views: tuple[str, ...]) -> dict[str, float]:
    """Median over the people of the median errors in each view, pixels."""
    medians = result.reprojection_px.nanmedian(0).values
    return dict(zip(views, medians.tolist(), strict=True))


def percent_of_box(result: ViewsResult) -> float:
    """Median over people and views of the error as a share of the box."""
    return 100 * float((result.reprojection_px / result.size).nanmedian())


def agreement(given: ScenePeople, matched: ScenePeople) -> str:
    """How many people the matching by geometry puts together just as person_id does."""
    groups = {
        (frame, frozenset(seen.rows.items()))
        for frame, seen in zip(matched.frames, matched.people, strict=True)
    }
    same = sum(
        (frame, frozenset(seen.rows.items())) in groups
        for frame, seen in zip(given.frames, given.people, strict=True)
    )
    return f"{same} of {len(given)}"


def bent_by(problem: Any) -> float:
    """The most that the lens moves a keypoint, pixels."""
    moved = (problem.keypoints - problem.without_lens()).norm(dim=-1)
    return float(torch.where(problem.confidence > 0, moved, 0).max())


_HEAD = (
    "| scene | cameras | people | reprojection, median px by view | % of box | "
    "in the world, mm | centred | after Procrustes | CPU s a person |"
)


def row_of(one: dict[str, Any]) -> str:
    """A run as a table row."""

    def number(key: str) -> str:
        return f"{one[key]:.1f}" if key in one else "-"

    pixels = ", ".join(f"{v:.1f}" for v in one["reprojection_px"].values())
    return (
        f"| {one['scene']} | {one['way']} | {one['people']} | {pixels} | "
        f"{one['reprojection_of_box_percent']:.1f} | {number('mpjpe_world_mm')} | "
        f"{number('mpjpe_centred_mm')} | {number('pa_mpjpe_mm')} | "
        f"{one['cpu_seconds_a_person']:.1f} |"
    )


def markdown(content: dict[str, Any]) -> str:
    """The tables, from what the JSON file holds."""
    runs = content["runs"]
    lines = [
        f"Body `{content['body']}`. " + conditions_line(content),
        "",
        _HEAD,
        "|" + " --- |" * (_HEAD.count("|") - 1),
        *(row_of(one) for one in runs),
        "",
        "| scene, calibrated | " + " | ".join(LIMBS) + " | worst person | triangulated points, "
        "in the world / Procrustes | matched by geometry | the lens moves up to |",
        "|" + " --- |" * (len(LIMBS) + 5),
    ]
    for one in runs:
        if one["way"] == "calibrated":
            joints = " | ".join(f"{one['by_joint_mm'].get(name, 0):.0f}" for name in LIMBS)
            points = one["triangulation"]
            lines.append(
                f"| {one['scene']} ({one['truth']}) | {joints} | {one['worst_person_mm']:.0f} | "
                f"{points['mpjpe_world_mm']:.1f} / {points['pa_mpjpe_mm']:.1f} | "
                f"{one['matched_as_given']} | {one['view_pixels_the_lens_bends']:.0f} px |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
