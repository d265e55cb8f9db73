from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from flowfit.fitting.reading import pictures
from flowfit.fitting.reading.pictures import read_picture
from flowfit.models.errors import InputError

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
EXIF_IFD = 0x8769


def refused(path: object) -> str:
    """The error line for a path, checked for what every such line must be."""
    with pytest.raises(InputError) as caught:
        read_picture(path)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line.isprintable()  # so it is one line, too
    assert len(line) < 300
    assert Path(str(path)).name[-40:] in line
    return line


def colours(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exif_of(tags: dict[int, object], main: dict[int, object] | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(main or {0x0112: 1})  # Pillow writes none whose main part is empty
    exif.get_ifd(EXIF_IFD).update(tags)
    exif[EXIF_IFD] = tags  # its TIFF writer wants to see the part named
    return exif


def saved(tmp_path: Path, image: Image.Image, name: str = "a.png", **how: object) -> Path:
    path = tmp_path / name
    image.save(path, **how)  # type: ignore[arg-type]
    return path


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour. values (H, W, 1 or 3) uint16."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds nothing: decoding it would fail."""
    small = png16(np.zeros((16, 16, 1), np.uint16))
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return small[:12] + body + struct.pack(">I", zlib.crc32(body)) + small[33:]


# --- pictures that can be read ---


def test_colour_is_kept_exactly(tmp_path: Path) -> None:
    picture = read_picture(saved(tmp_path, Image.fromarray(colours())))
    assert np.array_equal(picture.pixels, colours())
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    assert (picture.width, picture.height) == (32, 24)
    assert picture.focal is None
    assert picture.path == tmp_path / "a.png"


@pytest.mark.parametrize("name", ["camera.png", "astronaut.png"])
def test_examples(name: str) -> None:
    picture = read_picture(EXAMPLES / name)
    assert picture.pixels.shape == (512, 512, 3)
    assert picture.focal is None


def test_path_may_be_text(tmp_path: Path) -> None:
    assert read_picture(str(saved(tmp_path, Image.fromarray(colours())))).width == 32


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "JPEG2000"])
def test_formats_whatever_the_file_is_called(tmp_path: Path, fmt: str) -> None:
    grey = Image.new("RGB", (32, 24), (90, 90, 90))
    pixels = read_picture(saved(tmp_path, grey, "picture.dat", format=fmt)).pixels
    assert np.abs(pixels.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow(tmp_path: Path, name: str, orientation: int) -> None:
    blocks = np.repeat(np.repeat(colours(3, 4), 8, axis=0), 8, axis=1)
    path = saved(tmp_path, Image.fromarray(blocks), name, exif=exif_of({}, {0x0112: orientation}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = read_picture(path)
    assert np.array_equal(picture.pixels, expected)
    assert (picture.width, picture.height) == ((24, 32) if orientation >= 5 else (32, 24))


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_senseless_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    exif = exif_of({}, {0x0112: orientation})
    path = saved(tmp_path, Image.fromarray(colours()), exif=exif)
    assert np.array_equal(read_picture(path).pixels, colours())


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    image = Image.fromarray(colours())
    for junk in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 60):
        path = saved(tmp_path, image, "a.jpg", exif=junk)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = read_picture(path)
        assert picture.pixels.shape == (24, 32, 3)
        assert picture.focal is None


DEEP = np.linspace(0, 65535, 24 * 32).round().astype(np.uint16).reshape(24, 32)
SCALED = np.repeat(np.rint(DEEP / 257).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_scaled(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, Image.fromarray(DEEP), name)
    assert np.array_equal(read_picture(path).pixels, SCALED)


def test_sixteen_bit_grey_is_turned(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(DEEP), exif=exif_of({}, {0x0112: 6}))
    assert np.array_equal(read_picture(path).pixels, np.rot90(SCALED, -1))


def test_dark_sixteen_bit_grey_stays_dark(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.full((20, 20), 514, np.uint16)))
    assert (read_picture(path).pixels == 2).all()


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png16(np.stack((DEEP, DEEP[::-1], DEEP[:, ::-1]), axis=-1)))
    pixels = read_picture(path).pixels.astype(int)
    assert np.abs(pixels[..., 0] - SCALED[..., 0]).max() <= 1
    assert np.abs(pixels[..., 1] - SCALED[::-1, :, 0]).max() <= 1


def test_integers_and_floats(tmp_path: Path) -> None:
    whole = Image.fromarray(DEEP.astype(np.int32))
    assert np.array_equal(read_picture(saved(tmp_path, whole, "i.tif")).pixels, SCALED)
    huge = Image.fromarray(DEEP.astype(np.int32) * 1000)
    assert np.array_equal(read_picture(saved(tmp_path, huge, "h.tif")).pixels, SCALED)
    negative = Image.fromarray(np.full((20, 20), -5, np.int32))
    assert (read_picture(saved(tmp_path, negative, "n.tif")).pixels == 0).all()
    for white in (1.0, 255.0, 65535.0, 1e6):
        deep = (DEEP * (white / 65535)).astype(np.float32)
        close = read_picture(saved(tmp_path, Image.fromarray(deep), "f.tif")).pixels.astype(int)
        assert np.abs(close - SCALED).max() <= 1


def test_nan_in_floats_is_black(tmp_path: Path) -> None:
    values = np.full((20, 20), 0.5, np.float32)
    values[0] = (np.nan, np.inf) * 10
    pixels = read_picture(saved(tmp_path, Image.fromarray(values), "f.tif")).pixels
    assert (pixels[0] == 0).all()
    assert (pixels[1:] == 128).all()


def test_grey_palette_and_bits(tmp_path: Path) -> None:
    colour = Image.fromarray(colours())
    for mode in ("L", "P", "1"):
        image = colour.convert(mode)
        pixels = read_picture(saved(tmp_path, image)).pixels
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (20, 20), (200, 0, 0, 128))
    expected = [round(200 * 128 / 255 + 127), 127, 127]
    assert np.abs(read_picture(saved(tmp_path, half)).pixels[5, 5] - np.array(expected)).max() <= 1
    clear = Image.new("LA", (20, 20), (0, 0))
    assert (read_picture(saved(tmp_path, clear)).pixels == 255).all()
    palette = Image.new("P", (20, 20), 3)
    palette.putpalette([10, 20, 30] * 256)
    path = saved(tmp_path, palette, transparency=3)
    assert (read_picture(path).pixels == 255).all()
    keyed = saved(tmp_path, Image.new("RGB", (20, 20), (1, 2, 3)), transparency=(1, 2, 3))
    assert (read_picture(keyed).pixels == 255).all()


