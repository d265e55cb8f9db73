"""Which temperature makes what is drawn after a fit cover the truth as often as it says.

    python -m benchmarks.trust.tune_uncertainty --mocap MOCAP/val

Fits made-up people from validation recordings (never test), draws bodies around each fit with every
temperature and every power by which it rises with how badly the keypoints are met, and counts how
often the 50, 80 and 95 % intervals of the joints hold the truth. The best row is the one whose
worst count, of joints along an axis on any set of people, is nearest to what it should be. Writes
`tune_uncertainty.json` and `.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.trust.corrupted import made_up
from benchmarks.trust.coverage import KINDS, LEVELS, covered
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.after_fit import Heat, surroundings, weighted
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, Scenery
from flowfit.priors.load import load

SETS = {
    "plain": (Detector(), Scenery()),
    "noise x 2": (Detector(noise=2.0), Scenery()),
    "truncated": (Detector(), TRUNCATED),
}
HEATS = ((1.0, 0.0), (1.5, 0.0), (2.0, 0.0), (1.4, 0.4), (1.3, 0.6), (1.2, 0.8))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.trust.tune_uncertainty",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--people", type=int, default=100, help="in each set")
    parser.add_argument("--samples", type=int, default=256, help="of each person")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--heats", nargs="+", help="BASE:POWER ... in place of the list")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    targets = HEATS
    if args.heats:
        targets = tuple(tuple(map(float, t.split(":"))) for t in args.heats)
    body = find_body("open")
    sets = made_up(args.mocap, body, SETS, args.people, args.seed)
    found: list[dict[str, Any]] = [{"base": b, "power": p, "sets": {}} for b, p in targets]
    for name, people in sets.items():
        for row in found:
            row["sets"][name] = measured(people, body, row, args.samples)
            print(name, row["base"], row["power"], row["sets"][name], flush=True)
    for row in found:
        row["worst_points"] = 100 * max(
            abs(hit - level)
            for of_set in row["sets"].values()
            for kind in KINDS[:3]
            for hit, level in zip(of_set["inside"][kind], LEVELS, strict=True)
        )
    content = {
        "what": "coverage after a fit, made-up people from validation motion capture",
        "people_a_set": args.people,
        "samples": args.samples,
        "seed": args.seed,
        **conditions(),
        "tried": sorted(found, key=lambda r: r["worst_points"]),
    }
    write_json(args.out / "tune_uncertainty.json", content)
    text = markdown(content)
    (args.out / "tune_uncertainty.md").write_text(text, encoding="utf-8")
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "tune_uncertainty", text)


def measured(people: People, body: Body, row: dict[str, Any], samples: int) -> dict[str, Any]:
    """Coverage of one set by one target."""
    model = load("keypoint-flow")
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    result = fit_seen(problem, body, model, RECIPES["flow"])
    truth = body.joints(people.betas, people.rotations, people.transl)
    heat = Heat(row["base"], row["power"])
    around = surroundings(problem, body, model, result, heat=heat)
    hits, crps, k_hat = [], [], []
    for place, one in enumerate(tqdm(around, disable=None)):
        if one is not None:
            drawn = weighted(one, samples, 0)
            joints = one.draws(drawn.points).joints3d
            of_one = covered(joints, drawn.weights, truth[place])
            hits.append(of_one.hits)
            crps.append(of_one.crps)
            k_hat.append(drawn.k_hat)
    inside = torch.stack(hits).mean(0).tolist()
    return {
        "inside": dict(zip(KINDS, inside, strict=True)),
        "crps_mm": (1000 * torch.stack(crps).mean(0)).tolist(),
        "not_trusted": sum(k > 0.7 for k in k_hat) / len(k_hat),
    }


def markdown(content: dict[str, Any]) -> str:
    """The table."""
    names = list(content["tried"][0]["sets"])
    lines = [
        f"Intervals of 50 / 80 / 95 %, {content['people_a_set']} validation people a set, "
        f"{content['samples']} draws each, seed {content['seed']}; sideways, up and down, depth. "
        + conditions_line(content),
        "",
        "| temperature | power | worst, points | " + " | ".join(names) + " |",
        "| --- " * (3 + len(names)) + "|",
    ]
    for row in content["tried"]:
        cells = [
            ", ".join(
                " / ".join(f"{100 * v:.0f}" for v in row["sets"][name]["inside"][kind])
                for kind in KINDS[:3]
            )
            for name in names
        ]
        lines.append(
            f"| {row['base']:g} | {row['power']:g} | {row['worst_points']:.1f} | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
