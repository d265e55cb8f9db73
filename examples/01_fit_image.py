"""Fit everyone in a picture, print who was found, and open the saved bodies.

python examples/01_fit_image.py
python examples/01_fit_image.py photo.jpg photo_keypoints.json --out results
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from flowfit import fit

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, default=DATA / "camera.png")
    parser.add_argument("keypoints", nargs="?", type=Path, help="OpenPose JSON")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    # OpenPose's name for the keypoints of photo.jpg
    keypoints = args.keypoints or args.image.with_name(f"{args.image.stem}_keypoints.json")

    # 1. Fit. Everything else has a default; README.md lists the options.
    done = fit(args.image, keypoints, args.out)
    for warning in done.warnings:
        print("warning:", warning)
    if done.result is None:
        print("nobody in this picture")
        return

    # 2. What came of it, straight from memory: tensors with one row a person.
    bodies = done.result
    for row, person in enumerate(done.detections.indices):
        x, y, z = bodies.transl[row].tolist()
        print(f"person {person}: {bodies.status[row].name.lower()}, {z:.2f} m from the camera")
        print(f"  translation {x:+.2f} {y:+.2f} {z:+.2f} m (x right, y down, z forward)")
        print(f"  median reprojection error {bodies.reprojection_px[row]:.1f} px")
        print(f"  quality {bodies.quality[row]:.2f} (chance that it is a good body)")
        print(f"  facing {bodies.facing[row]:.2f} (chance that it is turned the right way)")
        sure = bodies.keypoint_sd[row]
        for name in ("RWrist", "LWrist"):
            if name in bodies.schema:
                place = bodies.schema.index(name)
                print(f"  {name} is known to {100 * sure[place]:.0f} cm (1 sd)")

    # 3. The same from the files, as another program would read them.
    for path in done.files:
        if path.suffix == ".npz":
            with np.load(path) as saved:
                print(f"{path}:")
                for key in ("global_orient", "body_pose", "betas", "transl", "vertices", "faces"):
                    print(f"  {key:<14} {saved[key].shape}")
                angles = saved["body_pose"].reshape(23, 3)
                most = np.rad2deg(np.linalg.norm(angles, axis=1)).max()
                print(f"  the most bent joint is turned by {most:.0f} degrees")
    print("files:", ", ".join(p.name for p in done.files))


if __name__ == "__main__":
    main()
