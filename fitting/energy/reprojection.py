"""The robust loss of reprojection errors."""

from __future__ import annotations

from torch import Tensor


def geman_mcclure(squared: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """Geman-McClure's loss s^2 r^2 / (s^2 + r^2), which grows to s^2 and no further.

    Args:
        squared: r^2. scale: s, in the unit of r.

    Returns:
        The loss, and its derivative by r^2: the weight of iteratively reweighted least squares.
        (Its true second derivative is negative beyond s / sqrt 3 and is no use in a solver.)
    """
    ratio = scale * scale / (scale * scale + squared)
    return ratio * squared, ratio * ratio
