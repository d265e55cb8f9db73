"""Is it better than SMPLify? Fit the same people in several ways, side by side.

python examples/03_compare_smplify.py
python examples/03_compare_smplify.py photos keypoints --out results
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flowfit import compare

DATA = Path(__file__).parent / "data"
# +mode: begin where the regression ends, instead of at the published start
RECIPES = ("regression", "flow", "smplify", "smplify+mode", "spin+mode", "smplifyx+mode")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, default=DATA, help="picture or folder")
    parser.add_argument("keypoints", nargs="?", type=Path, help="OpenPose JSON or folder of them")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--truth", type=Path, help="npz of known bodies, or a folder of them")
    args = parser.parse_args()

    # 1. Compare. This also writes a table, a picture of each person and a page with all of it.
    done = compare(
        args.images, args.keypoints or args.images, args.out, recipes=RECIPES, truth=args.truth
    )
    for name, reason in done.passed_over:
        print(f"passed over {name}: {reason}")

    # 2. One row a recipe: means over everyone.
    for row in done.rows:
        text = f"{row['recipe']:<14} {row['reprojection_px']:5.1f} px, quality {row['quality']:.2f}"
        if row["pa_mpjpe_mm"] is not None:
            text += f", PA-MPJPE {row['pa_mpjpe_mm']:.0f} mm"
        print(f"{text}, {1000 * row['seconds']:.0f} ms a person ({row['solver']})")

    # 3. A low reprojection error is no good body. What makes one doubt them, person by person:
    for person in done.people:
        for warning in person["warnings"]:
            print(f"{person['person']} {person['recipe']}: {warning}")

    # 4. The bodies themselves, straight from memory: tensors with one row a person.
    flow, smplify = (done.results[name][0] for name in ("flow", "smplify+mode"))
    apart = (flow.joints3d - smplify.joints3d).norm(dim=-1).mean(-1)
    for row, distance in enumerate(apart.tolist()):
        print(f"row {row}: flow and SMPLify put the joints {100 * distance:.0f} cm apart")
    print("look at", args.out / "compare.html")


if __name__ == "__main__":
    main()
