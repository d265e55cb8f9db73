"""How often each frame of motion capture is drawn: by posture, not by recording.

Recordings hold what was recorded: ten exercises a thousand times, somebody seated on the floor
never. Frames that stand alike are put into clusters, and crowded clusters are drawn less often than
their frames would have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowfit.models.kinematics import (
    JOINT_NAMES,
    PARENTS,
    joint_index,
    mirror_rotations,
    parents,
)
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import Mocap

_UP = (0.0, 1.0, 0.0)  # of the mocap's world
_COMPOSED = "synthetic"  # a kind: poses composed by rule


@dataclass(frozen=True)
class PostureBalance:
    """How frames are weighed.

    Attributes:
        clusters: of frames and their mirror images; 0 leaves the balance to the actions alone.
        temper: power of a cluster's weight that is taken off; 1 draws all clusters equally often.
        composed: share of the draws that come from poses composed by rule, where there are any.
        hand_made: factor on hand-made animation.
    """

    clusters: int = 0
    temper: float = 0.7
    composed: float = 0.3
    hand_made: float = 0.5

    def weights(self, mocap: Mocap, seed: int) -> np.ndarray:
        """(T,) sampling weights, sum 1."""
        weight = mocap.balanced_weights()
        if not self.clusters:
            return weight
        kinds = np.array(mocap.kinds)[mocap.sequence]
        weight = weight * np.where(np.char.startswith(kinds, "hand-made"), self.hand_made, 1.0)
        composed = kinds == _COMPOSED
        both = composed.any() and not composed.all()
        place = self._places(mocap, seed)  # (2, T): of each frame and of its mirror image
        mass = np.bincount(place.ravel(), np.tile(weight, 2), self.clusters)
        rare = np.where(mass > 0, mass, 1.0) ** -self.temper
        weight = weight * rare[place].mean(0)
        if both:
            share = np.where(composed, self.composed, 1 - self.composed)
            total = np.where(composed, weight[composed].sum(), weight[~composed].sum())
            weight = weight * share / total
        return weight / weight.sum()

    def _places(self, mocap: Mocap, seed: int) -> np.ndarray:
        from sklearn.cluster import MiniBatchKMeans  # late: a second, which fits need not wait for

        rotations = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
        rows = torch.cat((limb_directions(rotations), limb_directions(mirror_rotations(rotations))))
        means = MiniBatchKMeans(
            min(self.clusters, len(rows)), batch_size=8192, n_init=1, random_state=seed
        )
        return means.fit_predict(rows.numpy()).reshape(2, -1)


def limb_directions(rotations: Tensor) -> Tensor:
    """What a posture looks like, whichever way it faces: (T, 72) from (T, 24, 3, 3), y up.

    Of every joint the third column of its world rotation's limb: where the bone that ends there
    points, in axes that turn with the pelvis' heading; the pelvis' row is where up is.
    """
    turned = [rotations[:, joint_index("pelvis")]]
    for joint in range(1, len(JOINT_NAMES)):
        turned.append(turned[PARENTS[joint]] @ rotations[:, joint])
    world = torch.stack(turned, 1)
    bones = _rest_directions().to(rotations)
    above = parents(rotations.device).clamp(min=0)
    points = (world[:, above] * bones[:, None]).sum(-1)
    up = rotations.new_tensor(_UP)
    points[:, 0] = world[:, 0].transpose(-1, -2) @ up
    ahead = world[:, 0, :, 2]  # where the pelvis faces
    heading = torch.atan2(ahead[:, 0], ahead[:, 2])
    zero = torch.zeros_like(heading)
    back = axis_angle_to_matrix(torch.stack((zero, -heading, zero), -1))
    points[:, 1:] = points[:, 1:] @ back.transpose(-1, -2)
    return points.flatten(1)


def _rest_directions() -> Tensor:
    """(24, 3) unit vectors from each joint's parent to it, in the T-pose of the built-in body."""
    from flowfit.models.body_files import find_body

    joints = find_body("open-low").joint_template
    bones = joints - joints[parents(joints.device).clamp(min=0)]
    return torch.nn.functional.normalize(bones, dim=-1)
