"""How good the keypoint posterior is: density, calibration, its mode, its samples, its fits.

    python -m benchmarks.posterior.posterior --mocap MOCAP/test

On made-up people with known bodies from motion capture that no prior has seen: whole people, people
of whom a crop has cut the legs or one side (as AH36M's), people who stand so close that the frame
cuts them anywhere, and people of whom two keypoints are wrong with high confidence. Writes
`posterior.json`, `posterior.md` and `posterior_calibration.png`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Recipe, Reprojection, Stage
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, Wanted
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, PeopleMaker, Scenery
from flowfit.priors.keypoints.draws import random_latents
from flowfit.priors.keypoints.prior import FlowGiven, FlowPrior, load_flow_prior
from flowfit.priors.load import load, posterior_file
from flowfit.priors.networks.flow import LatentDensity
from flowfit.priors.training.keypoint_losses import with_noise

SETS = {
    "plain": (Detector(), Scenery()),
    "cropped": (Detector(cropped=1.0), Scenery()),
    "truncated": (Detector(), TRUNCATED),
    "outliers": (Detector(wrong_but_sure=2), Scenery()),
}
BEST_OF = (1, 5, 10, 25, 100, 1000, 4096)
LEVELS = (0.5, 0.8, 0.95)
_NOISE = 0.03  # on the 6D numbers of true bodies, as in training
FLOW = "flow fitting"
SMPLIFY = "GMM from the mode, SMPLify's weights"
MIXTURE = "GMM from the mode, tuned"
UP = torch.tensor([0.0, -1.0, 0.0])
# SMPLify's published weights (as in SPIN) in this project's units: the error in pixels of a crop of
# 224 that holds the box 1.2 times, robust scale 100 of them, confidence squared
CROP = 224 / 1.2
PUBLISHED = Recipe(
    "smplify weights",
    "gmm",
    (
        Stage("camera", ("root", "transl"), Reprojection(0.05, 0.5), {}, 10),
        Stage(
            "all",
            ("all",),
            Reprojection((2 * CROP**2) ** -0.5, 100 / CROP, 2.0),
            {"pose": 4.78**2, "angle": 2 * 15.2**2, "shape": 2 * 5.0**2},
            60,
        ),
    ),
    whole_person=False,
)
# the mixture's best scales for fits from the mode: `python -m benchmarks.one_view.tune --recipe
# gmm`
TUNED = replace(
    RECIPES["gmm"],
    stages=(replace(RECIPES["gmm"].stages[-1], reprojection=Reprojection(0.014, 0.08)),),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.posterior.posterior"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=1000, help="in each set")
    parser.add_argument("--sampled", type=int, default=200, help="people for best of 4,096")
    parser.add_argument("--prior", default="keypoint-flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    parser.add_argument("--processes", type=int, default=1, help="sets measured side by side")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = args.mocap, args.prior, args.people, args.sampled, args.seed
    found: dict[str, Any] = {}
    ranks: dict[str, dict[str, Tensor]] = {}
    # fresh processes: torch's threads do not survive a fork
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=fresh) as pool:
        running = {name: pool.submit(measure_set, name, *settings) for name in args.sets}
        for name, one in running.items():
            found[name], ranks[name] = one.result()
            print(name, json.dumps(found[name]["methods"]), flush=True)
    content = {
        "what": "keypoint posterior, made-up people from unseen motion capture",
        "prior": args.prior,
        "people_a_set": args.people,
        "sampled": args.sampled,
        "seed": args.seed,
        **conditions(),
        "sets": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "posterior.json", content)
    text = markdown(json.loads((args.out / "posterior.json").read_text(encoding="utf-8")))
    (args.out / "posterior.md").write_text(text, encoding="utf-8")
    plot_ranks(ranks, args.out / "posterior_calibration.png")
    if args.page is not None:
        put_between_marks(args.page, "posterior", text)


def measure_set(
    name: str, mocap: Path, prior: str, people: int, sampled: int, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Everything about one set of people, by its name."""
    torch.set_num_threads(1)
    body, flow, maker = opened(mocap, prior)
    detector, scenery = SETS[name]
    maker = replace(maker, detector=detector, scenery=scenery)
    drawn = maker.draw(people, torch.Generator().manual_seed(seed))
    return measure(drawn, body, flow, sampled, seed)


def opened(mocap: Path, prior: str) -> tuple[Body, FlowPrior, PeopleMaker]:
    """The built-in body, a flow by name or file, and who makes people of the recordings."""
    body, recordings = find_body("open"), read_mocap(mocap)
    flow = load_flow_prior(prior, posterior_file(prior), Wanted())
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).float())
    weights = torch.from_numpy(recordings.balanced_weights()).float()
    return body, flow, PeopleMaker(body, poses, weights, BODY25)


