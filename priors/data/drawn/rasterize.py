"""A z-buffer for many small pictures at once, on whatever device the tensors are.

Every triangle is cut into the rows of pixels that it covers, every row into its pixels; what is
nearest stays. All triangles of all pictures are handled together, so the same few tensor operations
serve one core and a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.models.cameras import MIN_DEPTH

_EDGE = 1e-3  # pixels by which a triangle is widened, so that neighbours leave no gap
_FACE_BITS = 32


def rasterize(points: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What is seen in each pixel of square pictures.

    Triangles that face away, and those that reach nearer than `MIN_DEPTH`, are not drawn.

    Args:
        points: (B, V, 3) pixels x and y, and depth in metres.
        faces: (F, 3), counter-clockwise from outside. size: N of the pictures, pixels.

    Returns:
        The number of the face seen in each pixel (B, N, N), -1 where there is none; and the weights
        (B, N, N, 3) of its corners, correct in perspective, 0 where there is none.
    """
    count, triangles = len(points), len(faces)
    corners = points.index_select(1, faces.flatten()).view(count * triangles, 3, 3)
    x, y, depth = corners.unbind(-1)
    (x0, x1, x2), (y0, y1, y2) = x.unbind(-1), y.unbind(-1)
    doubled = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    top = (y.amin(-1) - 0.5).ceil().clamp(min=0)
    bottom = (y.amax(-1) - 0.5).floor().clamp(max=size - 1)
    drawn = (doubled < -1e-9) & (depth.amin(-1) > MIN_DEPTH) & (bottom >= top)
    drawn &= (x.amax(-1) > 0) & (x.amin(-1) < size)
    chosen = drawn.nonzero()[:, 0]
    corners, doubled = corners.index_select(0, chosen), doubled.index_select(0, chosen)
    top, bottom = top.index_select(0, chosen), bottom.index_select(0, chosen)
    x, y, inverse = corners[..., 0], corners[..., 1], 1 / corners[..., 2]

    # what is linear in the picture: the corners' weights, and the inverse depth
    slope_x = (y.roll(-1, 1) - y.roll(-2, 1)) / doubled[:, None]
    slope_y = (x.roll(-2, 1) - x.roll(-1, 1)) / doubled[:, None]
    here = (x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)) / doubled[:, None]
    linear = torch.stack((slope_x, slope_y, here), 1)  # (T, 3, 3 corners)
    nearness = (linear * inverse[:, None]).sum(-1)

    # rows of triangles: from where to where the edges let them reach
    of, place = _expand((bottom - top + 1).long())
    line = top.index_select(0, of) + place.to(top.dtype)
    along, down, here = linear.index_select(0, of).unbind(1)
    at = down * (line + 0.5)[:, None] + here
    crossing = -at / torch.where(along == 0, 1, along)
    low = torch.where(along > 0, crossing, -torch.inf).amax(-1)
    high = torch.where(along < 0, crossing, torch.inf).amin(-1)
    first = (low - 0.5 - _EDGE).ceil().clamp(min=0)
    last = (high - 0.5 + _EDGE).floor().clamp(max=size - 1)
    near_x, near_y, near_here = nearness.index_select(0, of).unbind(-1)
    near = near_x * (first + 0.5) + near_y * (line + 0.5) + near_here

    row, place = _expand((last - first + 1).clamp(min=0).long())
    step, begin = torch.stack((near_x, near), -1).index_select(0, row).unbind(-1)
    number = chosen.index_select(0, of)
    picture = torch.div(number, triangles, rounding_mode="floor")
    start = (picture * size + line.long()) * size + first.long()
    start, face = torch.stack((start, number - picture * triangles), -1).index_select(0, row).T
    # bits of positive floats are in the floats' order: what is nearest wins, then the later face
    key = (begin + step * place.to(step.dtype)).float().clamp(min=1e-6)
    key = (key.view(torch.int32).long() << _FACE_BITS) | face
    buffer = torch.full((count * size * size,), -1, dtype=torch.long, device=points.device)
    buffer.scatter_reduce_(0, start + place, key, "amax")
    seen = torch.where(buffer < 0, -1, buffer & ((1 << _FACE_BITS) - 1)).view(count, size, size)
    return seen, corner_weights(points, faces, seen)


def corner_weights(points: Tensor, faces: Tensor, seen: Tensor) -> Tensor:
    """Weights (B, N, N, 3) of the corners of the faces `seen` (B, N, N) at the pixels' middles."""
    size = seen.shape[-1]
    weights = points.new_zeros(seen.numel(), 3)
    flat = (seen.flatten() >= 0).nonzero()[:, 0]
    line = torch.div(flat, size, rounding_mode="floor")
    column, picture = flat - line * size, torch.div(line, size, rounding_mode="floor")
    numbers = faces.index_select(0, seen.flatten().index_select(0, flat))
    numbers = numbers + (picture * points.shape[1])[:, None]
    corners = points.flatten(0, 1).index_select(0, numbers.flatten()).view(-1, 3, 3)
    x = corners[..., 0] - (column.to(points.dtype) + 0.5)[:, None]
    y = corners[..., 1] - ((line - picture * size).to(points.dtype) + 0.5)[:, None]
    areas = x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)
    areas = areas / corners[..., 2]
    weights.index_copy_(0, flat, areas / areas.sum(-1, keepdim=True))
    return weights.view(*seen.shape, 3)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (3, 0, 2): owners (0, 0, 0, 2, 2) and places (0, 1, 2, 0, 1)."""
    owner = torch.repeat_interleave(counts)
    begin = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - begin.index_select(0, owner)
