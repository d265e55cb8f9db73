"""Which format a keypoint file is of, and what every reader owes the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flowfit.fitting.reading.entries import Content
from flowfit.fitting.reading.formats import READERS, open_file, read
from tests.fitting.reading.test_openpose import SIZE, entry, one

PEOPLE = [one(seed=0), one(seed=1)]
# one file of each format, with the same two people
FILES = {
    "OpenPose JSON": {"people": [entry(p, person_id=[7]) for p in PEOPLE]},
    "EasyMocap annots": {
        "filename": "images/left/000012.jpg",
        "width": 640,
        "height": 480,
        "annots": [{"personID": 7, "keypoints": p.tolist(), "bbox": [0] * 5} for p in PEOPLE],
    },
}


def written(folder: Path, about: str) -> Path:
    path = folder / "some.json"
    path.write_text(json.dumps(FILES[about]))
    return path


@pytest.mark.parametrize("about", [reader.ABOUT for reader in READERS])
def test_one_reader_recognises_a_file_and_all_give_the_same_people(tmp_path, about):
    path = written(tmp_path, about)
    content = Content(path, path.read_bytes())
    assert [r.ABOUT for r in READERS if r.recognises(content)] == [about]
    assert open_file(path).about == about
    found = read(path, image_size=SIZE)
    assert np.array_equal(found.keypoints, np.stack(PEOPLE)[..., :2])
    assert np.array_equal(found.confidence, np.stack(PEOPLE)[..., 2])
    assert found.person_ids == (7, 7)
    assert found.path == path


def test_the_frame_and_the_size_are_kept_where_the_file_has_them(tmp_path):
    path = written(tmp_path, "EasyMocap annots")
    assert open_file(path).image_size == SIZE
    assert read(path).frames == ("000012", "000012")
    path = written(tmp_path, "OpenPose JSON")
    assert open_file(path).image_size is None
    assert read(path).frames == ("", "")


def test_the_size_in_the_file_scales_normalised_coordinates(tmp_path):
    content = dict(FILES["EasyMocap annots"])
    person = one() / (639, 479, 1)
    content["annots"] = [{"keypoints": person.tolist()}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    assert np.allclose(read(path).keypoints[0], one()[:, :2])


@pytest.mark.parametrize(
    ("person", "text"),
    [
        (3, "person 0 is a number, not an object"),
        ({"keypoints": "x"}, "person 0: keypoints is a text, not a list"),
        ({}, "person 0 has no keypoints"),
        ({"keypoints": [[1, 2, 3]] * 24}, "person 0 has 72 values in keypoints; BODY_25 needs 75"),
    ],
)
def test_what_is_wrong_with_somebody_in_annots(tmp_path, person, text):
    content = {"annots": [person, {"keypoints": one().tolist()}, {"keypoints": one().tolist()}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    found = read(path)
    assert found.indices == (1, 2)
    assert text in found.skipped[0][1]
