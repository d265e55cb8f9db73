"""Which bodies fit these keypoints? Before a fit, and what is still open after it.

python examples/04_sample_people.py
python examples/04_sample_people.py photo.jpg photo_keypoints.json --out results
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flowfit import fit, sample
from flowfit.models.kinematics import joint_index

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, default=DATA / "camera.png")
    parser.add_argument("keypoints", nargs="?", type=Path, help="OpenPose JSON")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    keypoints = args.keypoints or args.image.with_name(f"{args.image.stem}_keypoints.json")

    # 1. Before a fit: 4,096 bodies from p(body | keypoints), and the five that they come down to.
    done = sample(args.image, keypoints, args.out, count=4096, modes=5)
    for person in done.people:
        shares = ", ".join(f"{100 * share:.0f} %" for share in person.modes.weight.tolist())
        print(f"person {person.person}: modes of {shares} of the samples")
        wrists = person.draws.joints3d[person.modes.index, joint_index("right_wrist")]
        for place in wrists.tolist():
            print("  right wrist at " + " ".join(f"{x:+.2f}" for x in place) + " m")

    # 2. After a fit: weighted bodies that explain the keypoints about as well as the fitted one.
    fitted = fit(args.image, keypoints, args.out, meshes=(), samples=500)
    for person, opened in zip(fitted.detections.indices, fitted.opened, strict=True):
        if opened is None:
            print(f"person {person}: nothing can be said of what is open")
            continue
        print(f"person {person}: standard deviation of a joint's place relative to the pelvis")
        for name in ("left_shoulder", "right_wrist", "left_ankle"):
            print(f"  {name:<14} {100 * opened.joint_sd[joint_index(name)]:.0f} cm")
        if not opened.trusted:
            print(f"  not to be trusted: the weights' Pareto shape is {opened.k_hat:.2f}")
    print("files:", ", ".join(sorted(p.name for p in {*done.files, *fitted.files})))


if __name__ == "__main__":
    main()
