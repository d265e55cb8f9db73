"""Cameras that all frames share, refined together with the bodies of the frames.

Levenberg-Marquardt on the sum of the frames' energies. A body depends on its own frame only, so the
bodies are eliminated frame by frame (Schur complement), and the system that is left has the size of
the cameras. Undamped it is the inverse of their covariance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.objective import State
from flowfit.fitting.several_views.objective import ViewsObjective
from flowfit.fitting.several_views.placed import Placed
from flowfit.models.rig import Rig
from flowfit.models.rotations import retract, skew

_ROUNDS, _ITERATIONS = 3, 10
_OF_VIEW = 6


class _Joint(NamedTuple):
    """Quadratic model with shared cameras: frames' blocks and the reduced system."""

    energy: Tensor
    of_frames: Tensor  # (F, P, P)
    mixed: Tensor  # (F, P, C)
    of_cameras: Tensor  # (C, C)
    by_frames: Tensor  # (F, P)
    by_cameras: Tensor  # (C,)


def refine_together(
    objective: ViewsObjective, bodies: Placed, reference: int
) -> tuple[Placed, Tensor]:
    """Lower the energy of all frames by their bodies and the cameras they share.

    Args:
        objective: of the frames, with an unknown rig. bodies: where they are, the same rig in each.
        reference: the view that is held.

    Returns:
        The bodies with the rig, and the covariance (6 V, 6 V) of the cameras: each one's turn
        (radians) and its centre (metres), in its own frame; zero for the reference.
    """
    damping = 1e-2
    state = bodies.state()
    frozen = objective.freeze(state)
    now = _model(frozen, state, reference)
    for turn in range(_ROUNDS):
        if turn:
            frozen = objective.freeze(state)
            now = _model(frozen, state, reference)
        for _ in range(_ITERATIONS):
            by_frame, shared = (t.to(state.transl) for t in _joint_step(now, damping))
            trial = _moved(frozen, state, by_frame, shared, reference)
            energy = frozen.energy(trial).sum()
            fall = float(now.energy - energy)
            if fall > 0:
                state, damping = trial, max(damping / 5, 1e-8)
                now = _model(frozen, state, reference)
                if fall < 1e-6 * float(energy):
                    break
            else:
                damping *= 5
                if damping > 1e6:
                    break
    return objective.place(state), _covariance(now, objective.problem.views, reference).to(
        state.transl
    )


def _model(objective: ViewsObjective, state: State, reference: int) -> _Joint:
    found = objective.evaluate(state)
    sizes = objective.block_sizes
    views = sizes.pop("views") // _OF_VIEW
    own = sum(sizes.values())
    # the cameras are the small difference of large blocks: that takes all digits
    jacobian = torch.cat((found.data, found.prior), 1).double()
    gradient = found.gradient.double()
    motion = _camera_motion(objective.place(state)).double()
    held = [v for v in range(views) if v != reference]
    of_views = jacobian[..., own:].unflatten(-1, (views, _OF_VIEW))
    of_views = torch.einsum("frvi,fvij->frvj", of_views, motion)[:, :, held].flatten(2)
    of_body = jacobian[..., :own]
    by_views = gradient[:, own:].unflatten(-1, (views, _OF_VIEW))
    by_views = torch.einsum("fvi,fvij->vj", by_views, motion)[held].flatten()
    return _Joint(
        found.energy.sum(),
        of_body.transpose(-1, -2) @ of_body,
        of_body.transpose(-1, -2) @ of_views,
        torch.einsum("fri,frj->ij", of_views, of_views),
        gradient[:, :own],
        by_views,
    )


def _camera_motion(placed: Placed) -> Tensor:
    """(F, V, 6, 6): a frame's step of a view when its camera turns by w and its frame shifts by d.

    R' = exp(w) R and t' = exp(w) t + d; in a frame's step the body's place in the view is c and
    moves by D(c) s, and here it moves by w x c + d.
    """
    place = placed.rig.to_cameras(placed.transl[:, None])[..., 0, :]
    depth = place[..., 2]
    back = torch.zeros(*depth.shape, 3, 3, dtype=place.dtype)
    back[..., 0, 0] = back[..., 1, 1] = 1 / depth
    back[..., 2, 2] = 1 / depth
    back[..., 0, 2] = -place[..., 0] / depth**2
    back[..., 1, 2] = -place[..., 1] / depth**2
    eye = torch.eye(3, dtype=place.dtype).expand_as(back)
    top = torch.cat((eye, torch.zeros_like(eye)), -1)
    return torch.cat((top, torch.cat((-back @ skew(place), back), -1)), -2)


def _joint_step(model: _Joint, damping: float) -> tuple[Tensor, Tensor]:
    """Steps of the frames (F, P) and of the cameras (C,)."""
    factor, reduced, gradient = _eliminated(model, damping)
    shared = -torch.linalg.solve(reduced, gradient)
    rest = model.by_frames + (model.mixed @ shared)
    by_frame = -torch.cholesky_solve(rest[..., None], factor)[..., 0]
    return by_frame, shared


def _eliminated(model: _Joint, damping: float) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of the frames' blocks, and what is left for the cameras: matrix and gradient."""
    diagonal = model.of_frames.diagonal(dim1=-2, dim2=-1)
    least = 1e-6 * diagonal.amax(-1, keepdim=True) + 1e-9
    damped = model.of_frames + torch.diag_embed(damping * diagonal + least)
    factor = torch.linalg.cholesky(damped)
    solved = torch.cholesky_solve(model.mixed, factor)
    own = model.of_cameras + torch.diag(damping * model.of_cameras.diagonal() + 1e-9)
    reduced = own - torch.einsum("fpi,fpj->ij", model.mixed, solved)
    gradient = model.by_cameras - torch.einsum("fp,fpi->i", model.by_frames, solved)
    return factor, reduced, gradient


def _moved(
    objective: ViewsObjective, state: State, by_frame: Tensor, shared: Tensor, reference: int
) -> State:
    views = objective.problem.views
    still = torch.zeros(len(by_frame), _OF_VIEW * views, dtype=shared.dtype)
    placed = objective.place(objective.move(state, torch.cat((by_frame, still), -1)))
    step = torch.zeros(views, _OF_VIEW, dtype=shared.dtype)
    step[[v for v in range(views) if v != reference]] = shared.unflatten(0, (-1, _OF_VIEW))
    turn = retract(torch.eye(3, dtype=shared.dtype).expand(views, 3, 3), step[:, :3])
    rig = Rig(
        turn @ placed.rig.rotations,
        (turn @ placed.rig.translations[..., None])[..., 0] + step[:, 3:],
    )
    return Placed(placed.pose, placed.transl, rig).state()


def _covariance(model: _Joint, views: int, reference: int) -> Tensor:
    """(6 V, 6 V), zero for the reference."""
    _, reduced, _ = _eliminated(model, 0.0)
    held = [v for v in range(views) if v != reference]
    columns = torch.cat([_OF_VIEW * v + torch.arange(_OF_VIEW) for v in held])
    full = reduced.new_zeros(_OF_VIEW * views, _OF_VIEW * views)
    full[columns[:, None], columns] = torch.linalg.inv(reduced)
    return full
