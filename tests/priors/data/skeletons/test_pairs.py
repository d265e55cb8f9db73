"""Reading Human3.6M's and ProHMR's skeleton files, and pairs from motion capture."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.models.keypoints import COCO17, H36M17, PROHMR44
from flowfit.models.safe_pickle import load_npz_object
from flowfit.priors.data.people.synthetic import Detector, Scenery
from flowfit.priors.data.skeletons.h36m import _NAMES_32, read_h36m
from flowfit.priors.data.skeletons.prohmr_pairs import read_prohmr_pairs
from flowfit.priors.data.skeletons.resection import resect
from flowfit.priors.lifting.input import FACE, JOINTS, WITH_FACE
from flowfit.priors.training.lifting import made_up_pairs
from flowfit.priors.training.lifting_config import FAST
from tests.priors.training.test_keypoints import make_mocap

FRAMES = 30
CAMERAS = 4
ACTIONS = {"S1": ("Walking 1", "Eating"), "S9": ("Posing",)}


def look_at(place, target):
    """Rotation of a camera at `place` that looks at `target`; the world's z is up."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(forward, right), forward))


def make_h36m(folder, *, layout="h36m", noise=0.0, joints=32, extra_frames=0, seed=0, wrap=None):
    """Files in the common layout with known cameras; returns each camera's rotation and focal."""
    rng = np.random.default_rng(seed)
    cameras = []
    for k in range(CAMERAS):
        angle = 2 * np.pi * k / CAMERAS + 0.3
        place = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.6])
        matrix = np.array([[1145.0, 0, 512 + k], [0, 1143.0, 515 - k], [0, 0, 1]])
        cameras.append((place, look_at(place, np.array([0, 0, 0.9])), matrix))
    solid, flat = {}, {}
    for subject, actions in ACTIONS.items():
        solid[subject], flat[subject] = {}, {}
        for action in actions:
            world = rng.normal(size=(FRAMES, 32, 3)) * [0.3, 0.3, 0.5] + [0, 0, 1]
            world += rng.normal(size=(FRAMES, 1, 3)) * [0.8, 0.8, 0]
            named = world[:, [_NAMES_32.index(n) for n in H36M17.names]]
            solid[subject][action] = (world if joints == 32 else named).astype(np.float32)
            views = []
            for place, rotation, matrix in cameras:
                seen = (named - place) @ rotation.T @ matrix.T
                seen = seen[..., :2] / seen[..., 2:] + noise * rng.normal(size=seen[..., :2].shape)
                if layout == "coco":
                    index = H36M17.map_to(COCO17)
                    seen = np.where(
                        (np.array(index) >= 0)[:, None],
                        seen[:, index],
                        rng.uniform(0, 1000, (1, 2)),
                    )
                more = np.repeat(seen[-1:], extra_frames, 0)
                views.append(np.concatenate((seen, more)).astype(np.float32))
            flat[subject][action] = views if wrap is None else wrap(views)
    about = {"layout_name": layout, "num_joints": 17, "keypoints_symmetry": [[4, 5], [1, 2]]}
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=solid)
    np.savez_compressed(folder / "data_2d_h36m_gt.npz", positions_2d=flat, metadata=about)
    return solid, flat, cameras


def read(folder, wanted=H36M17, subjects=("S1",), **options):
    return read_h36m(folder, wanted, subjects=subjects, **options)


@pytest.mark.parametrize("joints", [32, 17])
def test_joints_are_named_and_turned_into_each_cameras_axes(tmp_path, joints):
    solid, flat, cameras = make_h36m(tmp_path, joints=joints)
    pairs = read(tmp_path)
    count = FRAMES * len(ACTIONS["S1"])
    assert len(pairs) == CAMERAS * count
    for k, (_, rotation, matrix) in enumerate(cameras):
        rows = slice(k * count, (k + 1) * count)
        world = np.concatenate([solid["S1"][a] for a in ACTIONS["S1"]]).astype(float)
        if joints == 32:
            world = world[:, [_NAMES_32.index(n) for n in H36M17.names]]
        expected = (world - world[:, :1]) @ rotation.T
        np.testing.assert_allclose(pairs.joints[rows], expected, rtol=0, atol=2e-4)
        seen = np.concatenate([flat["S1"][a][k] for a in ACTIONS["S1"]])
        np.testing.assert_allclose(pairs.keypoints[rows], seen, rtol=0, atol=1e-3)
        np.testing.assert_allclose(pairs.focal[rows], [[1145, 1143]] * count, rtol=2e-3)
        np.testing.assert_allclose(
            pairs.center[rows], [matrix[:2, 2].tolist()] * count, rtol=0, atol=2
        )
    assert (pairs.confidence == 1).all()


