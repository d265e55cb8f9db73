"""ProHMR's tables for the image posterior, on drawn pictures of people from unseen recordings.

    python -m benchmarks.image.evaluation --mocap MOCAP/test --page docs/evaluation.md

Runs `flowfit evaluate synthetic` with all its sets, and puts the tables into a page together with
what they were measured on. With `--work DIR` it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.fitting.verbs.evaluate import evaluate


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.image.evaluation"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=200, help="in each set")
    parser.add_argument("--prior", default="image-small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder of the parts that are done")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        done = evaluate(
            "synthetic",
            args.work or folder,
            prior=args.prior,
            people=args.people,
            mocap=args.mocap,
            seed=args.seed,
            progress=True,
        )
    content: dict[str, Any] = {**done.content, **conditions()}
    write_json(args.out / "image_evaluation.json", content)
    text = "\n".join(
        (
            f"{args.people} people a set, seed {args.seed}, prior `{args.prior}`; "
            f"{conditions_line(content)}",
            "",
            done.markdown,
        )
    )
    (args.out / "image_evaluation.md").write_text(text, encoding="utf-8")
    if args.page is not None:
        put_between_marks(args.page, "evaluation", text)


if __name__ == "__main__":
    main()
