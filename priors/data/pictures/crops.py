"""The square of a picture that an image network is shown of a person.

Pixels as everywhere: the origin is the top left corner of the picture, so the middle of the first
pixel is (0.5, 0.5). A crop's pixel i then shows what lies at left + (i + 0.5) side / size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.priors.networks.encoders import Boxes, keypoint_boxes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MARGIN = 1.2  # the crop's side over that of the square around the keypoints
_DIAGONAL = 2**0.5


def crop_box(keypoints: Tensor, confidence: Tensor) -> Boxes:
    """Squares around the seen keypoints, enlarged by `MARGIN`.

    Args:
        keypoints: (B, K, 2) pixels. confidence: (B, K), 0 where not seen.

    Returns:
        Centre (B, 2) and side (B,) pixels. Somebody of whom nothing was seen gets a crop of about
        one pixel at the origin, as `keypoint_boxes` says.
    """
    box = keypoint_boxes(keypoints, confidence)
    return Boxes(box.center, MARGIN * box.side)


def to_crop(points: Tensor, box: Boxes, size: int) -> Tensor:
    """Pixels (B, K, 2) of the whole picture as pixels of the crops."""
    corner = box.center - box.side[:, None] / 2
    return (points - corner[:, None]) * (size / box.side)[:, None, None]


def ray(box: Boxes, camera: Camera) -> Tensor:
    """(B, 3) direction of the crop's middle, its depth 1."""
    plane = (box.center - camera.center) / camera.focal
    return torch.cat((plane, torch.ones_like(plane[:, :1])), -1)


def turn_to_crop(box: Boxes, camera: Camera) -> Tensor:
    """(B, 3, 3): from the frame of a camera that looks at the crop's middle to the picture's.

    Seen by such a camera, the same person looks the same wherever the crop lies.
    """
    ahead = torch.nn.functional.normalize(ray(box, camera), dim=-1)
    x, y, z = ahead.unbind(-1)
    # the shortest rotation from (0, 0, 1)
    share = 1 / (1 + z)
    rows = (
        *(1 - share * x * x, -share * x * y, x),
        *(-share * x * y, 1 - share * y * y, y),
        *(-x, -y, z),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def cut(
    picture: np.ndarray, center: tuple[float, float] | np.ndarray, side: float, size: int
) -> np.ndarray:
    """A square of a picture, scaled to `size` pixels.

    Every pixel is a weighted mean (a triangle as wide as two pixels of the crop) of all that it
    covers, so that fine patterns do not turn into coarse ones. Outside the frame is black.

    Args:
        picture: (H, W, 3) uint8. center: (2) pixels, x and y. side: of the square, pixels.
        size: of the crop, pixels.

    Returns:
        (size, size, 3) uint8.

    Raises:
        InputError: not such a picture, or a square of no extent.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(
            f"a picture has shape (height, width, 3) and type uint8, "
            f"not {picture.shape} and {picture.dtype}"
        )
    if not (np.isfinite(side) and side > 0 and np.isfinite(center).all()):
        raise InputError(f"a crop of side {side} around {tuple(center)} is no square")
    (across, columns), (down, rows) = (
        _weights(float(middle) - side / 2, side, size, length)
        for middle, length in zip(center, (picture.shape[1], picture.shape[0]), strict=True)
    )
    if not across.shape[1] or not down.shape[1]:  # wholly outside the frame
        return np.zeros((size, size, 3), np.uint8)
    part = picture[rows, columns].astype(np.float32)
    lines = (down @ part.reshape(len(part), -1)).reshape(size, -1, 3)
    pixels = across @ lines.transpose(1, 0, 2).reshape(lines.shape[1], -1)
    found = pixels.reshape(size, size, 3).transpose(1, 0, 2)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def cut_turned(
    picture: np.ndarray,
    center: tuple[float, float] | np.ndarray,
    side: float,
    size: int,
    degrees: float,
) -> np.ndarray:
    """`cut` of a picture that has been turned clockwise by `degrees` about the crop's centre."""
    if degrees == 0:
        return cut(picture, center, side, size)
    import cv2  # late, like scipy: they would make every fit start more slowly

    larger = int(np.ceil(_DIAGONAL * size)) + 2
    larger += (larger - size) % 2  # the same middle
    wide = cut(picture, center, side * larger / size, larger)
    # OpenCV counts from pixels' middles, and turns counter-clockwise
    middle = (larger / 2 - 0.5, larger / 2 - 0.5)
    turn = cv2.getRotationMatrix2D(middle, -degrees, 1.0)
    turned = cv2.warpAffine(wide, turn, (larger, larger), flags=cv2.INTER_LINEAR)
    edge = (larger - size) // 2
    return np.ascontiguousarray(turned[edge : edge + size, edge : edge + size])


def _weights(first: float, side: float, size: int, length: int) -> tuple[csr_array, slice]:
    """What each pixel of the crop takes from a line of `length` pixels, and which part of it.

    Weights of one pixel add up to 1 over an endless line; what the frame cuts off is black.
    """
    from scipy.sparse import csr_array

    step = side / size
    reach = max(step, 1.0)  # half the triangle's width, in the picture's pixels
    middles = first + (np.arange(size) + 0.5) * step
    low = np.floor(middles - reach - 0.5).astype(np.int64)
    offsets = np.arange(int(np.ceil(2 * reach)) + 3)
    source = low[:, None] + offsets
    weight = np.clip(1 - np.abs(source + 0.5 - middles[:, None]) / reach, 0, None)
    weight = weight / weight.sum(1, keepdims=True)
    inside = (source >= 0) & (source < length) & (weight > 0)
    if not inside.any():
        return csr_array((size, 0), dtype=np.float32), slice(0, 0)
    start, stop = int(source[inside].min()), int(source[inside].max()) + 1
    row = np.broadcast_to(np.arange(size)[:, None], source.shape)[inside]
    entries = (weight[inside].astype(np.float32), (row, source[inside] - start))
    return csr_array(entries, shape=(size, stop - start)), slice(start, stop)
