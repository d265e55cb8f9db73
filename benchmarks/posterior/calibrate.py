"""How to draw from a keypoint posterior so that its intervals hold the truth as often as they say.

    python -m benchmarks.posterior.calibrate --mocap MOCAP/val [--prior FILE.safetensors] [--write]

On made-up people from validation recordings (never test). Fits how long the latents of true bodies
are, and measures intervals with several shares of the step that takes the targets' noise off
(`priors/keypoints/draw_calibration.py`). `flowfit train keypoints` fits the lengths by itself;
`--write` puts them into the JSON of weights that were trained before.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.posterior.posterior import LEVELS, SETS, true_latents
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.files import write_whole
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Wanted
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import People, PeopleMaker
from flowfit.priors.keypoints.draw_calibration import (
    CLEANED,
    CLEANED_BY_WIDTH,
    DrawCalibration,
    fit_lengths,
)
from flowfit.priors.keypoints.draws import random_latents
from flowfit.priors.keypoints.files import read_about
from flowfit.priors.keypoints.prior import FlowGiven, load_flow_prior
from flowfit.priors.load import posterior_file

SHARES = (0.0, 0.5, 0.7, 1.0)
AXES = ("sideways", "up and down", "depth")
DRAWS = 512
BUILT_IN = "keypoint-flow"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.posterior.calibrate"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--prior", default=BUILT_IN, help="its weights, .safetensors")
    parser.add_argument("--people", type=int, default=1000, help="in each set, for the lengths")
    parser.add_argument("--sampled", type=int, default=150, help="in each set, for the intervals")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into the weights' JSON")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = posterior_file(args.prior)
    about = read_about(weights)
    noise = float(about["config"]["losses"]["target_noise"])
    body, recordings = find_body("open"), read_mocap(args.mocap)
    flow = load_flow_prior(args.prior, weights, Wanted())
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).float())
    often = torch.from_numpy(recordings.balanced_weights()).float()
    told: dict[str, tuple[FlowGiven, People]] = {}
    for name, of_set in SETS.items():
        maker = PeopleMaker(body, poses, often, BODY25, *of_set)
        people = maker.draw(args.people, torch.Generator().manual_seed(args.seed))
        seen = people.keypoints, people.confidence, people.camera
        told[name] = flow.given(BODY25, *seen, body), people
    latents = {n: true_latents(g, p, args.seed).latent for n, (g, p) in told.items()}
    widths = {n: g.flow.widths() for n, (g, _) in told.items()}
    fitted = fit_lengths(*(torch.cat(list(v.values())) for v in (latents, widths)), noise)
    content: dict[str, Any] = {
        "what": "intervals of draws, made-up people from validation motion capture",
        "prior": args.prior,
        "people_a_set": args.sampled,
        "draws": DRAWS,
        "seed": args.seed,
        **conditions(),
        "lengths": {
            "all": fitted.told(),
            **{name: fit_lengths(z, widths[name], noise).told() for name, z in latents.items()},
        },
        "nats": {
            name: fitted.of_widths(widths[name]).log_ratio(z).mean().item()
            for name, z in latents.items()
        },
        "tried": [],
    }
    same = replace(fitted, cleaned_by_width=0.0)
    ways = [DrawCalibration(), *(replace(same, cleaned=share) for share in SHARES), fitted]
    for way in ways:
        hits = {
            name: coverage(given, people, body, way, args.sampled)
            for name, (given, people) in told.items()
        }
        inside = {name: shares(of_set) for name, of_set in hits.items()}
        by_width = by_fifths(
            torch.cat(list(hits.values())),
            torch.cat([widths[name][: len(of_set)] for name, of_set in hits.items()]),
        )
        content["tried"].append(
            {**way.told(), "inside": inside, "worst": worst(inside), "by_width": by_width}
        )
        print(json.dumps(content["tried"][-1]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "calibrate.json", content)
    text = markdown(content)
    (args.out / "calibrate.md").write_text(text, encoding="utf-8")
    if args.page is not None:
        put_between_marks(args.page, "calibrate", text)
    if args.write:
        about["draws"] = {k: round(v, 4) for k, v in fitted.told().items()}
        text = json.dumps(about, indent=1) + "\n"
        write_whole(weights.with_suffix(".json"), text.encode())


def coverage(
    given: FlowGiven, people: People, body: Body, way: DrawCalibration, count: int
) -> Tensor:
    """(count, 14, 3, levels): whether intervals of the joints hold the truth, along each axis."""
    truth = body.joints(people.betas, people.rotations)
    hits = []
    for row in range(count):
        one = given.rows(torch.tensor([row])).calibrated(way)
        many = one.rows(torch.zeros(DRAWS, dtype=torch.long))
        pose = many.decode_draws(random_latents(DRAWS, one, 0, row))
        joints = body.joints(pose.betas, pose.rotations)[1:]  # the mode is no draw
        hits.append(_inside(joints, truth[row]))
    return torch.stack(hits)


def shares(hits: Tensor) -> dict[str, list[float]]:
    """How often the intervals of some people hold the truth, over all axes and along each."""
    mean = hits.mean((0, 1))  # (3 axes, levels)
    return {"all": mean.mean(0).tolist(), **dict(zip(AXES, mean.tolist(), strict=True))}


def by_fifths(hits: Tensor, widths: Tensor) -> list[list[float]]:
    """Over all axes, of five equally many people from the narrowest to the widest posterior."""
    return [shares(hits[rows])["all"] for rows in widths.argsort().tensor_split(5)]


def _inside(joints: Tensor, truth: Tensor) -> Tensor:
    """(14, 3, levels): whether intervals of draws (S, 24, 3) hold the truth (24, 3)."""
    drawn = (joints - joints[:, :1])[:, JOINTS]
    off = ((drawn < (truth - truth[:1])[JOINTS]).float().mean(0) - 0.5).abs()
    return torch.stack([off <= level / 2 for level in LEVELS], -1).float()


def worst(inside: dict[str, dict[str, list[float]]]) -> float:
    """Largest distance, in points, of a count of all axes or of depth from what it should be."""
    return 100 * max(
        abs(share - level)
        for of_set in inside.values()
        for kind in ("all", "depth")
        for share, level in zip(of_set[kind], LEVELS, strict=True)
    )


def markdown(content: dict[str, Any]) -> str:
    """The tables."""
    lengths = content["lengths"]["all"]
    by_set = ", ".join(
        f"{name} {of_set['length']:.2f} ({of_set['length_spread']:.2f})"
        for name, of_set in content["lengths"].items()
        if name != "all"
    )
    gained = ", ".join(f"{name} {v:.1f}" for name, v in content["nats"].items())
    sets = list(content["tried"][0]["inside"])
    lines = [
        f"Prior {content['prior']}, {content['people_a_set']} validation people a set, "
        f"{content['draws']} draws each, seed {content['seed']}. {conditions_line(content)}",
        "",
        f"Lengths of the true bodies' latents: {lengths['length']:.2f} times a normal vector's, "
        f"spread {lengths['length_spread']:.2f} in the logarithm ({by_set}). "
        f"To know that is worth so many nats a person: {gained}.",
        "",
        "Intervals of 50 / 80 / 95 %: all axes; sideways; depth. By width: the intervals of 50 % "
        "over all axes, of five equally many people from the narrowest posterior to the widest.",
        "",
        "| lengths | share of the step | worst, points | " + " | ".join(sets) + " | by width |",
        "| --- " * (4 + len(sets)) + "|",
    ]
    for row in content["tried"]:
        cells = [
            "; ".join(
                " / ".join(f"{100 * v:.0f}" for v in row["inside"][name][kind])
                for kind in ("all", "sideways", "depth")
            )
            for name in sets
        ]
        drawn = "fitted" if row["length_spread"] else "normal"
        share = f"{row['cleaned']:g}" if row["noise"] else "none"
        if row["cleaned_by_width"]:
            share += " and by width"
        cells.append("; ".join(f"{100 * fifth[0]:.0f}" for fifth in row["by_width"]))
        lines.append(f"| {drawn} | {share} | {row['worst']:.1f} | " + " | ".join(cells) + " |")
    lines += ["", f"`CLEANED` is {CLEANED:g}, `CLEANED_BY_WIDTH` {CLEANED_BY_WIDTH:g}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
