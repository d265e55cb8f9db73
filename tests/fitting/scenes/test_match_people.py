"""Who is who in several views."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flowfit.fitting.reading.arrays import read_arrays
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.scenes.camera_files import SceneCameras
from flowfit.fitting.scenes.match_people import Seen, match_people, people_of
from flowfit.fitting.scenes.scene import read_scene
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig
from flowfit.models.rotations import axis_angle_to_matrix

SIZE = (1000, 800)
LENS = (-0.2, 0.08, 0.001, -0.001, 0.0)


def ring(views: int) -> SceneCameras:
    """Cameras around the origin, 5 m off and level; the world's y is down."""
    angles = [0.3 + 2 * math.pi * v / views + 0.2 * v for v in range(views)]
    turns = axis_angle_to_matrix(torch.tensor([[0.0, a, 0.0] for a in angles], dtype=torch.float64))
    shifts = torch.tensor([0.0, 0.2, 5.0], dtype=torch.float64).expand(views, 3)
    lens = Camera(
        torch.full((views, 2), 700.0, dtype=torch.float64),
        torch.tensor(SIZE, dtype=torch.float64).expand(views, 2) / 2,
        torch.tensor(LENS, dtype=torch.float64).expand(views, 5),
    )
    return SceneCameras(
        tuple(f"v{n}" for n in range(views)), lens, Rig(turns, shifts), (SIZE,) * views, None
    )


def crowd(body: Body, people: int, seed: int) -> torch.Tensor:
    """Keypoints (P, 25, 3) of people who stand about, some 80 cm apart."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(people, *shape, generator=generator, dtype=torch.float64)

    rotations = axis_angle_to_matrix(0.2 * normal(24, 3))
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    yaw = torch.zeros(people, 3, dtype=torch.float64)
    yaw[:, 1] = 3 * normal()
    rotations[:, 0] = upright @ axis_angle_to_matrix(yaw)
    angle = 2 * math.pi * torch.arange(people, dtype=torch.float64) / people
    places = torch.stack((angle.cos(), torch.zeros_like(angle), angle.sin()), -1)
    return body.keypoints(normal(10), rotations, BODY25, 0.8 * places + 0.1 * normal(3))


def see(
    points: torch.Tensor, cameras: SceneCameras, rng: np.random.Generator, noise: float
) -> tuple[dict[str, Detections], list[dict[str, int]]]:
    """Everybody in every view, shuffled; and for each person the row in each view."""
    found, rows = {}, [{} for _ in points]
    for place, view in enumerate(cameras.names):
        inside = cameras.rig.to_cameras(points)[:, place]
        pixels = cameras.camera.rows(torch.tensor([place])).project(inside)[0].numpy()
        pixels = pixels + noise * rng.normal(size=pixels.shape)
        order = rng.permutation(len(points))
        found[view] = read_arrays(pixels[order], np.full(pixels.shape[:2], 0.8), BODY25)
        for row, person in enumerate(order):
            rows[person][view] = row
    return found, rows


def grouped(people: list[Seen]) -> set[frozenset[tuple[str, int]]]:
    return {frozenset(person.rows.items()) for person in people}


def expected(rows: list[dict[str, int]]) -> set[frozenset[tuple[str, int]]]:
    return {frozenset(row.items()) for row in rows}


@pytest.mark.parametrize(("views", "people"), [(2, 1), (2, 2), (3, 4), (4, 3), (6, 6)])
def test_shuffled_people_are_found_again(body: Body, views: int, people: int) -> None:
    for seed in range(3):
        cameras, rng = ring(views), np.random.default_rng(seed)
        found, rows = see(crowd(body, people, seed), cameras, rng, noise=4.0)
        matched = match_people(found, cameras)
        assert grouped(matched) == expected(rows)
        assert [person.number for person in matched] == list(range(people))


def test_missing_and_alone(body: Body) -> None:
    """A person whom a view misses, and one whom one view alone sees."""
    cameras, rng = ring(4), np.random.default_rng(1)
    points = crowd(body, 3, 1)
    found, rows = see(points, cameras, rng, noise=3.0)
    gone = {"v1": 0, "v0": 1, "v2": 1, "v3": 1}  # view -> the person it misses
    kept = {}
    for view, seen in found.items():
        keep = [row for row in range(3) if row != rows[gone[view]][view]]
        kept[view] = read_arrays(seen.keypoints[keep], seen.confidence[keep], BODY25)
        old = rows[gone[view]].pop(view)
        for row in rows:
            if view in row:
                row[view] -= row[view] > old
    assert grouped(match_people(kept, cameras)) == expected(rows)
    assert list(match_people(kept, cameras)[-1].rows) == ["v1"]


def test_a_stranger_in_one_view_stays_alone(body: Body) -> None:
    cameras, rng = ring(4), np.random.default_rng(2)
    found, rows = see(crowd(body, 2, 5), cameras, rng, noise=3.0)
    mirrored = found["v3"].keypoints[::-1] * (-1, 1) + (SIZE[0], 40)
    found["v3"] = read_arrays(mirrored, found["v3"].confidence, BODY25)
    matched = grouped(match_people(found, cameras))
    without = [{v: r for v, r in row.items() if v != "v3"} for row in rows]
    assert expected(without) <= matched


def test_nobody() -> None:
    empty = read_arrays(np.zeros((0, 25, 2)), np.zeros((0, 25)), BODY25)
    assert match_people({"v0": empty, "v1": empty}, ring(2)) == []


def test_ids_say_who_is_who(shared: Path) -> None:
    """Geometry finds in the real scenes what their person_id says."""
    for folder in sorted((shared / "inputs" / "multiview").iterdir()):
        scene = read_scene(folder)
        for frame in scene.frames:
            given, found = people_of(scene, frame), people_of(scene, frame, match=True)
            assert grouped(given) == grouped(found), f"{folder.name} {frame}"


def test_several_people_without_cameras_or_ids(tmp_path: Path) -> None:
    import json

    entry = {"person_id": [-1], "pose_keypoints_2d": np.full((25, 3), 50.0).ravel().tolist()}
    for view, count in (("a", 2), ("b", 1)):
        (tmp_path / view).mkdir()
        content = json.dumps({"people": [entry] * count})
        (tmp_path / view / "000001_keypoints.json").write_text(content)
    scene = read_scene(tmp_path, image_size=SIZE)
    with pytest.raises(InputError, match="several people in view a"):
        people_of(scene, "000001")
