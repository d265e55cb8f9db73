"""Where the seconds of a cold `flowfit fit` go.

    python -m benchmarks.solvers.cold_start

Runs `fit` on the example picture in a fresh process, with a clock around each stage, and the whole
command from outside; medians of several runs. Files are in the system's cache, as on a second use.
The stages are CPU seconds, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json

DATA = Path(__file__).parents[2] / "examples" / "data"
STAGES = {
    "imports": "imports (torch is most of it)",
    "reading": "reading picture and keypoints",
    "body": "loading the body",
    "prior": "loading the prior",
    "fit": "fitting, first person of the process",
    "files": "npz, meshes and reports",
    "drawing": "drawing the overlay",
    "elsewhere": "the rest of `fit`",
    "ends": "start and end of the process",
}
# what runs in the fresh process: `fit` itself, with a clock around the functions that it calls
_CLOCKED = """
import json, sys, time
clock_now = time.process_time
began = clock_now()
from flowfit.fitting.drawing import overlay
from flowfit.fitting.reading import formats, inputs
from flowfit.fitting.verbs import fit as fit_image
from flowfit.fitting.writing import files, meshes
spent = {"imports": clock_now() - began}

def clock(module, name, stage):
    inner = getattr(module, name)
    def timed(*args, **kwargs):
        start = clock_now()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[stage] = spent.get(stage, 0.0) + clock_now() - start
    setattr(module, name, timed)

clock(inputs, "read_picture", "reading")
clock(formats, "read", "reading")
clock(fit_image, "find_body", "body")
clock(fit_image, "load_prior", "prior")
clock(fit_image, "fit_seen", "fit")
clock(overlay, "fit_picture", "drawing")
clock(overlay, "write_png", "drawing")
for name in ("write_arrays", "write_json"):
    clock(files, name, "files")
for name in ("person_arrays", "person_report"):
    clock(fit_image, name, "files")
clock(meshes, "write_mesh", "files")
start = clock_now()
fit_image.fit(*sys.argv[1:4])
spent["elsewhere"] = clock_now() - start - sum(v for k, v in spent.items() if k != "imports")
print(json.dumps(spent))
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.solvers.cold_start"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()

    runs = [one_run() for _ in range(args.runs)]
    medians = {name: statistics.median(r.get(name, 0.0) for r in runs) for name in runs[0]}
    content = {"runs": args.runs, **conditions(), "seconds": medians}
    write_json(args.out / "cold_start.json", content)
    text = markdown(json.loads((args.out / "cold_start.json").read_text(encoding="utf-8")))
    (args.out / "cold_start.md").write_text(text, encoding="utf-8")
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "cold_start", text)


def one_run() -> dict[str, float]:
    """CPU seconds by stage, of the whole process, and seconds of the command `flowfit fit`."""
    given = [str(DATA / "camera.png"), str(DATA / "camera_keypoints.json")]
    with tempfile.TemporaryDirectory() as folder:
        before = cpu_of_children()
        clocked = [sys.executable, "-c", _CLOCKED, *given, folder]
        done = subprocess.run(clocked, check=True, capture_output=True, text=True)
        process = cpu_of_children() - before
        spent: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        began = time.perf_counter()
        command = [sys.executable, "-m", "flowfit", "fit", *given, "--out", folder]
        subprocess.run(command, check=True, capture_output=True)
        wall = time.perf_counter() - began
    spent["ends"] = process - sum(spent.values())
    stages = {name: spent.get(name, 0.0) for name in STAGES}
    return stages | {"process": process, "command_wall": wall}


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def markdown(content: dict[str, Any]) -> str:
    """The table, from what the JSON file holds."""
    seconds = content["seconds"]
    lines = [
        f"`flowfit fit` on `examples/data/camera.png`, one person, median of {content['runs']} "
        "runs. " + conditions_line(content),
        "",
        "| stage | CPU seconds |",
        "| --- | --- |",
        *(f"| {text} | {seconds[name]:.2f} |" for name, text in STAGES.items()),
        f"| **sum** | **{seconds['process']:.2f}** |",
        f"| the command from outside, by the clock on the wall | {seconds['command_wall']:.2f} |",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
