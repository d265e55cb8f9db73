"""How good fits to several views are, beside ProHMR's refinement and triangulation.

    python -m benchmarks.several_views.multiview --mocap MOCAP/test --page docs/multiview.md

Made-up people from motion capture that no prior has seen, filmed by made-up rigs like Human3.6M's
(`benchmarks.several_views.rigs`). MPJPE (after the pelvis) and PA-MPJPE over 14 joints, in the
camera's frame for methods without a rig (the mean over the views), in the world for those with one;
and, for what can be triangulated at all, the distance of 12 keypoints in the world. Writes
`multiview.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.several_views.prohmr_multiview import refine_like_prohmr
from benchmarks.several_views.rigs import (
    Filmed,
    disturbed,
    film,
    half_missing,
    views_missing,
    wrong_person,
)
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.scenes.estimate import estimate_rig
from flowfit.fitting.several_views.fit_views import ViewsResult, fit_views
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.fitting.several_views.starts import mean_body, modes_of
from flowfit.fitting.several_views.triangulate import triangulate
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.models.rotations import rotation_angle
from flowfit.priors.base import PriorModel
from flowfit.priors.data.people.synthetic import Detector
from flowfit.priors.load import load

PLAIN = Detector(hidden_limbs=0.1, missed=0.05)
NOISY = Detector(noise=2.0, outliers=0.05, hidden_limbs=0.2, missed=0.1)
MISSING = 0.3  # chance that a view misses the person, in the noisy set
LIMBS = BODY25.indices(
    [s + n for n in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle") for s in "LR"]
)
FAR = 0.1  # metres; a keypoint that is in the wrong place
WRONG = "one of 4 sees another person"
ONE_BY_ONE = 8  # frames for the time at batch 1


@dataclass(frozen=True, eq=False)
class Bench:
    """Whom and what to fit with."""

    body: Body
    prior: PriorModel
    mocap: Path
    frames: int

    def film(self, views: int, detector: Detector, seed: int) -> Filmed:
        """A set of people."""
        return film(self.body, self.mocap, self.frames, views, detector, seed)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.several_views.multiview",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--frames", type=int, default=200, help="in each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(find_body("open"), load("keypoint-flow"), args.mocap, args.frames)
    content: dict[str, Any] = {
        "what": "several views of made-up people from unseen motion capture",
        "mocap": args.mocap.name,
        "frames": args.frames,
        "seed": args.seed,
        **conditions(),
    }
    plain = bench.film(4, PLAIN, args.seed)
    noisy = views_missing(bench.film(4, NOISY, args.seed + 1), MISSING, args.seed)
    for name, filmed in (("plain", plain), ("noisy", noisy)):
        content[name] = compare(bench, filmed)
        print(name, json.dumps(content[name], indent=1), flush=True)
    content["robustness"] = robustness(bench, plain, args.seed)
    content["milliseconds"] = times(bench, plain)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "multiview.json", content)
    text = markdown(json.loads((args.out / "multiview.json").read_text(encoding="utf-8")))
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "multiview", text)


def compare(bench: Bench, filmed: Filmed) -> dict[str, Any]:
    """All methods on one set of people."""
    problem, body = filmed.problem, bench.body
    views = problem.views
    in_views = filmed.rig.to_cameras(true_joints(body, filmed))
    flat = problem.single_views()
    given = bench.prior.given(BODY25, flat.keypoints, flat.confidence, flat.camera, body)
    posterior = given.as_posterior()
    assert posterior is not None
    modes = modes_of(given, views)
    seen = problem.seen
    found: dict[str, Any] = {}
    joints = body.joints(modes.betas, modes.rotations)
    found["one view, the mode"] = errors(joints, in_views, seen)
    single = fit_seen(flat, body, bench.prior, RECIPES["flow"]).joints3d.unflatten(0, (-1, views))
    found["one view, flow fitting"] = errors(single, in_views, seen)
    refined = refine_like_prohmr(posterior, seen)
    joints = body.joints(refined.betas[:, None], refined.rotations)
    found["ProHMR's refinement"] = errors(joints, in_views, seen)
    share = seen / seen.sum(-1, keepdim=True)
    mean = mean_body(modes, share)
    turned = torch.cat((modes.rotations[:, :, :1], repeated(mean.rotations[:, 1:], views)), 2)
    joints = body.joints(mean.betas[:, None], turned)
    found["the views' rotations averaged"] = errors(joints, in_views, seen)
    found["ours, rig unknown"] = errors(*uncalibrated(bench, filmed))
    known = fit_views(problem, body, bench.prior)
    found["ours, rig known"] = errors(known.joints3d_world, true_joints(body, filmed))
    found["ours, rig estimated"] = with_estimated_rig(bench, filmed)
    return {"methods": found, "keypoints": keypoint_errors(bench, filmed, known)}


def true_joints(body: Body, filmed: Filmed) -> Tensor:
    """(F, 24, 3) metres, world."""
    return body.joints(filmed.betas, filmed.rotations, filmed.transl)


def repeated(tensor: Tensor, views: int) -> Tensor:
    """(F, ...) -> (F, V, ...)."""
    return tensor[:, None].expand(-1, views, *tensor.shape[1:])


def uncalibrated(
    bench: Bench, filmed: Filmed, wrong: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Joints in each view's frame, the true ones, and which views have a place.

    A view that is known to see another person has no truth to be held against.
    """
    problem = replace(filmed.problem, rig=None)
    result = fit_views(problem, bench.body, bench.prior)
    joints = joints_in_views(bench.body, result)
    placed = joints.isfinite().all(-1).all(-1) & problem.seen
    if wrong is not None:
        placed[:, wrong] = False
    return joints, filmed.rig.to_cameras(true_joints(bench.body, filmed)), placed


