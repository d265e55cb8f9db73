"""Fit the built-in pose densities to motion capture.

    python -m flowfit.priors.classical.fit_mixture MOCAP/train --out priors/weights

writes `gmm8.npz` (8 full Gaussians, scikit-learn's EM) and `gaussian.npz`. Frames are drawn by
`Mocap.balanced_weights`, so that the longest recordings do not rule, and each is also mirrored.
The 69 pose numbers are followed by the direction of up in the pelvis' axes, as a camera that is
not quite level sees it: which poses are likely depends on gravity.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from flowfit.models.kinematics import mirror_rotations
from flowfit.models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from flowfit.priors.data.people.mocap import Mocap, read_mocap

CREDIT = (
    "Fitted to motion capture from mocap.cs.cmu.edu (created with funding from NSF EIA-0196217), "
    "ACCAD, The Ohio State University (CC BY 3.0), and Animated Drawings (c) Meta, MIT."
)
# Joints that the recordings hold still (hands) would get no variance at all
_LEAST_SD = np.deg2rad(3.0)
CAMERA_TILT_DEGREES = (12.0, 4.0)  # standard deviations of a photographer's pitch and roll


def training_rows(mocap: Mocap, count: int, seed: int) -> np.ndarray:
    """Balanced draws, each followed by its mirror image: (2 count, 72), radians and a direction."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(mocap), size=count, p=mocap.balanced_weights())
    rotations = axis_angle_to_matrix(torch.from_numpy(mocap.poses[drawn]))
    both = torch.stack((rotations, mirror_rotations(rotations)), 1).flatten(0, 1)
    tilt = rng.normal(0, np.deg2rad(CAMERA_TILT_DEGREES), (len(both), 2))
    tilt = np.stack((tilt[:, 0], np.zeros(len(both)), tilt[:, 1]), -1)  # about x and z
    up = axis_angle_to_matrix(torch.from_numpy(tilt))[..., 1]
    up_in_root = (both[:, 0].transpose(-1, -2) @ up[..., None])[..., 0]
    poses = matrix_to_axis_angle(both[:, 1:]).flatten(1)
    return torch.cat((poses, up_in_root), -1).numpy()


def fit_mixture(rows: np.ndarray, components: int, seed: int) -> dict[str, np.ndarray]:
    """EM on rows (N, D) -> means (M, D), covars (M, D, D), weights (M,)."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        components, reg_covar=_LEAST_SD**2, random_state=seed, max_iter=300, n_init=2
    ).fit(rows)
    return {
        "means": mixture.means_.astype(np.float32),
        "covars": mixture.covariances_.astype(np.float32),
        "weights": mixture.weights_.astype(np.float32),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m flowfit.priors.classical.fit_mixture"
    )
    parser.add_argument("mocap", type=Path, help="folder of AMASS npz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two npz files")
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = training_rows(read_mocap(args.mocap), args.draws, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    made_by = np.array(
        f"flowfit.priors.classical.fit_mixture --draws {args.draws} --seed {args.seed}"
    )
    for name, count in ((f"gmm{args.components}", args.components), ("gaussian", 1)):
        arrays = fit_mixture(rows, count, args.seed)
        arrays |= {"credit": np.array(CREDIT), "made_by": made_by}
        np.savez_compressed(args.out / f"{name}.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
