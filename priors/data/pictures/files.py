"""Pictures of datasets, as numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flowfit.models.errors import InputError


def read_pixels(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8 RGB.

    Not turned as EXIF may say: the datasets were annotated on the pixels as they are stored.

    Raises:
        InputError: no such file, or no picture.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # an empty file, or one that only begins like a picture
        pixels = None
    if pixels is None:
        raise InputError(f"{path}: is no picture that can be read, or it is cut off")
    return np.ascontiguousarray(pixels[..., ::-1])