def joints_in_views(body: Body, result: ViewsResult) -> Tensor:
    """(F, V, 24, 3) metres, each camera's frame."""
    others = repeated(result.rotations[:, 1:], result.view_orient.shape[1])
    rotations = torch.cat((result.view_orient[:, :, None], others), 2)
    return body.joints(result.betas[:, None], rotations, result.view_transl)


def with_estimated_rig(bench: Bench, filmed: Filmed) -> dict[str, float]:
    """Fit with the rig that was found from the bodies; how far off that rig is."""
    found = estimate_rig(filmed.problem, bench.body, bench.prior)
    ours = replace(filmed.problem, rig=found.rig)
    result = fit_views(ours, bench.body, bench.prior)
    reference = torch.tensor([found.reference])
    truth = filmed.rig.views(reference).to_cameras(true_joints(bench.body, filmed))[:, 0]
    turn = filmed.rig.rotations @ filmed.rig.rotations[found.reference].T
    off = torch.rad2deg(rotation_angle(found.rig.rotations @ turn.transpose(-1, -2)))
    centres = filmed.rig.views(reference).to_cameras(filmed.rig.centres)[0]
    apart = (found.rig.centres - centres).norm(dim=-1)
    others = [v for v in range(filmed.problem.views) if v != found.reference]
    return {
        **errors(result.joints3d_world, truth),
        "turn_deg": off[others].mean().item(),
        "turn_sd_deg": torch.rad2deg(found.turn_sd[others]).mean().item(),
        "centre_mm": 1000 * apart[others].mean().item(),
        "centre_sd_mm": 1000 * found.centre_sd[others].mean().item(),
    }


