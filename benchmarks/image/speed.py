r"""How many made-up pictures of 128 pixels are drawn in a second, by one process and by several.

    python -m benchmarks.image.speed --mocap MOCAP/test --processes 2 \
        --page docs/image_posterior.md

Each process draws on one thread: people, their detector, pictures; without JPEG. Told are pictures
a second on the clock, which needs as many idle cores, and pictures a second of CPU time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.models.body_files import find_body
from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings
from flowfit.priors.data.people.mocap import read_mocap

_PART = 16  # pictures drawn at once, as in training
_ready: Any = None  # of a process that draws: the barrier at which all begin


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.image.speed"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files")
    parser.add_argument("--processes", type=int, default=2, help="that draw at the same time")
    parser.add_argument("--pictures", type=int, default=640, help="of each process")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the sentence into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {str(count): measure(args.mocap, count, args.pictures) for count in (1, args.processes)}
    content = {"what": "made-up pictures of 128 pixels drawn", "by": found, **conditions()}
    write_json(args.out / "picture_speed.json", content)
    text = markdown(json.loads((args.out / "picture_speed.json").read_text(encoding="utf-8")))
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "picture speed", text)


def measure(mocap: Path, processes: int, pictures: int) -> dict[str, float]:
    """Pictures a second of all the processes together, on the clock and of CPU time."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes)
    with context.Pool(processes, _start, (ready,)) as pool:
        jobs = [(mocap, number, processes, pictures) for number in range(processes)]
        spent = pool.starmap(_draw, jobs, chunksize=1)
    clock = max(s["ended"] for s in spent) - min(s["began"] for s in spent)
    return {
        "clock": processes * pictures / clock,
        "cpu": processes * pictures / sum(s["cpu"] for s in spent),
    }


def _start(ready: Any) -> None:
    global _ready
    _ready = ready


def _draw(mocap: Path, number: int, processes: int, pictures: int) -> dict[str, float]:
    """Draw every so-manieth part, all the processes beginning together."""
    torch.set_num_threads(1)
    settings = PictureSettings(margin=1.0)
    maker = PictureMaker(find_body("open"), find_body("open-low"), read_mocap(mocap), settings)
    maker.part(0)
    _ready.wait()
    began, cpu = time.time(), time.process_time()
    for part in range(-(-pictures // _PART)):
        maker.part(1 + part * processes + number)
    return {"began": began, "ended": time.time(), "cpu": time.process_time() - cpu}


def markdown(content: dict[str, Any]) -> str:
    """A sentence for a page."""
    lines = [conditions_line(content), ""]
    for count, speed in content["by"].items():
        who = "One process" if count == "1" else f"{count} processes"
        draws = "draws" if count == "1" else "draw"
        lines.append(
            f"- {who} of one thread {draws} {speed['clock']:.0f} pictures a second on the clock "
            f"({speed['cpu']:.0f} a second of CPU time)."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