def test_all_cameras_with_a_detectors_errors_and_longer_files(tmp_path):
    solid, _, cameras = make_h36m(tmp_path, noise=4.0, extra_frames=7, wrap=tuple)
    pairs = read(tmp_path)
    assert len(pairs) == CAMERAS * FRAMES * 2
    world = solid["S1"]["Walking 1"].astype(float)
    world = world[:, [_NAMES_32.index(n) for n in H36M17.names]]
    expected = (world - world[:, :1]) @ cameras[0][1].T
    np.testing.assert_allclose(pairs.joints[:FRAMES], expected, rtol=0, atol=0.02)


def test_detections_in_cocos_layout(tmp_path):
    _, _, cameras = make_h36m(tmp_path, layout="coco")
    pairs = read(tmp_path, WITH_FACE)
    seen = (pairs.confidence > 0).all(0)
    names = {n for n, s in zip(WITH_FACE.names, seen, strict=True) if s}
    assert {"LKnee", "RWrist", "MidHip", "Thorax", *FACE} <= names
    assert not {"Spine", "Jaw", "HeadTop"} & names
    assert pairs.focal[0, 0].item() == pytest.approx(cameras[0][2][0, 0], rel=2e-3)


def test_only_the_subjects_asked_for(tmp_path):
    make_h36m(tmp_path)
    assert len(read(tmp_path, subjects=("S9", "S11"))) == CAMERAS * FRAMES
    with pytest.raises(InputError, match="none of the subjects"):
        read(tmp_path, subjects=("S5",))


def test_which_detections_must_be_said_when_there_are_several(tmp_path):
    make_h36m(tmp_path)
    other = tmp_path / "data_2d_h36m_cpn.npz"
    other.write_bytes((tmp_path / "data_2d_h36m_gt.npz").read_bytes())
    with pytest.raises(InputError, match="--detections from cpn, gt"):
        read(tmp_path)
    assert len(read(tmp_path, detections="gt")) == CAMERAS * FRAMES * 2
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path, detections="hrnet")


class _Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("no 3d", "no data_3d_h36m.npz"),
        ("no 2d", "no data_2d_h36m_NAME.npz"),
        ("cut", "cannot be read"),
        ("bomb", "refused and not run"),
        ("layout", "no layout"),
        ("millimetres", "give metres"),
        ("joints", "32 or 17"),
        ("nan", "NaN"),
        ("short", "frames"),
        ("other people", "no camera takes"),
        ("list", "no table of subjects"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, damage, word):
    solid, flat, _ = make_h36m(tmp_path)
    in_3d, in_2d = tmp_path / "data_3d_h36m.npz", tmp_path / "data_2d_h36m_gt.npz"
    about = {"layout_name": "h36m"}
    action = ACTIONS["S1"][0]
    if damage == "no 3d":
        in_3d.unlink()
    elif damage == "no 2d":
        in_2d.unlink()
    elif damage == "cut":
        in_3d.write_bytes(in_3d.read_bytes()[:2000])
    elif damage == "bomb":
        solid["S1"]["x"] = _Bomb(tmp_path / "ran")
    elif damage == "layout":
        about = {"layout_name": "mpii"}
    elif damage == "millimetres":
        solid = {s: {a: 1000 * x for a, x in t.items()} for s, t in solid.items()}
    elif damage == "joints":
        solid["S1"][action] = solid["S1"][action][:, :20]
    elif damage == "nan":
        solid["S1"][action][3, 1] = np.nan
    elif damage == "short":
        flat["S1"][action][2] = flat["S1"][action][2][:-5]
    elif damage == "other people":
        flat["S1"] = {a: [v[::-1] for v in views] for a, views in flat["S1"].items()}
    if damage == "list":
        np.savez_compressed(in_3d, positions_3d=np.zeros((2, 3)))
    elif damage not in ("no 3d", "cut"):
        np.savez_compressed(in_3d, positions_3d=solid)
    if damage != "no 2d":
        np.savez_compressed(in_2d, positions_2d=flat, metadata=about)
    with pytest.raises(InputError, match=word) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_objects_of_an_npz_come_back_as_they_were(tmp_path):
    content = {"a": [np.arange(6.0).reshape(2, 3), {"b": np.float32(2), "c": "text"}], "d": (1, 2)}
    for protocol in (2, 3, 4):
        path = tmp_path / f"{protocol}.npz"
        np.savez(path, x=np.ones(3))
        buffer = io.BytesIO()
        whole = np.empty((), object)
        whole[()] = content
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(buffer, header)
        pickle.dump(whole, buffer, protocol=protocol)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("y.npy", buffer.getvalue())
        got = load_npz_object(path, "y")
        np.testing.assert_array_equal(got["a"][0], content["a"][0])
        assert got["a"][1]["b"] == 2
        assert got["a"][1]["c"] == "text"
        assert got["d"] == [1, 2]
        np.testing.assert_array_equal(load_npz_object(path, "x"), np.ones(3))
        with pytest.raises(InputError, match="has no z"):
            load_npz_object(path, "z")


