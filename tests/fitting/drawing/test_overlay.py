"""The pictures show what they say they show."""

import cv2
import numpy as np
import pytest

from flowfit.fitting.drawing import overlay as module
from flowfit.fitting.drawing.overlay import (
    FIT,
    REGRESSION,
    blank,
    draw_keypoints,
    fit_picture,
    overlay,
    side_view,
    write_png,
)
from flowfit.fitting.drawing.render import Shape
from flowfit.models.errors import InputError
from tests.fitting.drawing.test_render import open_body, sphere

CAMERA = {"focal": (400.0, 400.0), "center": (160.0, 200.0)}


def paper_free(picture):
    """Mask of pixels that belong to a body: coloured, where the canvas is grey."""
    return np.ptp(picture.astype(int), axis=-1) > 12


def test_overlay_keeps_the_picture_outside_and_shines_through_inside():
    dark, light = np.zeros((400, 320, 3), np.uint8), np.full((400, 320, 3), 255, np.uint8)
    shapes = [sphere((0, 0, 2), 0.3, FIT)]
    over_dark, over_light = (overlay(p, shapes, **CAMERA) for p in (dark, light))
    assert not over_dark[:100].any()
    assert (over_light[:100] == 255).all()
    shine = over_light[200, 160].astype(int) - over_dark[200, 160]
    assert (shine > 20).all()
    assert (shine < 50).all()
    assert not dark.any()  # the argument is left alone


def test_keypoints_are_dots_where_they_should_be():
    points = np.array([[[50.5, 60.5], [200.5, 60.5], [np.nan, 3], [1e9, -1e12], [90, 90]]])
    sure = np.array([[1.0, 0.4, 1, 1, 0]])
    drawn = draw_keypoints(blank(320, 240), points, sure, [(0, 1), (0, 2), (0, 3), (3, 4)])
    changed = np.abs(drawn.astype(int) - blank(320, 240)).sum(-1) > 60
    assert tuple(drawn[60, 50]) == module._DOT
    assert tuple(drawn[60, 200]) == module._DOT
    assert changed[60, 125]  # the bone
    assert not changed[80:].any()  # absent and endless ones leave no trace
    rows, _ = np.nonzero(changed[:, :60])
    assert rows.mean() == pytest.approx(60, abs=0.3)
    apart = draw_keypoints(blank(1280, 960), points, sure) != blank(1280, 960)
    assert apart[:, :125].sum() > 1.3 * apart[:, 125:].sum()  # the surer dot is the larger


def test_dots_grow_with_the_picture():
    small, large = (
        (draw_keypoints(blank(n, n), np.full((1, 1, 2), n / 2)) != blank(n, n)).any(-1).sum()
        for n in (300, 1200)
    )
    assert large > 5 * small


def test_side_view_turns_the_camera_to_the_left():
    body = open_body((0.7, 0.2, 4.0), FIT)  # faces the camera
    picture = side_view([body], height=400)
    seen = paper_free(picture)
    rows, columns = np.nonzero(seen)
    height = rows.max() - rows.min()
    foot = columns[rows > rows.max() - 0.03 * height]
    ankle = columns[(rows > rows.max() - 0.1 * height) & (rows < rows.max() - 0.06 * height)]
    assert ankle.min() - foot.min() > foot.max() - ankle.max() + 5  # toes point to the left
    assert 0.8 * 400 < height < 400


def test_side_view_orders_bodies_by_depth_and_holds_them_whole():
    near, far = open_body((-1, 0, 3), FIT), open_body((1, -0.4, 9), REGRESSION)
    for width in (None, 150, 900):
        picture = side_view([near, far], height=300, width=width)
        seen = paper_free(picture)
        border = np.concatenate((seen[0], seen[-1], seen[:, 0], seen[:, -1]))
        assert not border.any()
        green = np.argwhere(seen & (picture[..., 1] > picture[..., 0].astype(int) + 10))
        pink = np.argwhere(seen & (picture[..., 0] > picture[..., 1].astype(int) + 10))
        assert green[:, 1].max() < pink[:, 1].min()
        if width:
            assert picture.shape == (300, width, 3)


def test_side_view_of_nothing_is_paper():
    assert (side_view([], height=100) == blank(50, 100)).all()


@pytest.mark.parametrize(
    ("size", "shown"),
    [((192, 153), (512, 408)), ((500, 400), (500, 400)), ((3200, 2000), (1600, 1000))],
)
def test_fit_picture_has_three_panels_at_a_useful_size(size, shown):
    height, width = size
    picture = np.full((height, width, 3), 128, np.uint8)
    scale = width / 300
    camera = {"focal": (300 * scale, 300 * scale), "center": (width / 2, height / 2)}
    ball = sphere((0.3, 0, 2), 0.2, FIT)
    points = np.array([[[0.25 * width, 0.5 * height]]])
    made = fit_picture(picture, [ball], keypoints=points, labels=("keypoints", "fit"), **camera)
    assert made.shape[0] == shown[0]
    gap = max(2, shown[0] // 128)
    assert (made[:, shown[1] : shown[1] + gap] == 255).all()
    first, second = made[:, : shown[1]], made[:, shown[1] + gap : 2 * shown[1] + gap]
    row, column = shown[0] // 2, round(0.25 * shown[1])
    assert tuple(first[row, column]) == tuple(second[row, column]) == module._DOT
    body = second[row, round((0.5 + 300 * 0.15 / 300) * shown[1])].astype(int)
    assert body[1] > body[0] + 10
    assert (first[row, round(0.65 * shown[1])] == 128).all()


def test_flat_picture_sizes_do_not_break():
    made = fit_picture(np.zeros((40, 2000, 3), np.uint8), [], (1000, 1000), (1000, 20))
    assert made.shape[0] == 32


def test_write_png_round_trip_and_errors(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert (cv2.imread(str(tmp_path / "a.png"))[..., ::-1] == picture).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match=r"cannot write .*missing") as caught:
        write_png(tmp_path / "missing" / "a.png", picture)
    assert "\n" not in str(caught.value)


def test_overlay_takes_vertex_colors():
    ball = sphere((0, 0, 2), 0.3)
    color = np.where(ball.vertices[:, 1:2] < 0, FIT, REGRESSION)
    made = overlay(blank(320, 400), [Shape(ball.vertices, ball.faces, color)], **CAMERA)
    top, bottom = made[170, 160].astype(int), made[230, 160].astype(int)
    assert top[1] > top[0]
    assert bottom[0] > bottom[1]
