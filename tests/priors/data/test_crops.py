import numpy as np
import pytest
import torch
from PIL import Image

from flowfit.models.errors import InputError
from flowfit.priors.data.pictures.crops import MARGIN, crop_box, cut, cut_turned, to_crop
from flowfit.priors.networks.encoders import Boxes


def dot(width, height, x, y, radius=4.0):
    """A white disc on black, its middle at pixel x, y."""
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inside = (across - x) ** 2 + (down - y) ** 2 <= radius**2
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, -1)


def middle_of(pixels):
    """Mean place of what is bright."""
    bright = pixels[..., 0].astype(float)
    across, down = np.meshgrid(*(np.arange(n) + 0.5 for n in bright.shape[::-1]))
    return np.array([(across * bright).sum(), (down * bright).sum()]) / bright.sum()


def test_the_box_is_the_square_of_the_seen_enlarged():
    keypoints = torch.tensor([[[10.0, 20], [50, 40], [900, 900]]])
    box = crop_box(keypoints, torch.tensor([[0.5, 0.2, 0.0]]))
    assert box.center.tolist() == [[30, 30]]
    assert box.side.item() == pytest.approx(40 * MARGIN)


@pytest.mark.parametrize("side", [40.0, 90.0, 333.0])
def test_a_place_in_the_picture_is_where_to_crop_says(side):
    picture = dot(200, 150, 93.5, 61.5)
    box = Boxes(torch.tensor([[88.3, 70.9]]), torch.tensor([side]))
    crop = cut(picture, box.center[0].numpy(), side, 64)
    wanted = to_crop(torch.tensor([[[93.5, 61.5]]]), box, 64)[0, 0].numpy()
    assert np.allclose(middle_of(crop), wanted, atol=0.08)


@pytest.mark.parametrize("degrees", [-70.0, 25.0, 180.0])
def test_turning_is_clockwise_about_the_middle(degrees):
    picture = dot(200, 150, 120.0, 60.0)
    crop = cut_turned(picture, (100.0, 70.0), 96.0, 96, degrees)
    angle = np.deg2rad(degrees)
    x, y = 20.0, -10.0
    wanted = 48 + np.array(
        [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y]
    )
    assert np.allclose(middle_of(crop), wanted, atol=0.15)


def test_shrinking_averages():
    """A checkerboard becomes grey, as in Pillow, and not a coarser pattern."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(board[..., None], 3, -1)
    crop = cut(picture, (128.0, 128.0), 200.0, 32)
    assert np.abs(crop.astype(int) - 128).max() <= 2
    random = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    mine = cut(random, (128.0, 128.0), 256.0, 32)[2:-2, 2:-2].astype(int)
    pillow = np.asarray(Image.fromarray(random).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(mine - pillow[2:-2, 2:-2]).max() <= 2


def test_outside_the_frame_is_black():
    white = np.full((50, 50, 3), 255, np.uint8)
    crop = cut(white, (0.0, 25.0), 100.0, 50)
    assert crop[:, :24].max() == 0
    assert crop[14:36, 26:48].min() == 255
    assert cut(white, (500.0, 25.0), 20.0, 8).max() == 0


@pytest.mark.parametrize("side", [0.0, -3.0, float("nan"), float("inf")])
def test_no_square_is_an_input_error(side):
    with pytest.raises(InputError, match="no square"):
        cut(np.zeros((9, 9, 3), np.uint8), (1.0, 1.0), side, 8)
