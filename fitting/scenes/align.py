"""How views stand to each other, from the same bodies seen in each view's own frame."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.fitting.energy.reprojection import geman_mcclure
from flowfit.models.alignment import rigid_alignment
from flowfit.models.errors import InputError
from flowfit.models.rig import Rig

_LEAST_APART = 0.05  # metres, the scale of disagreement between two views' bodies


def align_views(joints: Tensor, seen: Tensor) -> tuple[Rig, int]:
    """Rig of views from the same bodies in each view's frame, by robust Procrustes.

    Args:
        joints: (F, V, J, 3) metres, each view's frame. seen: (F, V).

    Returns:
        World to camera, the world being the reference view's frame, and which view that is: the
        one that saw most together with others.

    Raises:
        InputError: a view that never saw the person together with the others.
    """
    views = seen.shape[1]
    both = (seen[:, :, None] & seen[:, None]).sum(0)
    together = both - torch.diag(both.diagonal())
    reference = int(together.sum(1).argmax())
    rotations = joints.new_zeros(views, 3, 3)
    translations = joints.new_zeros(views, 3)
    rotations[reference] = torch.eye(3, dtype=joints.dtype)
    known = [reference]
    while len(known) < views:
        others = [v for v in range(views) if v not in known]
        links = together[known][:, others]
        if int(links.max()) == 0:
            raise InputError(
                f"view {others[0]} never sees the person at the same time as the others; its "
                "camera can not be placed"
            )
        place = int(links.argmax())
        old, new = known[place // len(others)], others[place % len(others)]
        rows = seen[:, old] & seen[:, new]
        turn, shift = _robust_alignment(joints[rows, old], joints[rows, new])
        rotations[new] = turn @ rotations[old]
        translations[new] = turn @ translations[old] + shift
        known.append(new)
    return Rig(rotations, translations), reference


def _robust_alignment(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The motion that most frames' bodies (F, J, 3) agree on."""
    # one frame's own motion, tried on all the frames: the best of them begins
    turns, shifts = rigid_alignment(source, target, torch.ones_like(source[..., 0]))
    moved = torch.einsum("gab,fjb->gfja", turns, source) + shifts[:, None, None]
    apart = (moved - target).square().sum(-1).mean(-1).sqrt()  # (motions, frames)
    best = int(apart.median(1).values.argmin())
    turn, shift, off = turns[best], shifts[best], apart[best]
    for _ in range(20):
        scale = torch.maximum(2 * off.median(), off.new_tensor(_LEAST_APART))
        weight = geman_mcclure(off**2, scale)[1][:, None].expand(source.shape[:2])
        turn, shift = rigid_alignment(source.flatten(0, 1), target.flatten(0, 1), weight.flatten())
        off = (source @ turn.T + shift - target).square().sum(-1).mean(-1).sqrt()
    return turn, shift
