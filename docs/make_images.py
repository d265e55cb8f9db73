"""Make the pictures of README and the pages: `python docs/make_images.py`.

Fits the two example pictures and stacks their overlays: keypoints, fitted body, side view. Fits one
of them with several recipes, side by side; samples it before and after a fit. Lifts both. Names of
pictures after the command (`first`, `compare`, `samples`, `lifting`) make these alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from flowfit import compare, fit, lift, sample
from flowfit.fitting.drawing.overlay import write_png
from flowfit.fitting.reading.pictures import read_picture

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images" / "first.png"
PICTURES = ("camera", "astronaut")
HEIGHT = 320  # pixels of a row
COMPARED = ROOT / "docs" / "images" / "compare.png"
RECIPES = ("regression", "flow", "smplify", "smplify+mode", "spin+mode", "smplifyx+mode")
WIDTH = 1400  # pixels of the comparison, of the samples and of the lifted skeletons
SAMPLED = {"samples": "samples", "interpolation": "interpolation", "after_fit": "samples"}
LIFTED = ROOT / "docs" / "images" / "lifting.png"


def overlay_of(name: str) -> np.ndarray:
    """The overlay that `fit` writes for an example picture, scaled to a row's height."""
    import cv2

    data = ROOT / "examples" / "data"
    with tempfile.TemporaryDirectory() as folder:
        fit(data / f"{name}.png", data / f"{name}_keypoints.json", folder, meshes=())
        pixels = read_picture(Path(folder) / f"{name}_overlay.png").pixels
    width = round(pixels.shape[1] * HEIGHT / pixels.shape[0])
    return np.asarray(cv2.resize(pixels, (width, HEIGHT), interpolation=cv2.INTER_AREA))


def comparison_of(name: str) -> np.ndarray:
    """The picture that `compare` writes for an example, scaled to its width."""
    data = ROOT / "examples" / "data"
    with tempfile.TemporaryDirectory() as folder:
        compare(data / f"{name}.png", data / f"{name}_keypoints.json", folder, recipes=RECIPES)
        return to_width(Path(folder) / f"{name}_0_compare.png")


def to_width(path: Path) -> np.ndarray:
    """A picture, `WIDTH` pixels wide."""
    import cv2

    pixels = read_picture(path).pixels
    height = round(pixels.shape[0] * WIDTH / pixels.shape[1])
    return np.asarray(cv2.resize(pixels, (WIDTH, height), interpolation=cv2.INTER_AREA))


def lifted(name: str) -> np.ndarray:
    """The picture that `lift` writes for an example, scaled to the comparison's width."""
    data = ROOT / "examples" / "data"
    with tempfile.TemporaryDirectory() as folder:
        lift(data / f"{name}_keypoints.json", folder, image=data / f"{name}.png")
        return to_width(Path(folder) / f"{name}_0_lift.png")


def write_samples(name: str) -> None:
    """The pictures of what an example leaves open, before a fit and after it."""
    data = ROOT / "examples" / "data"
    given = data / f"{name}.png", data / f"{name}_keypoints.json"
    for target, kind in SAMPLED.items():
        with tempfile.TemporaryDirectory() as folder:
            if target == "after_fit":
                fit(*given, folder, meshes=(), draw=True, samples=1000)
            else:
                sample(*given, folder, interpolate=True)
            picture = to_width(Path(folder) / f"{name}_0_{kind}.png")
            write_png(TARGET.parent / f"{target}.png", picture)


def main() -> None:
    """Write the pictures."""
    wanted = sys.argv[1:] or ["first", "compare", "samples", "lifting"]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    if "first" in wanted:
        write_first()
    if "compare" in wanted:
        write_png(COMPARED, comparison_of("camera"))
    if "samples" in wanted:
        write_samples("camera")
    if "lifting" in wanted:
        write_png(LIFTED, np.concatenate([lifted(name) for name in PICTURES]))


def write_first() -> None:
    """The overlays of both examples."""
    rows = [overlay_of(name) for name in PICTURES]
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    write_png(TARGET, np.concatenate(padded)[:-6])


if __name__ == "__main__":
    main()
