"""What a recipe counts pixels in: the resolutions that published weights assume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem

_CROP, _CROP_MARGIN = 224.0, 1.2  # pixels of SPIN's input, and how much wider than the box it is
_LSP_PERSON = 150.0  # pixels: Leeds Sports Pose scaled its pictures to people of this length
_SIDE = 1000.0  # SMPLify-X and ProHMR weigh errors as in a picture of so many pixels


class Unit(NamedTuple):
    """The picture's pixels (B,) that one of `sigma` and one of `scale` are."""

    sigma: Tensor
    scale: Tensor


def _person(problem: FitProblem) -> Unit:
    return Unit(problem.unit, problem.unit)


def _of_side(problem: FitProblem, side: Tensor) -> Unit:
    sigma = (side / _SIDE).expand_as(problem.size)
    return Unit(sigma, torch.ones_like(problem.size))


def _picture(problem: FitProblem) -> Unit:
    return _of_side(problem, 2 * problem.camera.center.amax(-1))


def _height(problem: FitProblem) -> Unit:
    return _of_side(problem, 2 * problem.camera.center[..., 1])


def _crop(problem: FitProblem) -> Unit:
    pixel = _CROP_MARGIN * problem.size / _CROP
    return Unit(pixel, pixel)


def _lsp(problem: FitProblem) -> Unit:
    pixel = problem.size / _LSP_PERSON
    return Unit(pixel, pixel)


# person: the person's size. picture (ProHMR), height (SMPLify-X): sigma in thousandths of the
# longer side or of the height, scale in pixels. crop (SPIN): pixels of a 224 px crop around the
# box. lsp (SMPLify): pixels of a picture in which the box is 150 px long
UNITS: Mapping[str, Callable[[FitProblem], Unit]] = {
    "person": _person,
    "picture": _picture,
    "height": _height,
    "crop": _crop,
    "lsp": _lsp,
}