def measure(
    people: People, body: Body, flow: FlowPrior, sampled: int, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Everything about one set of people."""
    given = flow.given(BODY25, people.keypoints, people.confidence, people.camera, body)
    truth = body.joints(people.betas, people.rotations)
    density = nll(given, people, seed)
    methods = measure_methods(people, body, flow)
    samples = sample_measures(given, people, body, truth, sampled, seed)
    return {**density, "methods": methods, **samples[0]}, samples[1]


def measure_methods(
    people: People, body: Body, flow: FlowPrior, *names: str
) -> dict[str, dict[str, float]]:
    """Errors of the mode and of the ways to fit (those named, or all) from it."""
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    given = flow.given(BODY25, people.keypoints, people.confidence, people.camera, body)
    truth = body.joints(people.betas, people.rotations)
    start = given.start()
    assert start is not None
    mode = given.decode(start.latent)
    methods = {"mode": errors(body.joints(mode.betas, mode.rotations), truth, mode, people)}
    for name, recipe, prior, begin in contestants(flow, mode, start.transl):
        if names and name not in names:
            continue
        began = time.process_time()
        if begin is None:
            result = fit_seen(problem, body, prior, recipe)
        else:
            result = fit_people(problem, body, tell(prior, problem, body), recipe, start=begin)
        spent = (time.process_time() - began) / len(problem)
        pose = Pose(result.rotations, result.betas)
        methods[name] = {
            **errors(body.joints(*pose[::-1]), truth, pose, people),
            "reprojection_percent": 100 * (result.reprojection_px / result.size).mean().item(),
            "cpu_ms": 1000 * spent,
        }
    return methods


def contestants(flow: FlowPrior, mode: Pose, transl: Tensor) -> list[tuple]:
    """Name, recipe, prior and start of every way to fit."""
    begin = (mode, transl)
    return [
        (FLOW, RECIPES["flow"], flow, None),
        ("flow fitting, ProHMR's objective", RECIPES["prohmr"], flow, None),
        ("flow fitting, never told twice", replace(RECIPES["flow"], doubt=None), flow, None),
        (SMPLIFY, PUBLISHED, load("smplify"), begin),
        (MIXTURE, TUNED, load("gmm", up=UP), begin),
    ]


def errors(joints: Tensor, truth: Tensor, pose: Pose, people: People) -> dict[str, float]:
    """MPJPE and PA-MPJPE over 14 joints, mm, and the root's orientation, degrees."""
    aligned = (joints - joints[:, :1] - truth + truth[:, :1])[:, JOINTS]
    turned = orientation_error(pose.rotations[:, 0], people.rotations[:, 0])
    return {
        "mpjpe_mm": 1000 * aligned.norm(dim=-1).mean().item(),
        "pa_mpjpe_mm": 1000 * pa_mpjpe(joints[:, JOINTS], truth[:, JOINTS]).mean().item(),
        "orientation_deg": turned.mean().item(),
        "turned_share": (turned > TURNED).float().mean().item(),
    }


def nll(given: FlowGiven, people: People, seed: int) -> dict[str, float]:
    """Negative log likelihood of the true bodies, nats a person, with the targets' own noise.

    A rotation's 6D vector lies on a surface where no density over R^6 is finite: training puts
    noise on it, and so does this measure.
    """
    latent, log_prob = true_latents(given, people, seed)
    log_prob = log_prob + given.drawing().log_ratio(latent)
    return {"nll_nats": -log_prob.mean().item(), "nll_median_nats": -log_prob.median().item()}


@torch.no_grad()
def true_latents(given: FlowGiven, people: People, seed: int) -> LatentDensity:
    """Latents (B, D) of the true bodies with the noise of training, and the flow's log density."""
    vectors = given.posterior.vectors(people.rotations, people.betas)
    noisy = with_noise(vectors, _NOISE, torch.Generator().manual_seed(seed))
    return given.posterior.flow.encode(noisy, given.context)


def sample_measures(
    given: FlowGiven, people: People, body: Body, truth: Tensor, count: int, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Best of n, coverage of intervals, and ranks of the truth among samples."""
    most = BEST_OF[-1]
    best: dict[int, list[Tensor]] = {n: [] for n in BEST_OF}
    inside: dict[str, list[Tensor]] = {"all": [], "depth": [], "sideways": []}
    ranks: dict[str, list[Tensor]] = {"radius": [], "joint x": [], "joint y": [], "depth z": []}
    seconds = 0.0
    radii = true_latents(given, people, seed).latent.norm(dim=-1)
    for row in range(count):
        one = given.rows(torch.tensor([row]))
        began = time.process_time()
        noise = random_latents(most, given, row, seed)  # the mode counts as the first sample
        many = one.rows(torch.zeros(most, dtype=torch.long))
        pose = many.decode_draws(noise)
        joints = body.joints(pose.betas, pose.rotations)
        seconds += time.process_time() - began
        target = truth[row]
        error = 1000 * pa_mpjpe(joints[:, JOINTS], target[JOINTS].expand(most, -1, -1))
        for n in BEST_OF:
            best[n].append(error[:n].min())
        # joints relative to the pelvis; the mode is no draw
        drawn = (joints[1:] - joints[1:, :1])[:, JOINTS]
        true = (target - target[:1])[JOINTS]
        place = (drawn < true).float().mean(0)  # (14, 3), 0 to 1
        for axis, name in enumerate(("joint x", "joint y", "depth z")):
            ranks[name].append(place[:, axis])
        off = (place - 0.5).abs()
        hit = torch.stack([off <= level / 2 for level in LEVELS], -1)  # (14, 3, levels)
        inside["all"].append(hit.float().mean((0, 1)))
        inside["depth"].append(hit[:, 2].float().mean(0))
        inside["sideways"].append(hit[:, :2].float().mean((0, 1)))
        ranks["radius"].append((noise[1:].norm(dim=-1) < radii[row]).float().mean()[None])
    coverage = {
        name: dict(zip(map(str, LEVELS), torch.stack(hits).mean(0).tolist(), strict=True))
        for name, hits in inside.items()
    }
    return (
        {
            "best_of_pa_mpjpe_mm": {str(n): torch.stack(e).mean().item() for n, e in best.items()},
            "coverage": coverage,
            "cpu_ms_for_4096": 1000 * seconds / count,
        },
        {name: torch.cat(values) for name, values in ranks.items()},
    )


def plot_ranks(ranks: dict[str, dict[str, Tensor]], path: Path) -> None:
    """Histograms of ranks; flat is calibrated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(next(iter(ranks.values())))
    figure, axes = plt.subplots(
        len(ranks), len(kinds), figsize=(11, 2.2 * len(ranks)), squeeze=False
    )
    for row, (name, of_set) in zip(axes, ranks.items(), strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            axis.hist(of_set[kind], bins=20, range=(0, 1), density=True, color="#8fcca3")
            axis.axhline(1, color="#444444", linewidth=0.8)
            axis.set_title(f"{name}: {kind}", fontsize=9)
            axis.set_yticks([])
    figure.suptitle("Rank of the truth among 4,095 samples (flat is calibrated)", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def markdown(content: dict[str, Any]) -> str:
    """The tables as a page's part."""
    lines = [conditions_line(content), ""]
    for name, of_set in content["sets"].items():
        lines += [
            f"**{name}** ({content['people_a_set']} people)",
            "",
            "| method | MPJPE mm | PA-MPJPE mm | orientation | turned > 45° | reprojection | CPU |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for method, m in of_set["methods"].items():
            reprojection = m.get("reprojection_percent")
            lines.append(
                f"| {method} | {m['mpjpe_mm']:.1f} | {m['pa_mpjpe_mm']:.1f} | "
                f"{m['orientation_deg']:.1f}° | {100 * m['turned_share']:.1f} % | "
                + ("|" if reprojection is None else f"{reprojection:.2f} % of box | ")
                + (" |" if reprojection is None else f"{m['cpu_ms']:.0f} ms |")
            )
        lines.append("")
    lines += ["| set | NLL nats | " + " | ".join(f"best of {n}" for n in BEST_OF) + " |"]
    lines += ["| --- " * (len(BEST_OF) + 2) + "|"]
    for name, of_set in content["sets"].items():
        values = (f"{v:.1f}" for v in of_set["best_of_pa_mpjpe_mm"].values())
        lines.append(f"| {name} | {of_set['nll_nats']:.1f} | " + " | ".join(values) + " |")
    lines += ["", "| set | intervals of | 50 % | 80 % | 95 % |", "| --- | --- | --- | --- | --- |"]
    for name, of_set in content["sets"].items():
        for kind, levels in of_set["coverage"].items():
            lines.append(
                f"| {name} | {kind} | "
                + " | ".join(f"{100 * v:.0f} %" for v in levels.values())
                + " |"
            )
    times = ", ".join(f"{s['cpu_ms_for_4096']:.0f} ms" for s in content["sets"].values())
    lines += ["", f"4,096 samples of one person with their joints: {times} (CPU time)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
