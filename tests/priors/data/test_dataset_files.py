import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, SPIN24
from flowfit.priors.data.datasets.files import read_dataset, write_dataset
from flowfit.priors.data.datasets.people import SCHEMA
from flowfit.priors.data.datasets.registry import DATASETS, LSP_JOINTS, find_dataset, mix
from flowfit.priors.data.pictures.files import read_pixels

COUNT = 3


def prohmr(count=COUNT, **changes):
    """The arrays of a file in ProHMR's layout."""
    random = np.random.default_rng(0)
    arrays = {
        "imgname": np.array([f"images/{i}.png" for i in range(count)]),
        "center": random.uniform(20, 60, (count, 2)),
        "scale": random.uniform(0.2, 0.5, count),
        "body_pose": random.normal(size=(count, 72)),
        "has_body_pose": np.ones(count),
        "betas": random.normal(size=(count, 10)),
        "has_betas": np.array([1.0, 0.0, 1.0])[:count],
        "body_keypoints_2d": random.uniform(0.1, 1, (count, 25, 3)),
        "extra_keypoints_2d": random.uniform(0.1, 1, (count, 19, 3)),
        "body_keypoints_3d": random.uniform(0.1, 1, (count, 25, 4)),
        "extra_keypoints_3d": random.uniform(0.1, 1, (count, 19, 4)),
        "gender": np.array(["m", "f", "n"])[:count],
    }
    arrays.update(changes)
    return {k: v for k, v in arrays.items() if v is not None}


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def put_pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((80, 80, 3), np.uint8))


def test_a_written_file_reads_the_same(tmp_path):
    extras = {"focal": np.full((COUNT, 2), 500.0), "transl": np.ones((COUNT, 3))}
    first = read_dataset(save(tmp_path / "a.npz", prohmr(**extras)))
    write_dataset(tmp_path / "b.npz", first)
    second = read_dataset(tmp_path / "b.npz", name="a")
    for name in first.__dataclass_fields__:
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, np.ndarray) and one.dtype.kind == "f":
            assert np.allclose(one, other, atol=1e-5, equal_nan=True), name
        else:
            assert np.array_equal(one, other), name
    assert first.focal[0].tolist() == [500, 500]
    assert np.isnan(first.principal).all()
    assert first.gender == ("m", "f", "")
    assert first.has_betas.tolist() == [True, False, True]


def test_prohmr_keeps_openpose_first(tmp_path):
    arrays = prohmr()
    people = read_dataset(save(tmp_path / "a.npz", arrays))
    nose, hip = SCHEMA.index("Nose"), SCHEMA.index("lsp:RHip")
    assert np.allclose(people.keypoints[:, nose], arrays["body_keypoints_2d"][:, 0, :2])
    assert np.allclose(people.keypoints[:, hip], arrays["extra_keypoints_2d"][:, 2, :2])
    assert np.allclose(people.points_confidence[:, hip], arrays["extra_keypoints_3d"][:, 2, 3])
    assert np.allclose(people.side, 200 * arrays["scale"])


def test_boxes_may_be_in_pixels_or_have_two_sides(tmp_path):
    pixels = np.array([120.0, 300.0, 80.0])
    people = read_dataset(save(tmp_path / "a.npz", prohmr(scale=pixels)))
    assert np.allclose(people.side, pixels)
    both = np.stack((pixels / 400, pixels / 200), 1)  # 4D-Humans: width and height
    people = read_dataset(save(tmp_path / "b.npz", prohmr(scale=both)))
    assert np.allclose(people.side, pixels)


def test_spin_is_mapped_by_name(tmp_path):
    random = np.random.default_rng(1)
    part = random.uniform(1, 9, (2, 24, 3))
    openpose = random.uniform(1, 9, (2, 25, 3))
    eye = BODY25.index("LEye")
    openpose[1, eye] = 0  # OpenPose did not find it; it was annotated
    arrays = {
        "imgname": np.array(["a.jpg", "b.jpg"]),
        "center": np.ones((2, 2)),
        "scale": np.ones(2),
        "part": part,
        "openpose": openpose,
        "pose": random.normal(size=(2, 72)),
        "shape": random.normal(size=(2, 10)),
        "has_smpl": np.array([1, 0]),
        "S": random.normal(size=(2, 24, 4)),
    }
    people = read_dataset(save(tmp_path / "coco.npz", arrays))
    ankle = SCHEMA.index("lsp:RAnkle")
    assert SPIN24.names[0] == "lsp:RAnkle"
    assert np.allclose(people.keypoints[:, ankle], part[:, 0, :2])
    assert np.allclose(people.points[:, ankle], arrays["S"][:, 0, :3])
    own = SCHEMA.index("LEye")
    assert np.allclose(people.keypoints[0, own], openpose[0, eye, :2])
    assert np.allclose(people.keypoints[1, own], part[1, SPIN24.index("LEye"), :2])
    assert people.has_pose.tolist() == people.has_betas.tolist() == [True, False]
    # the order of facts, not of this file's own table
    assert SPIN24.names[12:19] == (
        "lsp:Neck", "lsp:HeadTop", "Pelvis", "Thorax", "Spine", "Jaw", "Head",
    )  # fmt: skip
    assert SPIN24.names[19:] == ("Nose", "LEye", "REye", "LEar", "REar")


@pytest.mark.parametrize("protocol", [2, 4])
def test_lists_of_views(tmp_path, protocol):
    frames = [prohmr(2), prohmr(3)]
    for frame in frames:
        frame["scale"] = frame["scale"] * 200
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(frames, protocol=protocol))
    people = read_dataset(tmp_path / "v.pkl")
    assert people.frame.tolist() == [0, 0, 1, 1, 1]
    assert np.allclose(people.side[:2], 1.2 * frames[0]["scale"])
    assert people.pictures[4] == "images/2.png"


