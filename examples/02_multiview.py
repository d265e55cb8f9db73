"""Fit everyone in a scene that four cameras see, and hold them against the truth.

python examples/02_multiview.py
python examples/02_multiview.py my_scene --out results

The first makes the built-in scene, in the folder `scene`: two people whose bodies are known.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from make_scene import make_scene

from flowfit import multiview


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scene", nargs="?", type=Path, default=Path("scene"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--uncalibrated", action="store_true")
    args = parser.parse_args()

    # 1. A scene is a folder of keypoints and, if they are known, cameras.
    if not args.scene.exists():
        make_scene(args.scene)
        print(f"made {args.scene}")

    # 2. Fit. The keypoint files do not say who is who in the four views: that is found, too.
    done = multiview(
        args.scene, args.out, uncalibrated=args.uncalibrated, overwrite=True, progress=True
    )
    for warning in done.warnings:
        print("warning:", warning)
    print("\n".join(done.lines()))

    # 3. What came of it, from the files: bodies in the world and in each camera's frame.
    truth_file = args.scene / "truth.json"
    truth = json.loads(truth_file.read_text()) if truth_file.exists() else {}
    for path in (p for p in done.files if p.suffix == ".npz"):
        frame = path.stem.rpartition("_p")[0]
        with np.load(path) as saved:
            joints = saved["joints3d_world"]
            print(
                f"{path}: joints3d_world {joints.shape}, vertices {saved['vertices_world'].shape}"
            )
            for name, place in zip(saved["view_names"], saved["transl"], strict=True):
                x, y, z = place
                print(f"  from {name}: {x:+.2f} {y:+.2f} {z:+.2f} m (x right, y down, z forward)")
        for error in errors(joints, truth.get(frame, [])):
            print(f"  the true joints are {error} mm off")
    print("files:", ", ".join(p.name for p in done.files if p.suffix != ".npz"))


def errors(joints: np.ndarray, people: list[dict[str, list[list[float]]]]) -> list[str]:
    """Mean distance to the nearest of the true people, as it is and from pelvis to pelvis."""
    if not people:
        return []
    true = np.array([person["joints3d_world"] for person in people])
    own = joints - joints[:1]
    placed = np.linalg.norm(joints - true, axis=-1).mean(-1)
    centred = np.linalg.norm(own - (true - true[:, :1]), axis=-1).mean(-1)
    nearest = placed.argmin()
    return [f"{1000 * placed[nearest]:.0f} (pelvis to pelvis {1000 * centred[nearest]:.0f})"]


if __name__ == "__main__":
    main()
