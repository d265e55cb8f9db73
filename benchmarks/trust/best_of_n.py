"""The best of n bodies: drawn from the posterior, and from what stands beside it in ProHMR."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.one_view.single_image import LIMBS
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.fit_seen import tell
from flowfit.fitting.one_view.quantize import quantize
from flowfit.models.body import Body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.keypoints.draws import draw, random_latents
from flowfit.priors.load import load

MOST = 4096
QUANTISED = (5, 10, 25)
BEST_OF = tuple(sorted({*(2**k for k in range(13)), *QUANTISED}))
SIGMAS = (0.01, 0.10, 0.20)  # metres
VOXEL = 2.0 / 64  # metres: 64 voxels over two metres, as the volumes of ProHMR's reference [14]
_POOL = 20_000  # poses of the training set to draw from
_MIRRORED = [
    (LIMBS[i], LIMBS[i + 1]) for i in range(0, len(LIMBS), 2)
]  # the same bone, left and right


def training_pool(mocap: Mocap, body: Body, seed: int) -> Tensor:
    """Joints (_POOL, 14, 3) of poses of the training set, mean shape, metres."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.from_numpy(mocap.balanced_weights()).float()
    chosen = torch.multinomial(weights, _POOL, True, generator=generator)
    joints = []
    for some in chosen.split(2000):
        rotations = axis_angle_to_matrix(torch.from_numpy(mocap.poses[some.numpy()]).float())
        betas = rotations.new_zeros(len(some), body.num_betas)
        joints.append(body.joints(betas, rotations)[:, JOINTS])
    return torch.cat(joints)


def measure(people: People, body: Body, pool: Tensor, seed: int) -> dict[str, Any]:
    """Best of n of every way to draw, K-Means, and the bones of the drawn bodies."""
    model = load("keypoint-flow")
    problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
    given = tell(model, problem, body).as_posterior()
    assert given is not None
    truth = body.joints(people.betas, people.rotations)
    generator = torch.Generator().manual_seed(seed)
    best: dict[str, list[Tensor]] = {}
    quantised: dict[int, list[float]] = {m: [] for m in QUANTISED}
    bones: dict[str, list[Tensor]] = {"posterior": [], "factorized heatmaps": []}
    for row in tqdm(range(len(problem)), disable=None):
        joints = draw(given, row, random_latents(MOST, given, row, seed), body).joints3d
        joints = joints - joints[:, :1]
        true = truth[row][JOINTS]
        mode = joints[:1, JOINTS]
        spread = torch.randn(MOST - 1, len(JOINTS), 3, generator=generator)
        chosen = torch.randint(len(pool), (MOST,), generator=generator)
        voxels = heatmap_draws(joints, generator)
        ways = {
            "posterior": joints[:, JOINTS],
            "training set": pool[chosen],
            **{f"Gaussian, {100 * s:.0f} cm": torch.cat((mode, mode + s * spread)) for s in SIGMAS},
            "factorized heatmaps": torch.cat((mode, voxels[1:, JOINTS])),
        }
        for name, points in ways.items():
            error = 1000 * pa_mpjpe(points, true.expand(MOST, -1, -1))
            least = error.cummin(0).values
            best.setdefault(name, []).append(least[torch.tensor(BEST_OF) - 1])
            if name == "posterior":
                for m in QUANTISED:
                    modes = quantize(joints, m, seed=seed)
                    # the mode counts as the first: it stands for its own cluster
                    index = modes.index.clone()
                    index[modes.member[0]] = 0
                    quantised[m].append(float(error[index].min()))
        for name, drawn in (("posterior", joints), ("factorized heatmaps", voxels)):
            bones[name].append(bone_errors(drawn[1:], truth[row]))
    means = {name: torch.stack(values).mean(0) for name, values in best.items()}
    return {
        "best_of": list(BEST_OF),
        "pa_mpjpe_mm": {name: m.tolist() for name, m in means.items()},
        "quantised_pa_mpjpe_mm": {str(m): sum(v) / len(v) for m, v in quantised.items()},
        "mm_a_doubling": {name: slope(m) for name, m in means.items()},
        "bones": {
            name: dict(
                zip(
                    ("length_error_mm", "left_right_mm", "length_error_percent"),
                    torch.stack(values).mean(0).tolist(),
                    strict=True,
                )
            )
            for name, values in bones.items()
        },
    }


def heatmap_draws(joints: Tensor, generator: torch.Generator) -> Tensor:
    """Draws (S, 24, 3) of a heatmap a joint, whose voxels have the shares of the samples in them.

    The best factorized posterior there can be: its marginals are the posterior's own. Each joint
    takes a voxel by itself, and a place anywhere in it (ProHMR's supplement, section 1).
    """
    count, many = joints.shape[:2]
    whose = torch.randint(count, (count, many), generator=generator)
    corner = (joints / VOXEL).floor() * VOXEL
    taken = corner.gather(0, whose[..., None].expand(-1, -1, 3))
    return taken + VOXEL * torch.rand(joints.shape, generator=generator)


def bone_errors(joints: Tensor, truth: Tensor) -> Tensor:
    """(3,): limbs' length error, and how much left and right differ, mm; the first in per cent."""

    def lengths(points: Tensor) -> dict[tuple[int, int], Tensor]:
        return {(a, b): (points[..., a, :] - points[..., b, :]).norm(dim=-1) for a, b in LIMBS}

    drawn, true = lengths(joints), lengths(truth)
    error = torch.stack([(drawn[b] - true[b]).abs() for b in LIMBS], -1)
    share = torch.stack([(drawn[b] / true[b] - 1).abs() for b in LIMBS], -1)
    uneven = torch.stack([(drawn[a] - drawn[b]).abs() for a, b in _MIRRORED], -1)
    return torch.stack((1000 * error.mean(), 1000 * uneven.mean(), 100 * share.mean()))


def slope(errors: Tensor) -> dict[str, float]:
    """Straight line through the error over log2 n: mm a doubling, and the share it explains."""
    doublings = torch.log2(torch.tensor(BEST_OF, dtype=torch.float64))
    x, y = doublings - doublings.mean(), errors.double() - errors.double().mean()
    per = (x * y).sum() / (x * x).sum()
    return {
        "mm": float(per),
        "explained": float(1 - ((y - per * x) ** 2).sum() / (y * y).sum().clamp(min=1e-12)),
    }
