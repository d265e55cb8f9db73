"""Make the pictures of README, docs/compare.md and docs/lifting.md: `python docs/make_images.py`.

Fits the two example pictures and stacks their overlays: keypoints, fitted body, side view. Fits one
of them with several recipes, side by side. Lifts both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fitting import compare, fit, lift
from fitting.overlay import write_png
from fitting.pictures import read_picture

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images" / "first.png"
PICTURES = ("camera", "astronaut")
HEIGHT = 320  # pixels of a row
COMPARED = ROOT / "docs" / "images" / "compare.png"
RECIPES = ("regression", "flow", "smplify", "smplify+mode", "spin+mode", "smplifyx+mode")
WIDTH = 1400  # pixels of the comparison
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
    import cv2

    data = ROOT / "examples" / "data"
    with tempfile.TemporaryDirectory() as folder:
        compare(data / f"{name}.png", data / f"{name}_keypoints.json", folder, recipes=RECIPES)
        pixels = read_picture(Path(folder) / f"{name}_0_compare.png").pixels
    height = round(pixels.shape[0] * WIDTH / pixels.shape[1])
    return np.asarray(cv2.resize(pixels, (WIDTH, height), interpolation=cv2.INTER_AREA))


def lifted(name: str) -> np.ndarray:
    """The picture that `lift` writes for an example, scaled to the comparison's width."""
    import cv2

    data = ROOT / "examples" / "data"
    with tempfile.TemporaryDirectory() as folder:
        lift(data / f"{name}_keypoints.json", folder, image=data / f"{name}.png")
        pixels = read_picture(Path(folder) / f"{name}_0_lift.png").pixels
    height = round(pixels.shape[0] * WIDTH / pixels.shape[1])
    return np.asarray(cv2.resize(pixels, (WIDTH, height), interpolation=cv2.INTER_AREA))


def main() -> None:
    """Write the pictures."""
    rows = [overlay_of(name) for name in PICTURES]
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    write_png(TARGET, np.concatenate(padded)[:-6])
    write_png(COMPARED, comparison_of("camera"))
    write_png(LIFTED, np.concatenate([lifted(name) for name in PICTURES]))
    print(*(path.relative_to(ROOT) for path in (TARGET, COMPARED, LIFTED)))


if __name__ == "__main__":
    main()