# --- cameras from points ---


def scene(count=60, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3)) * [0.5, 0.5, 0.8] + [1, -2, 0.9]
    place = np.array([4.0, 1.0, 1.7])
    rotation = look_at(place, np.array([1.0, -2.0, 1.0]))
    matrix = np.array([[1100.0, 0, 480], [0, 1090.0, 530], [0, 0, 1]])
    pixels = (points - place) @ rotation.T @ matrix.T
    return points, pixels[:, :2] / pixels[:, 2:], rotation, matrix


def test_a_camera_is_found_from_points():
    points, pixels, rotation, matrix = scene()
    found = resect(points, pixels)
    np.testing.assert_allclose(found.rotation, rotation, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-6, atol=1e-4)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.error < 1e-5


def test_wrong_detections_do_not_turn_the_camera():
    points, pixels, rotation, _ = scene(400)
    rng = np.random.default_rng(1)
    pixels = pixels + rng.normal(size=pixels.shape)
    pixels[:60] += rng.normal(size=(60, 2)) * 200
    found = resect(points, pixels)
    angle = np.degrees(np.arccos((np.trace(found.rotation @ rotation.T) - 1) / 2))
    assert angle < 0.5


def test_points_that_do_not_tell_give_no_camera():
    points, pixels, _, _ = scene()
    assert resect(points[:8], pixels[:8]) is None
    flat = points * [1, 1, 0]
    assert resect(flat, pixels) is None


# --- ProHMR's file ---


def make_prohmr(path, count=6, **changes):
    rng = np.random.default_rng(0)
    flat = np.concatenate((rng.uniform(0, 500, (count, 44, 2)), np.ones((count, 44, 1))), -1)
    solid = np.concatenate((rng.normal(size=(count, 44, 3)), np.ones((count, 44, 1))), -1)
    data = {
        "imgname": np.array([f"{i}.jpg" for i in range(count)], dtype=object),
        "center": np.full((count, 2), 250.0),
        "scale": np.full(count, 2.0),
        "body_keypoints_2d": flat[:, :25],
        "extra_keypoints_2d": flat[:, 25:],
        "body_keypoints_3d": solid[:, :25],
        "extra_keypoints_3d": solid[:, 25:],
    }
    data.update({k: v for k, v in changes.items() if v is not None})
    np.savez(path, **{k: v for k, v in data.items() if changes.get(k, 0) is not None})
    return data, flat, solid


def test_prohmrs_file_gives_the_joints_by_name(tmp_path):
    _, flat, solid = make_prohmr(tmp_path / "a.npz")
    pairs = read_prohmr_pairs(tmp_path / "a.npz", H36M17)
    assert len(pairs) == 6
    places = [PROHMR44.index(n) for n in JOINTS.names if n != "HeadTop"]
    there = [i for i, n in enumerate(JOINTS.names) if n != "HeadTop"]
    root = solid[:, [PROHMR44.index("MidHip")], :3]
    np.testing.assert_allclose(
        pairs.joints[:, there], (solid[:, places, :3] - root), rtol=0, atol=1e-5
    )
    top = JOINTS.index("HeadTop")
    np.testing.assert_allclose(
        pairs.joints[:, top], solid[:, PROHMR44.index("lsp:HeadTop"), :3] - root[:, 0], atol=1e-5
    )
    np.testing.assert_allclose(pairs.keypoints[:, there], flat[:, places, :2], atol=1e-4)
    np.testing.assert_allclose(pairs.focal, np.full((6, 2), 400 * 5000 / 224), rtol=1e-6)


