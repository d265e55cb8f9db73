"""What is behind and in front of made-up people: smooth noise, gradients, shapes, walls and floors.

No picture from outside is used. All on the tensors' device, batched, repeatable by the generator.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_SHAPES = 7  # behind a person, at most


def _uniform(count: int, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=generator, device=generator.device)


def _grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """X and y of the pixels' middles, (N, N) each, -1 to 1."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    return line[None].expand(size, -1), line[:, None].expand(-1, size)


@cache
def _between(size: int, cells: int, device: torch.device) -> Tensor:
    """(N, cells): the weights of the cells in each pixel, linear between their middles."""
    at = (torch.arange(size, device=device) + 0.5) * (cells / size) - 0.5
    distance = at.clamp(0, cells - 1)[:, None] - torch.arange(cells, device=device)
    return (1 - distance.abs()).clamp(min=0)


def smooth_noise(count: int, size: int, cells: int, generator: torch.Generator) -> Tensor:
    """(B, 3, N, N) random colours on a grid of so many cells, 0 to 1, smooth between them."""
    coarse = _uniform(count, generator, 3, cells, cells)
    between = _between(size, cells, generator.device)  # products: faster than interpolate
    return between @ coarse @ between.T


def _colour(count: int, generator: torch.Generator) -> Tensor:
    """(B, 3, 1, 1): anything from grey to bright."""
    grey = _uniform(count, generator, 1)
    colour = torch.lerp(
        _uniform(count, generator, 3), _uniform(count, generator, 1).expand(-1, 3), grey
    )
    return colour[:, :, None, None]


def texture(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(B, 3, N, N): a colour, or two that blend, under noise of several sizes."""
    x, y = _grid(size, generator.device)
    angle = 2 * math.pi * _uniform(count, generator, 1, 1, 1)
    ramp = (0.5 + 0.5 * (x * angle.cos() + y * angle.sin())).clamp(0, 1)
    made = torch.lerp(_colour(count, generator), _colour(count, generator), ramp)
    for cells in (4, 12, 40):
        strength = 0.44 * _uniform(count, generator, 1, 1, 1) ** 2
        noise = smooth_noise(count, size, cells, generator).sub_(0.5)
        made.addcmul_(noise, strength)
    return made.clamp(0, 1)


def shape_mask(
    count: int, size: int, generator: torch.Generator, reach: tuple[float, float]
) -> Tensor:
    """(B, 1, N, N) boolean: an ellipse, a box or a bar somewhere, turned somehow.

    Args:
        reach: range of the half sides, in half picture sides.
    """
    x, y = _grid(size, generator.device)

    def rand() -> Tensor:
        return _uniform(count, generator, 1, 1)

    angle = math.pi * rand()
    dx, dy = x - (2.4 * rand() - 1.2), y - (2.4 * rand() - 1.2)
    low, high = reach
    wide, tall = low + (high - low) * rand(), low + (high - low) * rand()
    wide = torch.where(rand() < 0.15, 4.0, wide)  # a bar across the picture
    u = (dx * angle.cos() + dy * angle.sin()) / wide
    v = (dy * angle.cos() - dx * angle.sin()) / tall
    ellipse = u * u + v * v < 1
    box = torch.maximum(u.abs(), v.abs()) < 1
    return torch.where(rand() < 0.5, ellipse, box)[:, None]


def backdrop(count: int, size: int, generator: torch.Generator) -> Tensor:
    """What stands behind people, (B, 3, N, N), 0 to 1: a wall, often a floor, and things."""
    made = texture(count, size, generator)
    _, y = _grid(size, generator.device)
    x, _ = _grid(size, generator.device)
    slope = 0.3 * (_uniform(count, generator, 1, 1, 1) - 0.5)
    horizon = 1.6 * _uniform(count, generator, 1, 1, 1) - 0.6
    floor = (y + slope * x > horizon) & (_uniform(count, generator, 1, 1, 1) < 0.7)
    made = torch.where(floor, texture(count, size, generator), made)
    for number in range(_SHAPES):
        there = _uniform(count, generator, 1, 1, 1) < 0.75 - 0.07 * number
        rows = there[:, 0, 0, 0].nonzero()[:, 0]
        if not len(rows):
            continue
        mask = shape_mask(len(rows), size, generator, (0.05, 0.6))
        thing = torch.lerp(
            _colour(len(rows), generator),
            smooth_noise(len(rows), size, 6, generator),
            0.5 * _uniform(len(rows), generator, 1, 1, 1),
        )
        made[rows] = torch.where(mask, thing, made[rows])
    return made


def occluders(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Something in front of a person: (B, 3, N, N) colours and the (B, 1, N, N) boolean mask."""
    mask = shape_mask(count, size, generator, (0.08, 0.45))
    return texture(count, size, generator), mask


def as_a_camera_sees(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Exposure, colour cast, contrast, blur and noise on (B, 3, N, N), 0 to 1."""
    count, size = len(pictures), pictures.shape[-1]

    def rand(*shape: int) -> Tensor:
        return _uniform(count, generator, *shape)

    small = -(-size // 2)
    between = _between(size, small, pictures.device)
    blurred = between @ avg_pool2d(pictures, 2, ceil_mode=True) @ between.T
    pictures = torch.lerp(pictures, blurred, (1.6 * rand(1, 1, 1) - 0.6).clamp(0, 1))
    gain = 0.7 + 0.6 * rand(1, 1, 1) + 0.12 * (rand(3, 1, 1) - 0.5)
    contrast = 0.75 + 0.5 * rand(1, 1, 1)
    pictures = (pictures * gain - 0.5) * contrast + 0.5 + 0.1 * (rand(1, 1, 1) - 0.5)
    grey = (rand(1, 1, 1) < 0.06).to(pictures.dtype)
    pictures = torch.lerp(pictures, pictures.mean(1, keepdim=True), grey)
    noise = torch.randn(pictures.shape, generator=generator, device=pictures.device)
    return (pictures + 0.05 * rand(1, 1, 1) ** 2 * noise).clamp(0, 1)
