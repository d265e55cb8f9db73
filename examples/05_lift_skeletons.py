"""Lift 2D keypoints to 3D skeletons, without a body model.

python examples/05_lift_skeletons.py
python examples/05_lift_skeletons.py photo_keypoints.json --image photo.jpg --out results
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from flowfit import lift

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "keypoints", nargs="?", type=Path, default=DATA / "astronaut_keypoints.json"
    )
    parser.add_argument("--image", type=Path, help="for its size, its focal length, and to draw on")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()

    # 1. Everyone in the file, in one batch. Metres are those of an average adult.
    done = lift(args.keypoints, args.out, image=args.image, samples=200)
    for warning in done.warnings:
        print("warning:", warning)
    if done.skeletons is None:
        print("nobody in this file")
        return

    # 2. The likeliest skeleton, and how far the samples spread around it.
    for row, person in enumerate(done.detections.indices):
        spread = done.skeletons.samples[row].std(0).norm(dim=-1)
        print(f"person {person}: x right, y down, z away from the camera, from the pelvis")
        for name in ("HeadTop", "LWrist", "RWrist", "LAnkle", "RAnkle"):
            place = done.joint_names.index(name)
            x, y, z = done.skeletons.joints[row, place].tolist()
            print(f"  {name:<8} {x:+.2f} {y:+.2f} {z:+.2f} m, +- {100 * spread[place]:.0f} cm")

    # 3. Densities compare skeletons of one person: which of the samples is the likeliest?
    best = torch.argmax(done.skeletons.log_prob, -1)
    for row, person in enumerate(done.detections.indices):
        gap = done.skeletons.mode_log_prob[row] - done.skeletons.log_prob[row, best[row]]
        print(f"person {person}: the mode is {gap:.0f} nats likelier than the likeliest sample")
    print("files:", ", ".join(p.name for p in done.files))


if __name__ == "__main__":
    main()
