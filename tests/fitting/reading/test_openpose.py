from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowfit.fitting.reading import formats
from flowfit.fitting.reading.arrays import read_arrays
from flowfit.fitting.reading.detections import Detections
from flowfit.fitting.reading.formats import read
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, SCHEMAS

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
SIZE = (640, 480)


def one(count: int = 25, seed: int = 0) -> np.ndarray:
    """A person within a 640x480 picture: (K, 3)."""
    rng = np.random.default_rng(seed)
    return np.column_stack(
        (rng.uniform(100, 600, count), rng.uniform(100, 400, count), rng.uniform(0.2, 1, count))
    )


def entry(triples: Any, **more: Any) -> dict[str, Any]:
    return {"person_id": [-1], "pose_keypoints_2d": np.asarray(triples).ravel().tolist(), **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*people: Any, whole: Any = None) -> Path:
        path = tmp_path / "some_keypoints.json"
        content = {"version": 1.3, "people": list(people)} if whole is None else whole
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def refused(path: object, **how: Any) -> str:
    """The error line for a file, checked for what every such line must be."""
    with pytest.raises(InputError) as caught:
        read(path, **how)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line.isprintable()  # so it is one line, too
    assert len(line) < 300
    assert not line.endswith("...")  # nothing was cut off
    assert Path(str(path)).name in line
    return line


def left_out(found: Detections) -> str:
    """The only reason for which somebody was skipped."""
    ((place, reason),) = found.skipped
    assert f"person {place}" in reason
    assert reason.isprintable()
    assert len(reason) < 200
    return reason


# --- files that can be read ---


@pytest.mark.parametrize("name", ["camera", "astronaut"])
def test_examples(name: str) -> None:
    path = EXAMPLES / f"{name}_keypoints.json"
    found = read(path, image_size=(512, 512))
    raw = np.array(json.loads(path.read_text())["people"][0]["pose_keypoints_2d"]).reshape(25, 3)
    assert len(found) == 1
    assert found.schema is BODY25
    assert np.array_equal(found.keypoints[0], raw[:, :2])
    assert np.array_equal(found.confidence[0], raw[:, 2])
    assert found.keypoints.dtype == found.confidence.dtype == np.float64
    assert (found.person_ids, found.indices, found.skipped, found.notes) == ((-1,), (0,), (), ())
    assert found.path == path
    again = read_arrays(found.keypoints, found.confidence, found.schema, image_size=(512, 512))
    assert np.array_equal(again.keypoints, found.keypoints)
    assert np.array_equal(again.confidence, found.confidence)
    assert again.path is None


def test_empty_people(write: Callable[..., Path]) -> None:
    found = read(write(), image_size=SIZE)
    assert len(found) == 0
    assert found.schema is BODY25
    assert found.keypoints.shape == (0, 25, 2)
    assert found.confidence.shape == (0, 25)
    assert found.skipped == found.notes == ()
    assert read(write(), schema="coco17").keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize(
    ("count", "name"),
    [(25, "body25"), (18, "coco18"), (17, "coco17"), (26, "halpe26"), (33, "mediapipe33")],
)
def test_schema_by_count(write: Callable[..., Path], count: int, name: str) -> None:
    assert read(write(entry(one(count)))).schema is SCHEMAS[name]
    assert read(write(entry(one(count))), schema=name).schema is SCHEMAS[name]


def test_schema_by_name(write: Callable[..., Path]) -> None:
    for name, schema in SCHEMAS.items():
        assert read(write(entry(one(len(schema)))), schema=name).schema is schema


def test_most_people_decide_on_the_schema(write: Callable[..., Path]) -> None:
    found = read(write(entry(one(18)), entry(one(25)), entry(one(25, 1))))
    assert found.schema is BODY25
    assert found.indices == (1, 2)
    assert "54 values" in left_out(found)


def test_older_key_and_other_fields(write: Callable[..., Path]) -> None:
    values = one().ravel().tolist()
    found = read(write({"pose_keypoints": values}, entry(one(), face_keypoints_2d=None, new={})))
    assert np.array_equal(found.keypoints[0], found.keypoints[1])
    assert found.person_ids == (-1, -1)
    both = {"pose_keypoints_2d": None, "pose_keypoints": values}
    assert len(read(write(both))) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(([3], 3), (3, 3), ([3.0], 3), ([], -1), (None, -1), ("a", -1), ([[1]], -1), (True, -1)),
        *((1e300, -1), (math.inf, -1), (math.nan, -1), (2.5, -1), (10**30, -1)),
    ],
)
def test_person_ids(write: Callable[..., Path], value: object, expected: int) -> None:
    assert read(write({**entry(one()), "person_id": value})).person_ids == (expected,)