def test_cmyk(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # red
    for name in ("a.tif", "a.jpg"):  # Pillow writes Adobe-inverted JPEG
        red = read_picture(saved(tmp_path, ink, name)).pixels[8, 8].astype(int)
        assert red[0] > 240
        assert red[1:].max() < 15


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (20, 20), c) for c in ("red", "blue"))
    how = {"lossless": True} if name.endswith("webp") else {}
    path = saved(tmp_path, first, name, save_all=True, append_images=[second], **how)
    assert tuple(read_picture(path).pixels[3, 3]) == (255, 0, 0)


# --- refused ---


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.jpg")
    assert "is a folder" in refused(tmp_path)
    with pytest.raises(InputError, match=r"a\?b.jpg: cannot be opened"):
        read_picture("a\0b.jpg")
    assert "cannot be opened" in refused("x" * 5000)
    assert "is not a picture" in refused("/dev/null")


def test_odd_names_stay_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "two\nlines\x1b[31m.jpg")
    assert str(caught.value).isprintable()
    deep = tmp_path / ("long" * 50) / "picture.jpg"
    assert "picture.jpg" in refused(deep)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b'{"people": []}', b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"],
)
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    line = refused(path)
    assert "not a picture" in line
    assert "convert" in line


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.gif"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated(tmp_path: Path, name: str, part: float) -> None:
    path = saved(tmp_path, Image.fromarray(colours(64, 64)), name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert "cut off or damaged" in refused(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_size_limits(tmp_path: Path) -> None:
    side = pictures.MIN_SIDE
    assert read_picture(saved(tmp_path, Image.new("L", (side, side)))).width == side
    line = refused(saved(tmp_path, Image.new("L", (500, side - 1)), "thin.png"))
    assert "500x15 pixels" in line
    assert "16" in line


@pytest.mark.parametrize(("width", "height"), [(10_001, 5_000), (10_000, 10_000), (30_000, 30_000)])
@pytest.mark.parametrize("strict", [False, True])
def test_too_many_megapixels(tmp_path: Path, width: int, height: int, strict: bool) -> None:
    path = tmp_path / "poster.png"
    path.write_bytes(png_header(width, height))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("error" if strict else "always")
        line = refused(path)
    assert not seen
    assert "50 megapixels" in line
    assert "--image-size W H" in line
    assert "scale the picture and its keypoints down" in line


def test_fifty_megapixels_pass_the_size_check(tmp_path: Path) -> None:
    path = tmp_path / "poster.png"
    path.write_bytes(png_header(10_000, 5_000))
    assert "cut off or damaged" in refused(path)  # it went on to decode


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.sampled_from(["a.jpg", "a.png", "a.tif", "a.gif", "a.webp"]))
def test_mutated_files_raise_nothing_else(tmp_path: Path, data: st.DataObject, name: str) -> None:
    buffer = io.BytesIO()
    fmt = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
    Image.fromarray(colours()).save(buffer, fmt, exif=exif_of({41989: 28}, {0x0112: 6}))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    line = ""
    try:
        picture = read_picture(path)
    except InputError as error:
        line = str(error)
    else:
        assert picture.pixels.ndim == 3
        assert picture.focal is None or math.isfinite(picture.focal)
    assert line.isprintable()
    assert len(line) < 300


# --- focal length ---

DIAGONAL = math.hypot(320, 240)


def focal_of(tmp_path: Path, tags: dict[int, object], name: str = "a.jpg") -> float | None:
    path = saved(tmp_path, Image.new("L", (320, 240)), name, exif=exif_of(tags))
    return read_picture(path).focal


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_focal_from_35mm_equivalent(tmp_path: Path, name: str) -> None:
    assert focal_of(tmp_path, {41989: 28}, name) == pytest.approx(28 / 43.2666 * DIAGONAL, rel=1e-5)


def test_focal_survives_turning(tmp_path: Path) -> None:
    exif = exif_of({41989: 28}, {0x0112: 6})
    picture = read_picture(saved(tmp_path, Image.new("L", (320, 240)), "a.jpg", exif=exif))
    assert (picture.width, picture.height) == (240, 320)
    assert picture.focal == pytest.approx(28 / 43.2666 * DIAGONAL, rel=1e-5)


@pytest.mark.parametrize(
    ("unit", "resolution"),
    [({}, 254.0), ({41488: 2}, 254.0), ({41488: 3}, 100.0), ({41488: 4}, 10.0)],
)
def test_focal_from_focal_plane(tmp_path: Path, unit: dict[int, object], resolution: float) -> None:
    tags = {37386: 35.0, 41486: resolution, **unit}
    assert focal_of(tmp_path, tags) == pytest.approx(350.0, rel=1e-5)
    scaled = {**tags, 40962: 640, 40963: 480}  # the camera took twice the size
    assert focal_of(tmp_path, scaled) == pytest.approx(175.0, rel=1e-5)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {41989: 0},
        {41989: 1},  # wider than 150 degrees
        {41989: 60_000},  # narrower than 1 degree
        {37386: 35.0},  # of which sensor?
        {37386: 35.0, 41486: 0.0},
        {37386: 0.0, 41486: 100.0},
        {37386: 35.0, 41486: 100.0, 41488: 1},
        {37386: TiffImagePlugin.IFDRational(0, 0), 41486: 100.0},
        {37386: TiffImagePlugin.IFDRational(1, 0), 41486: 100.0},
        {41989: "wide"},
        {41989: (28, 28)},
        {41989: 28, 40962: 640, 40963: 640},  # cropped since
    ],
)
def test_absurd_focal_is_ignored(tmp_path: Path, tags: dict[int, object]) -> None:
    assert focal_of(tmp_path, tags) is None


def test_focal_35mm_zero_leaves_the_other_way(tmp_path: Path) -> None:
    tags = {41989: 0, 37386: 35.0, 41486: 10.0, 41488: 4}
    assert focal_of(tmp_path, tags) == pytest.approx(350.0, rel=1e-5)
