"""More poses than motion capture has: mirrored, recombined, and made up where it has none.

The recordings hold no sitting, kneeling, cross-legged or lying people, and photographs are full of
them; such lower bodies are drawn here from ranges of the joints' angles. Degrees, SMPL's axes,
the left side's; the right side flips y and z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowfit.models.kinematics import joint_index, mirror_rotations
from flowfit.models.rotations import axis_angle_to_matrix

_LOWER = tuple(
    f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "foot") for side in ("left", "right")
)

Angles = tuple[float, float, float]


@dataclass(frozen=True)
class Posture:
    """A made-up lower body: mean and spread of each joint's angles, and the pelvis.

    Attributes:
        share: how often it is drawn among the postures. hip, knee, ankle: (mean, sd) of x, y, z.
        pelvis: (mean, sd) of its pitch, positive leaning forward. lying: the whole body is laid
            on its back, front or side.
    """

    share: float
    hip: tuple[Angles, Angles]
    knee: tuple[float, float]
    pelvis: tuple[float, float]
    lying: bool = False


POSTURES: tuple[Posture, ...] = (
    Posture(0.40, ((-88, -5, 6), (14, 14, 10)), (85, 18), (-6, 10)),  # on a chair
    Posture(0.12, ((-80, 30, 35), (14, 12, 10)), (115, 12), (-8, 10)),  # cross-legged
    Posture(0.12, ((-8, 0, 2), (12, 8, 8)), (95, 14), (2, 8)),  # upright on the knees
    Posture(0.10, ((-100, -3, 8), (10, 8, 6)), (138, 6), (5, 10)),  # on the heels
    Posture(0.10, ((-75, -5, 10), (12, 10, 10)), (10, 10), (-12, 8)),  # legs stretched out
    Posture(0.16, ((-20, 0, 3), (22, 10, 8)), (25, 25), (0, 5), lying=True),
)


@dataclass(frozen=True)
class Augmentation:
    """How often poses are changed; shares of the draws.

    Attributes:
        mirror: seen in a mirror. recombine: the upper body of one, the lower body and pelvis of
            another. posture: a made-up lower body. jitter: degrees of noise on every body joint.
    """

    mirror: float = 0.5
    recombine: float = 0.15
    posture: float = 0.12
    jitter: float = 2.0

    def __call__(self, rotations: Tensor, generator: torch.Generator) -> Tensor:
        """Changed copies of (B, 24, 3, 3) world rotations, y up."""
        count, device, dtype = len(rotations), rotations.device, rotations.dtype

        def chance(share: float) -> Tensor:
            drawn = torch.rand(count, generator=generator, device=device) < share
            return drawn[:, None, None, None]

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=dtype, device=device)

        lower = torch.zeros(rotations.shape[1], dtype=torch.bool, device=device)
        lower[[joint_index(n) for n in ("pelvis", *_LOWER)]] = True
        other = torch.randperm(count, generator=generator, device=device)
        mixed = torch.where(lower[:, None, None], rotations[other], rotations)
        rotations = torch.where(chance(self.recombine), mixed, rotations)

        made_up = rotations.clone()
        shares = torch.tensor([p.share for p in POSTURES], device=device)
        kind = torch.multinomial(shares, count, True, generator=generator)
        for place, posture in enumerate(POSTURES):
            rows = (kind == place).nonzero()[:, 0]
            made_up[rows] = _take_posture(posture, made_up[rows], generator)
        rotations = torch.where(chance(self.posture), made_up, rotations)

        shake = math.radians(self.jitter) * normal(count, rotations.shape[1], 3)
        shake[:, 0] = 0
        rotations = rotations @ axis_angle_to_matrix(shake)
        return torch.where(chance(self.mirror), mirror_rotations(rotations), rotations)


def _take_posture(posture: Posture, rotations: Tensor, generator: torch.Generator) -> Tensor:
    count, dtype, device = len(rotations), rotations.dtype, rotations.device

    def draw(mean: Tensor | float, sd: Tensor | float, *shape: int) -> Tensor:
        noise = torch.randn(count, *shape, generator=generator, dtype=dtype, device=device)
        return torch.deg2rad(mean + sd * noise.clamp(-2, 2))

    rotations = rotations.clone()
    mean, sd = (rotations.new_tensor(v) for v in posture.hip)
    for side, flip in (("left", (1.0, 1.0, 1.0)), ("right", (1.0, -1.0, -1.0))):
        hip = draw(mean, sd, 3) * rotations.new_tensor(flip)
        rotations[:, joint_index(f"{side}_hip")] = axis_angle_to_matrix(hip)
        bend = draw(*posture.knee).clamp(min=0)
        zero = torch.zeros_like(bend)
        knee = axis_angle_to_matrix(torch.stack((bend, zero, zero), -1))
        rotations[:, joint_index(f"{side}_knee")] = knee
        relaxed = torch.stack((draw(10.0, 12.0), draw(0.0, 5.0), draw(0.0, 5.0)), -1)
        rotations[:, joint_index(f"{side}_ankle")] = axis_angle_to_matrix(relaxed)
    pitch = draw(*posture.pelvis)
    zero = torch.zeros_like(pitch)
    root = axis_angle_to_matrix(torch.stack((pitch, zero, draw(0.0, 4.0)), -1))
    if posture.lying:
        # laid down backwards (onto the back), then rolled about the body's own length
        half = torch.full_like(pitch, -math.pi / 2)
        down = axis_angle_to_matrix(torch.stack((half, zero, zero), -1))
        quarter = torch.randint(0, 4, (count,), generator=generator, device=device)
        roll = quarter.to(dtype) * (math.pi / 2) + draw(0.0, 15.0)
        root = down @ axis_angle_to_matrix(torch.stack((zero, roll, zero), -1)) @ root
    rotations[:, 0] = root
    return rotations
