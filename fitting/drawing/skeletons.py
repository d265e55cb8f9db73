"""A lifted skeleton from three sides: as the camera sees it, from the side, and from above."""

from __future__ import annotations

import numpy as np

from flowfit.fitting.drawing.overlay import PAPER, blank, draw_keypoints, write_label
from flowfit.models.keypoints import KeypointSchema
from flowfit.priors.lifting.input import JOINTS, ROOT

PANEL = 512  # pixels, the side of a view
_LEFT, _RIGHT, _MIDDLE = (54, 112, 184), (206, 92, 52), (70, 74, 80)
_GRID = (228, 229, 230)
_STEP = 0.5  # metres between grid lines
_REACH = 0.6  # metres from the middle to a view's edge, at least
_MARGIN = 1.3
_SAMPLES_DRAWN = 40
_FAINT = 0.16
_FINE = 2  # drawn so many times larger
_SUBPIXEL = 4  # binary digits of a pixel that cv2's drawing takes
_CROP = 1.35  # of the person's box
# what goes right and down in each view: camera axes with their signs
_VIEWS = {
    "from the camera": ((0, 1.0), (1, 1.0)),
    "from the side": ((2, 1.0), (1, 1.0)),
    "from above": ((0, 1.0), (2, -1.0)),
}


def person_picture(
    joints: np.ndarray,
    samples: np.ndarray,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    schema: KeypointSchema,
    picture: np.ndarray | None,
) -> np.ndarray:
    """What was seen, and the skeleton from three sides with its samples faint behind it.

    Args:
        joints: (17, 3) metres, camera axes. samples: (n, 17, 3); the first of them are drawn.
        keypoints: (K, 2) pixels. confidence: (K,). schema: of them.
        picture: (H, W, 3) uint8, or None for paper.

    Returns:
        (H, W, 3) uint8. Left limbs are blue, right ones orange. From the side, who looks at the
        camera looks to the left edge; from above, the camera is at the lower edge. Grid lines are
        half a metre apart.
    """
    panels = [seen_panel(keypoints, confidence, schema, picture)]
    reach = view_reach(joints)
    for name, axes in _VIEWS.items():
        panel = view(joints, samples, axes, reach)
        write_label(panel, name)
        panels.append(panel)
    gap = np.full((PANEL, 4, 3), 255, np.uint8)
    row = [panels[0]]
    for panel in panels[1:]:
        row += [gap, panel]
    return np.hstack(row)


def seen_panel(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    schema: KeypointSchema,
    picture: np.ndarray | None,
) -> np.ndarray:
    """A square around the person with the keypoints."""
    import cv2

    seen = keypoints[confidence > 0]
    low, high = seen.min(0), seen.max(0)
    side = max(1.0, _CROP * float((high - low).max()))
    corner = (low + high) / 2 - side / 2
    scale = PANEL / side
    panel = blank(PANEL, PANEL)
    if picture is not None:
        to_panel = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
        size = (PANEL, PANEL)
        panel = cv2.warpAffine(
            np.ascontiguousarray(picture), to_panel, size, borderValue=PAPER, flags=cv2.INTER_AREA
        )
    moved = (keypoints - corner) * scale
    panel = draw_keypoints(panel, moved[None], confidence[None], schema.edge_indices)
    write_label(panel, "seen")
    return panel


def view_reach(joints: np.ndarray) -> float:
    """Metres from the middle of a view to its edge: the same in all of them."""
    span = (joints.max(0) - joints.min(0)).max() / 2
    return max(_REACH, _MARGIN * float(span))


def view(
    joints: np.ndarray,
    samples: np.ndarray,
    axes: tuple[tuple[int, float], tuple[int, float]],
    reach: float,
) -> np.ndarray:
    """The skeleton without perspective, samples behind it. (PANEL, PANEL, 3) uint8."""
    import cv2

    drawn = samples[:_SAMPLES_DRAWN]
    middle = (joints.min(0) + joints.max(0)) / 2
    side = PANEL * _FINE
    scale = side / (2 * reach)

    def place(points: np.ndarray) -> np.ndarray:
        flat = np.stack([sign * (points - middle)[..., axis] for axis, sign in axes], -1)
        return flat * scale + side / 2

    canvas = blank(side, side)
    root = place(joints[JOINTS.index(ROOT)])
    for step in np.arange(-20, 21) * _STEP * scale:
        column, line = (round(float(c + step)) for c in root)
        if 0 <= column < side:
            canvas[:, max(0, column - 1) : column + 1] = _GRID
        if 0 <= line < side:
            canvas[max(0, line - 1) : line + 1] = _GRID
    for sample in drawn:
        layer = canvas.copy()
        _bones(layer, place(sample), _FINE)
        canvas = cv2.addWeighted(layer, _FAINT, canvas, 1 - _FAINT, 0)
    _bones(canvas, place(joints), 3 * _FINE)
    for point, name in zip(place(joints), JOINTS.names, strict=True):
        spot = np.round(point * 2**_SUBPIXEL).astype(int).tolist()
        radius = round(3.2 * _FINE * 2**_SUBPIXEL)
        cv2.circle(canvas, spot, radius, _color(name, name), -1, cv2.LINE_AA, _SUBPIXEL)
    return cv2.resize(canvas, (PANEL, PANEL), interpolation=cv2.INTER_AREA)


def _bones(canvas: np.ndarray, points: np.ndarray, thickness: int) -> None:
    import cv2

    grid = np.round(points * 2**_SUBPIXEL).astype(int).tolist()
    for (one, two), (a, b) in zip(JOINTS.edges, JOINTS.edge_indices, strict=True):
        cv2.line(canvas, grid[a], grid[b], _color(one, two), thickness, cv2.LINE_AA, _SUBPIXEL)


def _color(one: str, two: str) -> tuple[int, int, int]:
    """Of a bone between two joints: that of its limb's side."""
    sides = {name[0] for name in (one, two) if name[0] in "LR"}
    return {"L": _LEFT, "R": _RIGHT}.get("".join(sides), _MIDDLE)
