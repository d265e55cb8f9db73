"""Read a picture file: turned upright, eight bits, RGB, and its focal length where EXIF has one.

Also the two helpers that every reader of outside files uses: `existing_file` and `problem`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from flowfit.models.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_MEGAPIXELS = 50
MIN_SIDE = 16  # pixels; nothing smaller shows a person
MIN_FIELD_OF_VIEW = 1.0  # degrees, over the diagonal; EXIF outside of these two is a mistake
MAX_FIELD_OF_VIEW = 150.0
FILM_DIAGONAL = math.hypot(36.0, 24.0)  # millimetres; what "35 mm equivalent" is measured against
MAX_MESSAGE = 290  # characters of an error line
MAX_SHOWN_PATH = 90  # characters of a path in it; of a longer one the end is shown

# what people keep photos in; others are left out because Pillow runs programs for some (EPS)
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "MPO")
_CONVERT = "convert it to JPEG or PNG"

# EXIF tags
_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_FOCAL_LENGTH = 37386  # millimetres
_FOCAL_LENGTH_35MM = 41989
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963
_FOCAL_PLANE_RESOLUTION = 41486  # pixels a unit
_FOCAL_PLANE_UNIT = 41488
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # in that unit; inches where none is given


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a person sees it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, turned as its EXIF orientation says.
        focal: focal length in pixels, or None when the file does not tell.
        path: where it came from.
    """

    pixels: np.ndarray
    focal: float | None
    path: Path

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])


def problem(where: str | os.PathLike[str], text: str) -> InputError:
    """An error about a file (or an argument) as one printable line of bounded length."""
    name = os.fspath(where)
    if len(name) > MAX_SHOWN_PATH:
        name = "..." + name[3 - MAX_SHOWN_PATH :]
    line = " ".join(f"{name}: {text}".split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return InputError(line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "...")


def existing_file(path: str | os.PathLike[str], wanted: str) -> Path:
    """The path, if something that can be read is there.

    Args:
        path: where to look.
        wanted: what the user should give, for the error text ("a picture").

    Raises:
        InputError: nothing is there, or a folder is.
    """
    found = Path(path)
    try:
        found.stat()
        folder = found.is_dir()
    except FileNotFoundError:
        raise problem(path, f"no such file; give the path of {wanted}") from None
    except (OSError, ValueError) as error:  # no permission, too long, a NUL in the name
        raise problem(path, f"cannot be opened ({_reason(error)}); check the path") from None
    if folder:
        raise problem(path, f"is a folder; give the path of {wanted}")
    return found


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read the (first) picture of a file.

    Orientation is applied, as OpenPose does, so that keypoints refer to the turned picture.
    Transparency is laid over white; 16-bit values are scaled, not clipped.

    Raises:
        InputError: no such file, not a picture, damaged, or of a size that cannot be used.
    """
    from PIL import Image, UnidentifiedImageError

    found = existing_file(path, "a picture")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # AVIF is not in every Pillow
    try:
        # Pillow warns of large pictures and of odd EXIF; sizes are judged here, EXIF is optional
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(found, formats=formats) as image:
                _check_size(path, image.width, image.height)
                focal = _focal(image)  # first: Pillow drops a TIFF's EXIF when it decodes
                image.load()
                pixels = _turn(_rgb(image), _orientation(image))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, f"is far larger than {MAX_MEGAPIXELS} megapixels") from None
    except UnidentifiedImageError:
        raise problem(path, f"is not a picture that can be read; {_CONVERT}") from None
    except PermissionError:
        raise problem(path, "may not be read (no permission); check its access rights") from None
    # a decoder meets arbitrary bytes: Pillow's plugins raise nearly every kind of error on them
    except Exception as error:
        raise problem(
            path,
            f"the picture is cut off or damaged ({_reason(error)}); copy it again or {_CONVERT}",
        ) from None
    return Picture(pixels, focal, found)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:80] or type(error).__name__


def _check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise _too_large(
            path,
            f"has {width}x{height} pixels, more than {MAX_MEGAPIXELS} megapixels",
        )
    if min(width, height) < MIN_SIDE:
        raise problem(
            path,
            f"has {width}x{height} pixels; give a picture of at least {MIN_SIDE} on each side",
        )


def _too_large(path: str | os.PathLike[str], size: str) -> InputError:
    return problem(
        path,
        f"{size}; scale the picture and its keypoints down, "
        "or give --image-size W H and only the keypoints file",
    )


def _rgb(image: Image.Image) -> np.ndarray:
    """Any of Pillow's modes as (H, W, 3) uint8; not yet turned."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        grey = _eight_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        return np.array(flat)
    # 16-bit colour is already here as its high byte: Pillow has no 16-bit colour mode
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Deep grey values (H, W) to uint8, white to white.

    16 bits are divided by 257. 32-bit integers hold 16 bits when Pillow read them from a PNG, and
    floats have no fixed white, so that their range decides: 1, 255, 65535 or the largest value.
    """
    if values.dtype.kind == "u":
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = finite.max()
    whites = (65535.0,) if values.dtype.kind == "i" else (1.0, 255.0, 65535.0)
    white = next((w for w in whites if largest <= w), largest)
    return np.clip(np.rint(finite * (255.0 / white)), 0, 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 when there is none that makes sense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # arbitrary bytes again; a picture with broken EXIF is still a picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What ImageOps.exif_transpose does; that one fails on EXIF it cannot write back."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _focal(image: Image.Image) -> float | None:
    """Focal length in pixels from EXIF, or None."""
    try:
        tags: Mapping[int, Any] = image.getexif().get_ifd(_EXIF_IFD)
    except Exception:  # as in _orientation
        return None
    long_side, short_side = max(image.size), min(image.size)
    diagonal = math.hypot(long_side, short_side)
    exif_sides = sorted(_positive(tags.get(tag)) or 0.0 for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
    whole = float(long_side)  # long side of the picture that the camera took
    if exif_sides[0] > 0:
        whole = exif_sides[1]
        if abs(exif_sides[0] / exif_sides[1] - short_side / long_side) > 0.02:
            return None  # cropped since: its focal length says nothing about this picture
    film = _positive(tags.get(_FOCAL_LENGTH_35MM))
    if film is not None:
        return _plausible(film / FILM_DIAGONAL * diagonal, diagonal)
    length = _positive(tags.get(_FOCAL_LENGTH))
    resolution = _positive(tags.get(_FOCAL_PLANE_RESOLUTION))
    unit = _MILLIMETRES.get(int(_positive(tags.get(_FOCAL_PLANE_UNIT, 2)) or 0))
    if length is None or resolution is None or unit is None:
        return None
    return _plausible(length * resolution / unit * (long_side / whole), diagonal)


def _positive(value: object) -> float | None:
    """A finite number above zero, else None; EXIF rationals may be 0/0 and fields anything."""
    try:
        number = float(cast(float, value))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _plausible(focal: float, diagonal: float) -> float | None:
    view = math.degrees(2 * math.atan2(diagonal / 2, focal))
    return focal if MIN_FIELD_OF_VIEW <= view <= MAX_FIELD_OF_VIEW else None
