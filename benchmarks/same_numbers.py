"""Whether another checkout's code gives the same numbers as this one's.

    python -m benchmarks.same_numbers --before CHECKOUT [--pictures DIR ...] [--scenes DIR ...]

Runs the verbs of both in fresh processes, in float64, on the built-in pictures, on every picture
with keypoints beside it in the folders given, on a made-up scene and on the scenes given; compares
every array of every npz and every number of every JSON file that both wrote, times aside. Prints a
table of the largest differences, writes `same_numbers.json`, and ends with status 1 where a number
moved by more than a billionth.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json

ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "data"
LEAST = 1e-9  # of a number that counts as moved, absolutely or as a share of it
RECIPES = ("flow", "prohmr", "gmm", "smplify", "spin", "smplifyx", "regression")
BESIDE = ("_keypoints.json", "_openpose.json", ".json")
_NO_RESULT = ("seconds", "made_with", "version", "files", "path", "when", "folder", "created")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.same_numbers"
    )
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders of pictures")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="scenes' folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(args.pictures, args.scenes, Path(folder)):
            rows.append({"run": name, **compare(args.before, command, Path(folder) / name)})
            print(row_of(rows[-1]), flush=True)
    content = {
        "what": "numbers of two checkouts",
        "before": commit(args.before),
        "now": commit(ROOT),
    }
    content |= {**conditions(), "rows": rows}
    write_json(args.out / "same_numbers.json", content)
    if args.page is not None:
        put_between_marks(args.page, "same_numbers", markdown(content))
    return int(any(row["moved"] or row["only_one_wrote"] for row in rows))


def commands(
    folders: list[Path], scenes: list[Path], temporary: Path
) -> Iterator[tuple[str, list[str]]]:
    """What is run: a name, and the command's arguments but for `--out`."""
    pictures = [(DATA / f"{name}.png", DATA / f"{name}_keypoints.json") for name in built_in()]
    for folder in folders:
        for picture in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg")):
            beside = (picture.with_name(picture.stem + end) for end in BESIDE)
            found = next((p for p in beside if p.is_file()), None)
            if found is not None and picture.name not in {p.name for p, _ in pictures}:
                pictures.append((picture, found))
    for number, (picture, keypoints) in enumerate(pictures):
        given, name = [str(picture.resolve()), str(keypoints.resolve())], f"picture{number}"
        for recipe in RECIPES:
            yield f"{name}_{recipe}", ["fit", *given, "--recipe", recipe, "--no-overlay"]
        picture_prior = ["--prior", "image-small", "--no-overlay"]
        yield f"{name}_image", ["fit", *given, *picture_prior]
        yield f"{name}_open", ["fit", *given, "--samples", "200", "--no-overlay"]
        yield f"{name}_sample", ["sample", *given, "--no-overlay", "--samples", "512"]
        yield f"{name}_compare", ["compare", *given, "--no-pictures"]
        lifted = ["lift", given[1], "--image", given[0], "--no-picture"]
        yield f"{name}_lift", lifted
    made = temporary / "made"
    maker = [sys.executable, str(ROOT / "examples" / "make_scene.py"), str(made)]
    subprocess.run(maker, check=True, capture_output=True, env=environment(ROOT), cwd=ROOT)
    for number, scene in enumerate([made, *(s.resolve() for s in scenes)]):
        given = ["multiview", str(scene), "--no-overlay"]
        yield f"scene{number}_calibrated", given
        yield f"scene{number}_uncalibrated", [*given, "--uncalibrated"]


def built_in() -> list[str]:
    """Stems of the pictures that come with the project."""
    return sorted(path.stem for path in DATA.glob("*.png"))


def environment(checkout: Path) -> dict[str, str]:
    """Of a process that imports from a checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}


def compare(before: Path, command: list[str], out: Path) -> dict[str, Any]:
    """Run a command with both checkouts' code; how far the numbers are apart."""
    folders = []
    for label, checkout in (("before", before), ("now", ROOT)):
        module = "flowfit" if (checkout / "flowfit").is_dir() else "fitting.cli"
        folder = out.with_name(f"{out.name}_{label}")
        whole = [sys.executable, "-m", module, *command, "--out", str(folder)]
        done = subprocess.run(
            whole,
            env=environment(checkout),
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{label}: {' '.join(command)}: {done.stderr.strip()}")
        folders.append(folder)
    first, second = (dict(numbers(folder)) for folder in folders)
    apart = {name: difference(first[name], second[name]) for name in first.keys() & second.keys()}
    return {
        "numbers": sum(array.size for array in first.values()),
        "largest": max(apart.values(), default=0.0),
        "moved": sorted(name for name, value in apart.items() if not value <= LEAST),
        "only_one_wrote": sorted(first.keys() ^ second.keys()),
    }


def numbers(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every array and every number that was written, by file and name."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                for key in arrays.files:
                    if arrays[key].dtype.kind in "fiub":
                        yield f"{name}:{key}", arrays[key]
        elif path.suffix == ".json":
            found = leaves(json.loads(path.read_text(encoding="utf-8")))
            for key, value in found:
                yield f"{name}:{key}", np.asarray(value)


def leaves(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a JSON file with the way to each; times and places left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not any(word in key for word in _NO_RESULT):
                yield from leaves(value, f"{name}/{key}")
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from leaves(value, f"{name}/{place}")
    elif isinstance(content, int | float):
        yield name, float(content)


def difference(one: np.ndarray, two: np.ndarray) -> float:
    """The largest, absolute or as a share of the number, whichever is less; infinite if shaped
    differently or NaN in one alone.
    """
    if one.shape != two.shape or (np.isnan(one) != np.isnan(two)).any():
        return math.inf
    one, two = (np.nan_to_num(np.asarray(a, dtype=np.float64)) for a in (one, two))
    if not one.size:
        return 0.0
    return float((np.abs(one - two) / np.maximum(1.0, np.abs(one))).max())


def commit(checkout: Path) -> str:
    """Which commit a checkout is at."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def row_of(row: dict[str, Any]) -> str:
    """A run as a table row."""
    moved = len(row["moved"]) + len(row["only_one_wrote"])
    return f"| {row['run']} | {row['numbers']:,} | {row['largest']:.1e} | {moved} |"


def markdown(content: dict[str, Any]) -> str:
    """The table, from what the JSON file holds."""
    lines = [
        f"{content['before']} and {content['now']}. {conditions_line(content)}",
        "",
        "| run | numbers | largest difference | moved |",
        "| --- | --- | --- | --- |",
        *(row_of(row) for row in content["rows"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
