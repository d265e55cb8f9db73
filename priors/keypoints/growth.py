"""Larger posteriors from smaller ones, which say the same until they are trained."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.priors.keypoints.posterior import KeypointPosterior

_BLOCKS, _ENTER = "encoder.blocks.", "encoder.enter.weight"


def grown(small: KeypointPosterior, large: KeypointPosterior) -> dict[str, Tensor]:
    """The state of a posterior of the large one's sizes that says what the small one says.

    The large one may have more betas, more blocks in its encoder, and hear what is known beside
    the keypoints. Its further betas are N(0, 1), and nothing depends on them; its further blocks
    add nothing; what it hears changes nothing. Whatever else differs in size stays as it is in the
    small one, and then does not fit.
    """
    state = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    wanted = large.state_dict()
    for name, tensor in wanted.items():
        if name.startswith(_BLOCKS) and name not in state:
            last = ".second." in name  # what a block adds to its input
            state[name] = torch.zeros_like(tensor) if last else tensor.clone()
    if _more(state[_ENTER], wanted[_ENTER], 1):
        state[_ENTER] = _padded(state[_ENTER], wanted[_ENTER].shape)
    if large.num_betas > small.num_betas:
        _grow_flow(state, small, large)
    return state


def _grow_flow(
    state: dict[str, Tensor], small: KeypointPosterior, large: KeypointPosterior
) -> None:
    """Further numbers at the vector's end: no layer mixes them with the others."""
    wanted = large.state_dict()
    before, after = small.flow.features, large.flow.features
    for place, (_, linear, coupling) in enumerate(small.flow.steps):
        prefix = f"flow._transform._transforms.{3 * place}."
        for name in (f"{prefix}log_scale", f"{prefix}shift"):
            state[name] = _padded(state[name], wanted[name].shape)
        prefix = f"flow._transform._transforms.{3 * place + 1}."
        lower, upper = linear._create_lower_upper()
        mixed = torch.eye(after, dtype=lower.dtype)
        mixed[:before, :before] = lower
        rows, columns = (t.numpy() for t in torch.tril_indices(after, after, -1))
        state[f"{prefix}lower_entries"] = mixed[rows, columns]
        mixed = torch.eye(after, dtype=upper.dtype)
        mixed[:before, :before] = upper
        rows, columns = (t.numpy() for t in torch.triu_indices(after, after, 1))
        state[f"{prefix}upper_entries"] = mixed[rows, columns]
        diagonal = state[f"{prefix}unconstrained_upper_diag"]
        one = torch.log(torch.expm1(torch.tensor(1.0 - linear.eps)))  # softplus of it, and eps: 1
        further = one.to(diagonal).expand(after - before)
        state[f"{prefix}unconstrained_upper_diag"] = torch.cat((diagonal, further))
        state[f"{prefix}bias"] = _padded(state[f"{prefix}bias"], (after,))
        prefix = f"flow._transform._transforms.{3 * place + 2}."
        for name in list(state):
            if not name.startswith(prefix) or state[name].shape == wanted[name].shape:
                continue
            if name.endswith("initial_layer.weight"):  # [kept half, condition]
                kept = coupling.transform_net.kept
                added = wanted[name].shape[1] - state[name].shape[1]
                weight = state[name]
                none = weight.new_zeros(len(weight), added)
                state[name] = torch.cat((weight[:, :kept], none, weight[:, kept:]), 1)
            elif name.endswith(("final_layer.weight", "final_layer.bias")):
                state[name] = _padded(state[name], wanted[name].shape)
            else:
                state[name] = wanted[name].clone()  # which numbers are kept, and which shifted
    for name in ("flow.log_scale.weight", "flow.log_scale.bias"):
        if name in state:
            state[name] = _padded(state[name], wanted[name].shape)


def _more(small: Tensor, large: Tensor, axis: int) -> bool:
    return large.shape[axis] > small.shape[axis]


def _padded(tensor: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Zeros after each axis, up to the shape."""
    if any(have > want for have, want in zip(tensor.shape, shape, strict=True)):
        return tensor
    larger = tensor.new_zeros(shape)
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger
