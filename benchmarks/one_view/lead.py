"""How far fitting with the flow leads, by how much of a person is seen and how well.

    python -m benchmarks.one_view.lead --mocap MOCAP/test

Fits as in `benchmarks.posterior.posterior`, all from the flow's mode, on made-up people whom the
frame cuts more or less, by detectors that err more or less. Writes `lead.json`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.posterior.posterior import FLOW, MIXTURE, SMPLIFY, measure_methods, opened
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, Scenery

FRAMES = {
    "whole": Scenery(),
    "lightly cut": Scenery(box=(0.8, 1.4), off_centre=0.3),
    "truncated": TRUNCATED,
}
_NOISY = Detector(outliers=0, missed=0, hidden_limbs=0, swaps=0)
DETECTORS = {
    "as in the other tables": Detector(),
    "noise only": _NOISY,
    "half the noise": replace(_NOISY, noise=0.5),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.one_view.lead"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=1000, help="in each row")
    parser.add_argument("--prior", default="keypoint-flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body, flow, maker = opened(args.mocap, args.prior)
    rows = []
    for detector_name, detector in DETECTORS.items():
        for frame, scenery in FRAMES.items():
            people = replace(maker, detector=detector, scenery=scenery).draw(
                args.people, torch.Generator().manual_seed(args.seed)
            )
            methods = measure_methods(people, body, flow, FLOW, SMPLIFY, MIXTURE)
            seen = (people.confidence > 0).sum(-1).float().mean().item()
            row = {"detector": detector_name, "frame": frame, "seen": seen, "methods": methods}
            print(line(row), flush=True)
            rows.append(row)
    content = {
        "what": "fits from the flow's mode, by what is seen",
        "prior": args.prior,
        "people_a_row": args.people,
        "seed": args.seed,
        **conditions(),
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "lead.json", content)
    if args.page is not None:
        put_between_marks(args.page, "lead", markdown(content))


def line(row: dict[str, Any]) -> str:
    """One row of the table: PA-MPJPE, and by how much fitting with the flow is below the others."""
    error = {name: m["pa_mpjpe_mm"] for name, m in row["methods"].items()}
    below = [f"{100 * (1 - error[FLOW] / error[other]):.0f} %" for other in (SMPLIFY, MIXTURE)]
    values = [f"{error[name]:.1f}" for name in ("mode", FLOW, SMPLIFY, MIXTURE)]
    cells = [row["detector"], row["frame"], f"{row['seen']:.0f}", *values, *below]
    return "| " + " | ".join(cells) + " |"


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    head = ["detector", "people", "keypoints seen", "mode", FLOW, "SMPLify's weights"]
    head += ["tuned mixture", "below SMPLify's weights", "below the tuned mixture"]
    lines = [
        f"PA-MPJPE in mm, {content['people_a_row']} people a row, seed {content['seed']}. "
        + conditions_line(content),
        "",
        "| " + " | ".join(head) + " |",
        "| --- " * len(head) + "|",
        *(line(row) for row in content["rows"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