def errors(joints: Tensor, truth: Tensor, counted: Tensor | None = None) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm over the rows that count."""
    if counted is not None:
        joints, truth = joints[counted], truth[counted]
    joints, truth = joints.flatten(0, -3), truth.flatten(0, -3)
    aligned = (joints - joints[:, :1] - truth + truth[:, :1])[:, JOINTS].norm(dim=-1).mean(-1)
    similar = pa_mpjpe(joints[:, JOINTS], truth[:, JOINTS])
    return {
        "mpjpe_mm": 1000 * aligned.mean().item(),
        "mpjpe_median_mm": 1000 * aligned.median().item(),
        "pa_mpjpe_mm": 1000 * similar.mean().item(),
    }


def keypoint_errors(bench: Bench, filmed: Filmed, result: ViewsResult) -> dict[str, Any]:
    """Distances of 12 keypoints in the world, ours and triangulated ones, mm."""
    body = bench.body
    true = body.keypoints(filmed.betas, filmed.rotations, BODY25, filmed.transl)[:, LIMBS]
    ours = 1000 * (result.keypoints3d_world[:, LIMBS] - true).norm(dim=-1)

    def of(distance: Tensor) -> dict[str, float]:
        return {
            "mean_mm": distance.mean().item(),
            "median_mm": distance.median().item(),
            "far_share": (distance > 1000 * FAR).float().mean().item(),
        }

    found: dict[str, Any] = {"ours, all": {"share": 1.0, **of(ours)}}
    for name, robust in (("triangulated, plain", False), ("triangulated, robust", True)):
        points = triangulate(filmed.problem, robust=robust)
        valid = points.valid[:, LIMBS]
        share = valid.float().mean().item()
        distance = 1000 * (points.points[:, LIMBS] - true).norm(dim=-1)
        found[name] = {"share": share, **of(distance[valid])}
        found[f"ours, where {name}"] = {"share": share, **of(ours[valid])}
    return found


def robustness(bench: Bench, plain: Filmed, seed: int) -> dict[str, Any]:
    """Fewer and more views, wrong and half-seen ones, and a rig that is off."""
    eight = bench.film(8, PLAIN, seed + 2)
    sets = {
        "2 views": plain.views([0, 1]),
        "3 views": plain.views([0, 1, 2]),
        "4 views": plain,
        "8 views": eight,
        WRONG: wrong_person(plain, 1),
        "one of 4 misses half of the joints": half_missing(plain, 1, seed),
    }
    found: dict[str, Any] = {}
    for name, filmed in sets.items():
        found[name] = both_ways(bench, filmed, 1 if name == WRONG else None)
        print(name, json.dumps(found[name]), flush=True)
    problem = plain.problem
    assert problem.rig is not None
    off = replace(problem, rig=disturbed(problem.rig, 2.0, 0.05, seed))
    name = "rig off by 2 degrees and 5 cm"
    known, keypoints = of_world(bench, plain, off, refine=False)
    found[name] = {
        "rig known": known,
        "rig refined": of_world(bench, plain, off, refine=True)[0],
        "rig unknown": found["4 views"]["rig unknown"],
        **keypoints,
    }
    found["rig right, refined all the same"] = {
        "rig refined": of_world(bench, plain, problem, refine=True)[0]
    }
    print(name, json.dumps(found[name]), flush=True)
    return found


def both_ways(bench: Bench, filmed: Filmed, wrong: int | None = None) -> dict[str, Any]:
    """With the rig and without it, and triangulated."""
    known, keypoints = of_world(bench, filmed, filmed.problem, refine=False)
    return {
        "rig unknown": errors(*uncalibrated(bench, filmed, wrong)),
        "rig known": known,
        **keypoints,
    }


def of_world(
    bench: Bench, filmed: Filmed, problem: MultiviewProblem, *, refine: bool
) -> tuple[dict[str, float], dict[str, Any]]:
    """A calibrated fit's errors; and its keypoints' where robust triangulation gives any."""
    result = fit_views(problem, bench.body, bench.prior, refine_cameras=refine)
    found = keypoint_errors(bench, replace(filmed, problem=problem), result)
    ours = {
        **errors(result.joints3d_world, true_joints(bench.body, filmed)),
        "keypoints_mm": found["ours, all"]["mean_mm"],
    }
    names = ("triangulated, robust", "ours, where triangulated, robust")
    there = {n: {"keypoints_mm": found[n]["mean_mm"], "share": found[n]["share"]} for n in names}
    return ours, there


def times(bench: Bench, filmed: Filmed) -> dict[str, Any]:
    """CPU milliseconds a frame of four views, one at a time and 64 at once."""
    batch = torch.arange(min(64, bench.frames))
    found: dict[str, Any] = {}
    for name, rig in (("rig known", filmed.problem.rig), ("rig unknown", None)):
        problem = replace(filmed.problem, rig=rig)
        began = time.process_time()
        fit_views(problem.rows(batch), bench.body, bench.prior, frames_at_once=64)
        many = (time.process_time() - began) / len(batch)
        began = time.process_time()
        for row in batch[:ONE_BY_ONE]:
            fit_views(problem.rows(row[None]), bench.body, bench.prior)
        one = (time.process_time() - began) / min(ONE_BY_ONE, len(batch))
        found[name] = {"batch 1": 1000 * one, f"batch {len(batch)}": 1000 * many}
    return found


def markdown(content: dict[str, Any]) -> str:
    """The tables as a page's part."""
    lines = [
        f"{content['frames']} frames of {content['mocap']} in each set. {conditions_line(content)}",
        "",
    ]
    heads = {
        "plain": "**Four views, detector noise and occlusion**",
        "noisy": "**Four views, twice the noise; each misses the person in 30 % of the frames**",
    }
    for name, head in heads.items():
        lines += [head, "", "| method | MPJPE mm | median | PA-MPJPE mm |"]
        lines += ["| --- | --- | --- | --- |"]
        for method, m in content[name]["methods"].items():
            lines.append(
                f"| {method} | {m['mpjpe_mm']:.1f} | {m['mpjpe_median_mm']:.1f} | "
                f"{m['pa_mpjpe_mm']:.1f} |"
            )
        rig = content[name]["methods"]["ours, rig estimated"]
        lines += [
            "",
            f"The estimated rig's cameras are off by {rig['turn_deg']:.2f}° and "
            f"{rig['centre_mm']:.0f} mm on average; it says {rig['turn_sd_deg']:.2f}° and "
            f"{rig['centre_sd_mm']:.0f} mm (standard deviations).",
            "",
            "| 12 keypoints in the world | share | mean mm | median mm | > 100 mm |",
            "| --- | --- | --- | --- | --- |",
        ]
        for method, m in content[name]["keypoints"].items():
            lines.append(
                f"| {method} | {100 * m['share']:.0f} % | {m['mean_mm']:.1f} | "
                f"{m['median_mm']:.1f} | {100 * m['far_share']:.1f} % |"
            )
        lines.append("")
    lines += [
        "**Robustness** (keypoints: mean distance in the world, mm)",
        "",
        "| case | method | MPJPE mm | PA-MPJPE mm | keypoints mm |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case, methods in content["robustness"].items():
        for method, m in methods.items():
            values = [m.get(key) for key in ("mpjpe_mm", "pa_mpjpe_mm", "keypoints_mm")]
            cells = " | ".join("" if v is None else f"{v:.1f}" for v in values)
            share = f" ({100 * m['share']:.0f} % of them)" if "share" in m else ""
            lines.append(f"| {case} | {method} | {cells}{share} |")
    lines += ["", "CPU time a frame of four views:"]
    lines += [
        f"{name}: " + ", ".join(f"{ms:.0f} ms at {batch}" for batch, ms in of.items()) + "."
        for name, of in content["milliseconds"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