def test_byte_order_mark_and_text_path(write: Callable[..., Path]) -> None:
    text = json.dumps({"people": [entry(one())]})
    assert len(read(str(write(whole=b"\xef\xbb\xbf" + text.encode())))) == 1


def test_unseen_points_are_zero(write: Callable[..., Path]) -> None:
    person = one()
    person[3, 2] = 0
    person[4] = (math.nan, math.inf, 0)
    person[5] = 0
    found = read(write(entry(person)), image_size=SIZE)
    assert (found.keypoints[0, 3:6] == 0).all()
    assert (found.confidence[0, 3:6] == 0).all()
    assert np.array_equal(found.keypoints[0, 6:], person[6:, :2])


def test_confidence_above_one(write: Callable[..., Path]) -> None:
    person = one()
    person[:2, 2] = (1.02, 1.0)
    found = read(write(entry(person)))
    assert found.confidence[0, :2].tolist() == [1, 1]
    assert found.notes == ()
    person[2, 2] = 2
    found = read(write(entry(person)))
    assert found.confidence.max() == 1
    assert found.notes == ("person 0: confidence up to 2; all above 1 counts as 1",)


@pytest.mark.parametrize(("seen", "word"), [(1, "keypoint"), (2, "keypoints")])
def test_few_keypoints_are_kept_with_a_note(
    write: Callable[..., Path], seen: int, word: str
) -> None:
    person = one()
    person[seen:] = 0
    found = read(write(entry(person)), image_size=SIZE)
    assert found.notes == (f"person 0: only {seen} {word} seen; the result is a guess",)
    person[2:4] = (300, 300, 1)
    assert read(write(entry(person))).notes == ()


def test_hundred_people_are_fast(write: Callable[..., Path]) -> None:
    path = write(*(entry(one(seed=i), face_keypoints_2d=[0] * 210) for i in range(100)))
    start = time.perf_counter()
    found = read(path, image_size=SIZE)
    assert len(found) == 100
    assert time.perf_counter() - start < 1


# --- files that cannot ---


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.json")
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        (b'{"people": "\xe9"}', "UTF-8 (byte 12"),
        ('{"people": []}'.encode("utf-16"), "UTF-16"),
        (b"hello", "line 1, column 1 (character 0)"),
        (b'{"people": [}', "line 1, column 13 (character 12)"),
        (b'{"people": [{"pose_keypoints_2d": [1, 2', "cut off"),
        (b'{"people": []}\n{}', "line 2, column 1"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"people": ' + b"1" * 5000 + b"}", "ValueError"),
        (b"[1, 2]", "holds a list"),
        (b"null", "holds null"),
        (b'"people"', "holds a text"),
        (b"3", "holds a number"),
        (b"{}", "not a keypoint file: it has nothing; known are OpenPose JSON, EasyMocap annots"),
        (b'{"version": 1, "annotations": 2}', "it has version, annotations; known are OpenPose"),
        (b'{"annots": 3}', '"annots" is a number, not a list'),
        (b'{"people": {}}', '"people" is an object, not a list'),
        (b'{"people": null}', '"people" is null, not a list'),
    ],
)
def test_not_openpose(write: Callable[..., Path], whole: bytes, text: str) -> None:
    assert text in refused(write(whole=whole))


def test_many_long_keys(write: Callable[..., Path]) -> None:
    line = refused(write(whole={f"k{i}\n" * 50: 1 for i in range(1000)}))
    assert ", ..." in line


def test_every_truncation_says_so(write: Callable[..., Path]) -> None:
    text = json.dumps({"version": 1.3, "people": [entry(one())]})
    for length in range(1, len(text), 23):
        assert "cut off" in refused(write(whole=text[:length]))


