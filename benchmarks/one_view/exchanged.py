"""What putting exchanged sides back is worth, and how much better a body must be for it.

    python -m benchmarks.one_view.exchanged --mocap MOCAP/val

Everyone is fitted as they were seen, and whoever's legs or arms the posterior believes exchanged
once more with them put back. For several demands on the gain: how many people change, how many of
them for the better and for the worse, and everybody's mean error; also where the detector exchanges
nothing, so that every change is wrong, and where it exchanges five times as often. Writes
`exchanged.json`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.posterior.posterior import SETS, opened
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen, try_sides
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe

DEMANDS = (3.0, 4.5, 6.0, 9.0, 13.0)  # nats
_CHANGED = 5.0  # mm; a smaller difference is neither better nor worse
_PLAIN, _SCENERY = SETS["plain"]
ALL_SETS = {
    **SETS,
    "plain, nothing exchanged": (replace(_PLAIN, swaps=0.0), _SCENERY),
    "truncated, nothing exchanged": (replace(_PLAIN, swaps=0.0), SETS["truncated"][1]),
    "plain, five times as often": (replace(_PLAIN, swaps=5 * _PLAIN.swaps), _SCENERY),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.one_view.exchanged"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--people", type=int, default=1000, help="in each set")
    parser.add_argument("--prior", default="keypoint-flow")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body, flow, maker = opened(args.mocap, args.prior)
    recipe = replace(RECIPES["flow"], exchange=None)
    found = {}
    for name, (detector, scenery) in ALL_SETS.items():
        people = replace(maker, detector=detector, scenery=scenery).draw(
            args.people, torch.Generator().manual_seed(args.seed)
        )
        truth = body.joints(people.betas, people.rotations)[:, JOINTS]
        problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
        result = fit_seen(problem, body, flow, recipe)
        before = 1000 * pa_mpjpe(result.joints3d[:, JOINTS], truth)
        tried = try_sides(problem, result, body, flow, recipe)
        assert tried is not None
        after = 1000 * pa_mpjpe(tried.result.joints3d[:, JOINTS], truth[tried.rows])
        found[name] = {
            "tried": len(tried.rows),
            "as_seen_mm": before.mean().item(),
            "demands": [
                {"nats": demand, **changed(before, after, tried.rows, tried.gain > demand)}
                for demand in DEMANDS
            ],
        }
        print(name, found[name], flush=True)
    content = {
        "what": "fits with exchanged sides put back",
        "prior": args.prior,
        "people_a_set": args.people,
        "seed": args.seed,
        **conditions(),
        "sets": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "exchanged.json", content)
    if args.page is not None:
        put_between_marks(args.page, "exchanged", markdown(content))


def changed(before: Tensor, after: Tensor, rows: Tensor, taken: Tensor) -> dict[str, Any]:
    """What taking some of the second fits does to everybody's errors (B,), mm."""
    rows, after = rows[taken], after[taken]
    better = int((after < before[rows] - _CHANGED).sum())
    worse = int((after > before[rows] + _CHANGED).sum())
    everyone = before.index_copy(0, rows, after)
    return {"better": better, "worse": worse, "pa_mpjpe_mm": everyone.mean().item()}


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    head = ["people", "tried", "as seen", *(f"gain of {demand:g}" for demand in DEMANDS)]
    lines = [
        f"{content['people_a_set']} people a set, seed {content['seed']}; PA-MPJPE in mm, in "
        f"brackets how many people it made better and worse. {conditions_line(content)}",
        "",
        "| " + " | ".join(head) + " |",
        "| --- " * len(head) + "|",
    ]
    for name, of_set in content["sets"].items():
        cells = [name, str(of_set["tried"]), f"{of_set['as_seen_mm']:.1f}"]
        cells += [
            f"{d['pa_mpjpe_mm']:.1f} ({d['better']}, {d['worse']})" for d in of_set["demands"]
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
