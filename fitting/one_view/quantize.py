"""Many samples as a few distinct bodies: K-Means over their joints.

Each cluster is told by its medoid, a body that was drawn: a mean of bodies is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowfit.models.errors import InputError

_STARTS = 3  # of K-Means; the best one counts


@dataclass(frozen=True, eq=False)
class Modes:
    """What n samples come down to; the heaviest first.

    Attributes:
        index: (m,) which sample stands for each. weight: (m,) share of the samples; they sum to 1.
        member: (n,) which of the m each sample belongs to.
    """

    index: Tensor
    weight: Tensor
    member: Tensor


def check_seed(seed: int) -> None:
    """InputError for a seed that not every generator takes."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: give between 0 and {2**32 - 1}")


def quantize(
    joints3d: Tensor, count: int, *, weights: Tensor | None = None, seed: int = 0
) -> Modes:
    """Cluster samples by their joints, the pelvis brought together.

    Args:
        joints3d: (n, J, 3) metres, the root's joint first. count: clusters; fewer come of samples
            that repeat. weights: (n,) what each sample counts, not negative; None: all the same.
        seed: of K-Means.

    Raises:
        InputError: a count that is not between 1 and n, or samples that are not finite.
    """
    samples = len(joints3d)
    if not 1 <= count <= samples:
        raise InputError(f"{count} modes of {samples} samples: give between 1 and {samples}")
    points = (joints3d - joints3d[:, :1]).flatten(1).detach().cpu().double().numpy()
    if not np.isfinite(points).all():
        raise InputError("samples with joints that are not finite have no modes")
    even = np.full(samples, 1 / samples)
    mass = even if weights is None else weights.detach().cpu().double().numpy()
    counted = np.flatnonzero(mass > 0)
    if not len(counted):
        raise InputError("samples that all weigh nothing have no modes")
    label, centers = _cluster(points[counted], mass[counted], count, seed)
    index, share = [], []
    for k in range(len(centers)):
        own = counted[label == k]
        away = ((points[own] - centers[k]) ** 2).sum(-1)
        index.append(int(own[away.argmin()]))
        share.append(float(mass[own].sum()))
    order = np.argsort(-np.array(share), kind="stable")
    # samples that weigh nothing belong to whom they are nearest
    nearest = np.stack([((points - centers[k]) ** 2).sum(-1) for k in order]).argmin(0)
    device = joints3d.device
    weight = torch.tensor(share, dtype=torch.float64, device=device)[order.copy()]
    return Modes(
        torch.tensor(index, device=device)[order.copy()],
        weight / weight.sum(),
        torch.from_numpy(nearest).to(device),
    )


def _cluster(
    points: np.ndarray, mass: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and the centres that anything belongs to."""
    from sklearn.cluster import KMeans  # late: a second, which most verbs need not wait for

    distinct = len(np.unique(points, axis=0)) if len(points) <= 4 * count else count
    found = KMeans(min(count, distinct), n_init=_STARTS, random_state=seed).fit(
        points, sample_weight=mass * len(mass) / mass.sum()
    )
    used, label = np.unique(found.labels_, return_inverse=True)
    return label, found.cluster_centers_[used]