def test_too_large(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_MEGABYTES", 1)
    assert "larger than 1 MB" in refused(write(whole=b" " * 1_000_001))


def test_no_permission(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(entry(one()))
    monkeypatch.setattr(Path, "open", closed)  # root may read everything
    assert "Permission denied" in refused(path)


def test_schema_errors(write: Callable[..., Path]) -> None:
    line = refused(write(entry(one())), schema="body_25")
    assert "'body_25'" in line
    assert all(name in line for name in SCHEMAS)
    line = refused(write(entry(one())), schema="coco17")
    assert "25 keypoints (body25)" in line
    assert "coco17 has 17" in line
    line = refused(write(entry(one(14))))
    assert "14 keypoints" in line
    assert "lsp14" in line


# --- one person is wrong ---


def broken(at: int, value: object) -> dict[str, Any]:
    person = entry(one())
    person["pose_keypoints_2d"][at] = value
    return person


@pytest.mark.parametrize(
    ("person", "text"),
    [
        (
            {"pose_keypoints_2d": [1] * 74},
            "has 74 values in pose_keypoints_2d; BODY_25 needs 75 "
            "(x, y, confidence of 25 keypoints)",
        ),
        ({"pose_keypoints": [1] * 74}, "has 74 values in pose_keypoints;"),
        ({"pose_keypoints_2d": []}, "pose_keypoints_2d is empty"),
        ({}, "has no pose_keypoints_2d"),
        ({"pose_keypoints_2d": None}, "has no pose_keypoints_2d"),
        ({"pose_keypoints_2d": "1, 2"}, "is a text, not a list"),
        ([1, 2], "is a list, not an object"),
        (None, "is null, not an object"),
        (broken(4, "12"), "value 4 of pose_keypoints_2d is a text, not a number"),
        (broken(4, True), "is true or false, not a number"),
        (broken(4, [1]), "is a list, not a number"),
        (broken(0, 10**400), "too large"),
        (broken(3, math.nan), "keypoint Neck is NaN"),
        (broken(4, -math.inf), "keypoint Neck is NaN"),
        (broken(4, None), "keypoint Neck is NaN, infinite or null"),
        (broken(5, math.nan), "keypoint Neck is NaN"),
        (broken(5, -0.1), "keypoint Neck has a negative confidence"),
        (broken(3, 1e12), "keypoint Neck lies 1e+12 px"),
        (entry(np.zeros((25, 3))), "no keypoint was seen"),
        (entry(one() * (1, 1, 0)), "no keypoint was seen"),
    ],
)
def test_one_person_is_skipped(write: Callable[..., Path], person: object, text: str) -> None:
    found = read(write(entry(one()), person, entry(one(seed=2), person_id=[7])), image_size=SIZE)
    assert text in left_out(found)
    assert found.indices == (0, 2)
    assert found.person_ids == (-1, 7)
    assert np.array_equal(found.keypoints[1], one(seed=2)[:, :2])
    line = refused(write(person, person), image_size=SIZE)  # and when nobody is left
    assert text in line
    assert "none of the 2 people" in line
    assert "person 0" in line
    assert text in refused(write(person))


# --- normalised coordinates ---


def test_zero_to_one(write: Callable[..., Path]) -> None:
    pixels = one()
    pixels[3] = 0
    scaled = pixels / (SIZE[0] - 1, SIZE[1] - 1, 1)
    found = read(write(entry(scaled)), image_size=SIZE)
    assert np.allclose(found.keypoints[0], pixels[:, :2], atol=1e-9)
    (note,) = found.notes
    assert "[0, 1]" in note
    assert "640x480" in note
    line = refused(write(entry(scaled)))
    assert "--image-size W H" in line


def test_minus_one_to_one(write: Callable[..., Path]) -> None:
    pixels = one()
    scaled = pixels * (2 / (SIZE[0] - 1), 2 / (SIZE[1] - 1), 1) - (1, 1, 0)
    scaled[3] = 0
    found = read(write(entry(scaled), entry(np.zeros((25, 3)))), image_size=SIZE)
    pixels[3] = 0
    assert np.allclose(found.keypoints[0], pixels[:, :2], atol=1e-9)
    assert "[-1, 1]" in found.notes[0]
    assert "[-1, 1]" in refused(write(entry(scaled)))


def test_the_whole_file_decides(write: Callable[..., Path]) -> None:
    small = np.zeros((25, 3))
    small[:3] = (0.5, 0.5, 1)
    found = read(write(entry(one()), entry(small)), image_size=SIZE)
    assert np.array_equal(found.keypoints[1], small[:, :2])
    assert found.notes == ()


def test_rounding_above_one_and_beyond(write: Callable[..., Path]) -> None:
    person = one() / (640, 480, 1)
    person[0, 0] = 1.0009
    assert read(write(entry(person)), image_size=SIZE).keypoints.max() > 600
    person[0, 1] = 1.4  # as MediaPipe writes feet below the picture
    assert "neither pixels nor normalised" in refused(write(entry(person)), image_size=SIZE)


def test_two_points_near_the_corner_are_pixels(write: Callable[..., Path]) -> None:
    person = np.zeros((25, 3))
    person[:2] = (0.5, 0.25, 1)
    assert read(write(entry(person))).keypoints[0, 0].tolist() == [0.5, 0.25]


# --- does the picture belong to the keypoints ---


def test_wrong_picture(write: Callable[..., Path]) -> None:
    shifted = one() + np.array((2000, 0, 0))
    found = read(write(entry(one()), entry(shifted)), image_size=SIZE)
    reason = left_out(found)
    assert "most keypoints lie outside the 640x480 picture" in reason
    assert "EXIF-rotated or rescaled" in reason
    assert found.indices == (0,)
    line = refused(write(entry(shifted), entry(shifted)), image_size=SIZE)
    assert "most keypoints lie outside" in line
    assert "none of the 2 people" in line
    assert len(read(write(entry(shifted)))) == 1  # without a size nobody can tell


def test_single_points_far_outside(write: Callable[..., Path]) -> None:
    person = one()
    person[4, 0] = 640 + 65
    person[5, 1] = -65
    person[6, :2] = (640 + 63, -63)  # within a tenth of the long side
    found = read(write(entry(person)), image_size=SIZE)
    assert np.flatnonzero(found.confidence[0] == 0).tolist() == [4, 5]
    assert (found.keypoints[0, 4:6] == 0).all()
    assert found.keypoints[0, 6].tolist() == [703, -63]
    assert found.notes == ("person 0: 2 keypoints lie far outside the 640x480 picture; not used",)


def test_half_outside_is_kept(write: Callable[..., Path]) -> None:
    person = one()
    person[4:] = 0
    person[:2, 0] = 5000
    found = read(write(entry(person)), image_size=SIZE)
    assert np.count_nonzero(found.confidence) == 2
    assert "result is a guess" in found.notes[-1]
    person[2, 0] = 5000
    assert "most keypoints" in refused(write(entry(person)), image_size=SIZE)


@pytest.mark.parametrize("size", [(0, 480), (640, -1), (640,), (640.5, 480), "ab", (1, 2, 3)])
def test_senseless_size(write: Callable[..., Path], size: Any) -> None:
    with pytest.raises(InputError, match=r"image size: .* is not a width and a height"):
        read(write(entry(one())), image_size=size)


# --- arrays ---


def test_arrays_and_files_agree(write: Callable[..., Path]) -> None:
    people = np.stack([one(seed=i) for i in range(4)])
    people[1, 0] = (math.nan, 0, 1)
    people[2, 5:] = (9000, 9000, 0.5)
    people[3, 7:, 2] = 0
    before = people.copy()
    from_file = read(write(*(entry(p) for p in people)), image_size=SIZE)
    keypoints, confidence = people[..., :2], people[..., 2]
    found = read_arrays(keypoints, confidence, "body25", image_size=SIZE)
    assert np.array_equal(people, before, equal_nan=True)
    assert np.array_equal(found.keypoints, from_file.keypoints)
    assert np.array_equal(found.confidence, from_file.confidence)
    assert found.skipped == from_file.skipped
    assert (found.indices, found.notes) == (from_file.indices, from_file.notes)
    assert found.indices == (0, 3)
    assert not np.shares_memory(found.keypoints, people)
    assert not np.shares_memory(found.keypoints, found.confidence)


def test_read_only_arrays_lists_and_one_person() -> None:
    person = one()
    person.flags.writeable = False
    found = read_arrays(person[:, :2], person[:, 2], BODY25)
    assert len(found) == 1
    found.keypoints[:] = 0  # the caller's own copy
    again = read_arrays(person[None, :, :2].tolist(), [person[:, 2].tolist()], "body25")
    assert np.array_equal(again.keypoints[0], person[:, :2])


def test_no_people_in_arrays() -> None:
    assert len(read_arrays(np.zeros((0, 25, 2)), np.zeros((0, 25)), "body25")) == 0


@pytest.mark.parametrize(
    ("keypoints", "confidence", "schema", "text"),
    [
        (np.ones((1, 17, 2)), np.ones((1, 17)), "body25", r"\(1, 17, 2\); body25 needs"),
        (np.ones((1, 25, 3)), np.ones((1, 25)), "body25", r"\(1, 25, 3\); body25 needs"),
        (np.ones((1, 25, 2)), np.ones((2, 25)), "body25", "confidence: has shape"),
        (np.ones((25, 2)), np.ones((1, 25)), "body25", "keypoints: have shape"),
        ([[1], [2, 3]], [1], "body25", "keypoints: must be an array of numbers"),
        (np.ones((1, 25, 2)), "high", "body25", "confidence: must be an array of numbers"),
        (np.ones((1, 25, 2)), np.ones((1, 25)), "body", "no keypoint schema 'body'"),
        (np.ones((1, 25, 2)), np.ones((1, 25)), None, "no keypoint schema 'None'"),
        (np.ones((1, 25, 2)), np.zeros((1, 25)), "body25", "no keypoint was seen"),
        (np.full((2, 25, 2), np.nan), np.ones((2, 25)), "body25", "none of the 2 people"),
    ],
)
def test_refused_arrays(keypoints: Any, confidence: Any, schema: Any, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        read_arrays(keypoints, confidence, schema)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


# --- fuzz ---

VALID = json.dumps(
    {
        "version": 1.3,
        "people": [
            entry(one().round(3), face_keypoints_2d=[], hand_left_keypoints_2d=[]),
            entry((one(seed=1) * (1, 1, 0)).round(3)),
            entry(one(seed=2).round(1), person_id=[4]),
        ],
    }
)
PIECES = ["NaN", "-Infinity", "null", "1e999", "-1", "[", "]", "{", "}", '"', ",", ":", "\\", "\0"]
EDIT = st.tuples(
    st.integers(0, len(VALID)),  # where
    st.integers(0, 30),  # how much goes
    st.one_of(st.sampled_from(PIECES), st.text(max_size=4), st.just("")),
)


def is_sound(path: Path, image_size: tuple[int, int] | None) -> None:
    found, line = None, ""
    try:
        found = read(path, image_size=image_size)
    except InputError as error:
        line = str(error)
    assert line.isprintable()
    assert len(line) < 300
    if found is None:
        return
    shape = (len(found), len(found.schema))
    assert found.confidence.shape == shape
    assert found.keypoints.shape == (*shape, 2)
    assert np.isfinite(found.keypoints).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert (found.keypoints[found.confidence == 0] == 0).all()
    assert len(found.indices) == len(found.person_ids) == len(found)


SIZES = st.sampled_from([None, SIZE, (16, 16)])
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(edits=st.lists(EDIT, max_size=5), length=st.integers(0, len(VALID) * 4), size=SIZES)
@example(edits=[], length=len(VALID), size=SIZE)
def test_mutated_text_raises_nothing_else(
    tmp_path: Path, edits: list[tuple[int, int, str]], length: int, size: tuple[int, int] | None
) -> None:
    text = VALID
    for at, gone, new in edits:
        text = text[:at] + new + text[at + gone :]
    path = tmp_path / "fuzz.json"
    path.write_bytes(text[:length].encode("utf-8", "surrogatepass"))
    is_sound(path, size)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NUMBER = st.one_of(st.floats(), st.integers(), st.floats(-2, 2), st.none(), st.just(0))
VALUES = st.one_of(
    ANY_JSON,
    st.sampled_from([51, 54, 75, 99]).flatmap(lambda n: st.lists(NUMBER, min_size=n, max_size=n)),
)
PERSON = st.one_of(
    ANY_JSON, st.fixed_dictionaries({"person_id": ANY_JSON, "pose_keypoints_2d": VALUES})
)


@FUZZ
@given(people=st.one_of(ANY_JSON, st.lists(PERSON, max_size=3)), size=SIZES)
def test_any_content_raises_nothing_else(
    tmp_path: Path, people: object, size: tuple[int, int] | None
) -> None:
    path = tmp_path / "fuzz.json"
    path.write_text(json.dumps({"people": people}))
    is_sound(path, size)


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.json"
    path.write_bytes(content)
    is_sound(path, None)