def test_people_without_all_joints_are_left_out(tmp_path):
    _, _, solid = make_prohmr(tmp_path / "a.npz")
    extra = solid[:, 25:].copy()
    extra[2, :, 3] = 0
    make_prohmr(tmp_path / "b.npz", extra_keypoints_3d=extra)
    assert len(read_prohmr_pairs(tmp_path / "b.npz", H36M17)) == 5
    make_prohmr(tmp_path / "c.npz", extra_keypoints_3d=0 * extra)
    with pytest.raises(InputError, match="of none of 6 people"):
        read_prohmr_pairs(tmp_path / "c.npz", H36M17)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"scale": None}, "no scale"),
        ({"body_keypoints_3d": np.zeros((6, 25, 3))}, "shape"),
        ({"center": np.array([object()] * 6)}, "cannot be read"),
    ],
)
def test_what_is_no_prohmr_file_is_told(tmp_path, changes, word):
    make_prohmr(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError, match=word) as caught:
        read_prohmr_pairs(tmp_path / "a.npz", H36M17)
    assert "\n" not in str(caught.value)


# --- made-up pairs ---


@pytest.fixture(scope="module")
def small_body():
    return find_body("open-low")


def test_made_up_pairs_are_pictures_of_their_joints(small_body):
    """With a detector that does not err, a seen joint lies where the camera sees it."""
    exact = Detector(noise=0, outliers=0, missed=0, hidden_limbs=0, swaps=0)
    config = replace(
        FAST, detector=exact, plain_scenery=Scenery(box=(0.3, 0.6)), truncated=0.0, disguised=False
    )
    source = made_up_pairs(config, small_body, make_mocap())
    pairs = source.draw(64, torch.Generator().manual_seed(0))
    assert (pairs.joints[:, JOINTS.index("MidHip")] == 0).all()
    shared = [WITH_FACE.index(n) for n in JOINTS.names]
    own = [n not in ("MidHip", "Thorax") for n in JOINTS.names]  # detectors report midpoints there
    seen = (pairs.confidence[:, shared] > 0) & torch.tensor(own)
    assert seen.float().mean() > 0.8
    rays = (pairs.keypoints[:, shared] - pairs.camera.center[:, None]) / pairs.camera.focal[:, None]
    # the pelvis' place is not told: solve for it, by u (Z + z) = X + x, from the seen joints
    for row in range(64):
        ray, joint = rays[row][seen[row]].double(), pairs.joints[row][seen[row]].double()
        eye = torch.eye(2).double().expand(len(ray), 2, 2)
        left = torch.cat((eye, -ray[..., None]), -1).flatten(0, 1)
        right = (ray * joint[:, 2:] - joint[:, :2]).flatten()
        place = torch.linalg.lstsq(left, right[:, None]).solution
        assert (left @ place - right[:, None]).abs().max() < 1e-3
        assert place[2] > 0


def test_draws_follow_from_the_generator(small_body):
    source = made_up_pairs(FAST, small_body, make_mocap())
    one, two, other = (source.draw(20, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert len(one.joints) == 20
    for first, second in ((one.keypoints, two.keypoints), (one.joints, two.joints)):
        assert torch.equal(first, second)
    assert not torch.equal(one.joints, other.joints)


def test_other_detectors_joints_are_left_out(small_body):
    source = made_up_pairs(FAST, small_body, make_mocap())
    seen = source.draw(600, torch.Generator().manual_seed(1)).confidence > 0

    def has(*names):
        return seen[:, WITH_FACE.indices(list(names))].any(-1)

    trunk, face = has("Spine", "Jaw"), has(*FACE)
    assert 0.2 < trunk.float().mean() < 0.5
    assert (has("HeadTop") & ~trunk).float().mean() > 0.05
    assert (trunk & ~face).any()
    assert (face & ~trunk).any()