class Bomb:
    def __reduce__(self):
        return (open, ("/nowhere", "w"))


def test_a_pickle_that_carries_code_is_refused(tmp_path):
    (tmp_path / "v.pkl").write_bytes(pickle.dumps([{"imgname": Bomb()}]))
    with pytest.raises(InputError, match="refused"):
        read_dataset(tmp_path / "v.pkl")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"imgname": None}, "no 'imgname'"),
        ({"center": np.ones((COUNT, 3))}, "'center' has shape"),
        ({"body_pose": np.ones((COUNT, 69))}, "'body_pose' has shape"),
        ({"body_keypoints_2d": np.ones((COUNT, 24, 3))}, "must be \\(3, 25, 3\\)"),
        ({"scale": np.array([1.0, 0, 1])}, "box of person 1"),
        ({"scale": np.array([1.0, np.nan, 1])}, "box of person 1"),
        ({"imgname": np.array(["../../etc/passwd"] * COUNT)}, "lead from"),
        ({"imgname": np.array(["a", None, "b"], dtype=object)}, "pickle"),
        ({"betas": np.array([["x"] * 10] * COUNT)}, "no numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, word):
    with pytest.raises(InputError, match=word) as error:
        read_dataset(save(tmp_path / "bad.npz", prohmr(**changes)))
    assert "bad.npz" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK nonsense", b"\x80\x04."])
@pytest.mark.parametrize("name", ["x.npz", "x.pkl"])
def test_other_files_are_input_errors(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_dataset(tmp_path / name)


def test_missing_values_are_not_seen(tmp_path):
    two = prohmr()["body_keypoints_2d"].copy()
    two[0, 0] = np.nan
    people = read_dataset(save(tmp_path / "a.npz", prohmr(body_keypoints_2d=two)))
    assert people.confidence[0, 0] == 0
    assert np.isfinite(people.keypoints).all()


def test_registered_datasets_say_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"3dpw_test\.npz.*virtualhumans.*--files"):
        find_dataset("3dpw-test", tmp_path)
    save(tmp_path / "3dpw_test.npz", prohmr())
    with pytest.raises(InputError, match="no folder"):
        find_dataset("3dpw", tmp_path)
    (tmp_path / "3DPW").mkdir()
    with pytest.raises(InputError, match="none of its 3 pictures"):
        find_dataset("3dpw", tmp_path)
    put_pictures(tmp_path / "3DPW", ["images/0.png", "images/2.png"])
    found = find_dataset("3dpw", tmp_path)
    assert found.joints == LSP_JOINTS
    assert len(found.people) == 2
    assert found.missing == ("images/1.png",)
    with pytest.raises(InputError, match=r"no dataset 'nope': choose from .*3dpw-test"):
        find_dataset("nope", tmp_path)


def test_evaluation_joints_are_the_fields():
    """Human3.6M and 3DPW: the first 13 of ProHMR's extra joints and the last; all of them 17."""
    extra = SCHEMA.names[len(BODY25) :]
    assert (*extra[:13], extra[-1]) == LSP_JOINTS
    by_name = {key: d.splits for key, d in DATASETS.items()}
    every = by_name["h36m"]["val"].joints
    assert [extra.index(n) for n in every] == [*range(13), 14, 16, 17, 18]
    mpi = by_name["mpi-inf-3dhp"]["test"].joints
    assert [extra.index(n) for n in mpi] == [*range(14), 14, 16, 17]


def test_mixtures_draw_by_weight(tmp_path):
    one = read_dataset(save(tmp_path / "a.npz", prohmr()))
    other = read_dataset(save(tmp_path / "b.npz", prohmr()))
    mixture = mix({"a": one, "b": other}, {"a": 1.0, "b": 3.0})
    drawn = mixture.draw(4000, np.random.default_rng(0))
    assert sum(found is other for found, _ in drawn) == pytest.approx(3000, abs=120)
    assert {row for _, row in drawn} == {0, 1, 2}
    again = mixture.draw(4000, np.random.default_rng(0))
    assert [row for _, row in drawn] == [row for _, row in again]
    for weights, word in (
        ({"c": 1.0}, "the sets are a, b"),
        ({"a": -1.0}, "positive"),
        ({}, "one"),
    ):
        with pytest.raises(InputError, match=word):
            mix({"a": one, "b": other}, weights)


def test_what_is_no_picture_is_an_input_error(tmp_path):
    for content in (b"", b"GIF89a not really", b"\xff\xd8\xff\xe0 cut off"):
        (tmp_path / "p.jpg").write_bytes(content)
        with pytest.raises(InputError, match=r"p\.jpg"):
            read_pixels(tmp_path / "p.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        read_pixels(tmp_path / "none.jpg")


def test_the_page_lists_every_registered_dataset():
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    for key, dataset in DATASETS.items():
        assert dataset.site in page
        assert f"`{dataset.pictures}`" in page
        first, *others = dataset.splits
        assert f"`{key}-{first}`" in page
        for split in others:
            assert f"`-{split}`" in page
        for split in dataset.splits.values():
            assert f"`{split.files[0]}`" in page


def test_spins_3dpw_has_bodies_alone(tmp_path):
    arrays = {
        "imgname": np.array(["a.jpg", "b.jpg"]),
        "center": np.ones((2, 2)),
        "scale": np.ones(2),
        "pose": np.ones((2, 72)),
        "shape": np.ones((2, 10)),
        "gender": np.array(["m", "f"]),
    }
    people = read_dataset(save(tmp_path / "3dpw_test.npz", arrays))
    assert people.has_pose.all()
    assert people.has_betas.all()
    assert not people.confidence.any()
    assert people.gender == ("m", "f")
