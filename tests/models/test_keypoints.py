from __future__ import annotations

import pytest
from smplx.vertex_ids import vertex_ids

from flowfit.models.keypoints import (
    BODY25,
    COCO17,
    COCO18,
    HALPE26,
    LSP14,
    PROHMR44,
    SCHEMAS,
    SMPL_VERTEX_IDS,
    VERTEX_LANDMARKS,
    KeypointSchema,
    mirrored_keypoint,
)
from flowfit.models.kinematics import JOINT_NAMES

every_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def test_lengths():
    assert {name: len(schema) for name, schema in SCHEMAS.items()} == {
        "body25": 25,
        "coco17": 17,
        "coco18": 18,
        "halpe26": 26,
        "mediapipe33": 33,
        "h36m17": 17,
        "lsp14": 14,
        "smpl24": 24,
        "prohmr44": 44,
        "spin24": 24,
    }


@every_schema
def test_names_are_distinct_and_edges_exist(schema):
    assert len(set(schema.names)) == len(schema)
    assert [schema.index(n) for n in schema.names] == list(range(len(schema)))
    pairs = [frozenset(edge) for edge in schema.edges]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)
    for a, b in schema.edge_indices:
        assert 0 <= a < len(schema)
        assert 0 <= b < len(schema)


@every_schema
def test_flip_is_an_involution_that_keeps_the_edges(schema):
    flip = schema.flip
    assert sorted(flip) == list(range(len(schema)))
    assert all(flip[flip[i]] == i for i in range(len(schema)))
    edges = {frozenset(e) for e in schema.edge_indices}
    assert {frozenset((flip[a], flip[b])) for a, b in edges} == edges
    sided = [n for n in schema.names if n != schema.names[flip[schema.index(n)]]]
    assert len(sided) % 2 == 0
    assert len(sided) >= 12


@every_schema
def test_landmarks_are_known_sum_to_one_and_mirror(schema):
    known = set(JOINT_NAMES) | set(VERTEX_LANDMARKS)
    for name in schema.names:
        points = schema.landmarks(name)
        if points is None:
            assert schema.name == "mediapipe33"
            continue
        assert set(points) <= known
        assert sum(points.values()) == pytest.approx(1)


def test_mirrored_names():
    assert mirrored_keypoint("LKnee") == "RKnee"
    assert mirrored_keypoint("lsp:RHip") == "lsp:LHip"
    assert mirrored_keypoint("left_hip") == "right_hip"
    for name in ("Nose", "Neck", "MidHip", "head", "pelvis", "lsp:HeadTop"):
        assert mirrored_keypoint(name) == name


def test_body25_order():
    order = (
        "Nose, Neck, RShoulder, RElbow, RWrist, LShoulder, LElbow, LWrist, MidHip, RHip, RKnee, "
        "RAnkle, LHip, LKnee, LAnkle, REye, LEye, REar, LEar, LBigToe, LSmallToe, LHeel, RBigToe, "
        "RSmallToe, RHeel"
    )
    assert ", ".join(BODY25.names) == order


def test_prohmr44_is_body25_and_nineteen_more():
    assert PROHMR44.names[:25] == BODY25.names
    extra = (
        "RAnkle RKnee RHip LHip LKnee LAnkle RWrist RElbow RShoulder LShoulder LElbow LWrist "
        "Neck HeadTop Pelvis Thorax Spine Jaw Head"
    )
    assert [n.removeprefix("lsp:") for n in PROHMR44.names[25:]] == extra.split()


def test_other_orders():
    assert COCO17.names == (
        *("Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow"),
        *("LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle"),
    )
    assert HALPE26.names[:17] == COCO17.names
    assert COCO18.names[:8] == BODY25.names[:8]
    assert LSP14.names[:6] == ("RAnkle", "RKnee", "RHip", "LHip", "LKnee", "LAnkle")


def test_vertex_numbers_are_smplx_ones():
    theirs = vertex_ids["smplh"]
    assert {n: v for n, v in SMPL_VERTEX_IDS.items() if n != "head_top"} == {
        n: theirs[n] for n in VERTEX_LANDMARKS if n != "head_top"
    }


def test_map_to():
    assert BODY25.map_to(BODY25) == tuple(range(25))
    places = BODY25.map_to(COCO17)
    assert [BODY25.names[i] for i in places] == list(COCO17.names)
    places = COCO17.map_to(BODY25)
    assert places[BODY25.index("Neck")] == places[BODY25.index("LHeel")] == -1
    assert places[BODY25.index("LKnee")] == COCO17.index("LKnee")
    # the same body point under another name
    places = SCHEMAS["smpl24"].map_to(BODY25)
    assert JOINT_NAMES[places[BODY25.index("Neck")]] == "neck"
    assert JOINT_NAMES[places[BODY25.index("MidHip")]] == "pelvis"
    assert places[BODY25.index("Nose")] == -1
    places = PROHMR44.map_to(LSP14)
    assert places[LSP14.index("RAnkle")] == PROHMR44.index("RAnkle")
    assert places[LSP14.index("HeadTop")] == PROHMR44.index("lsp:HeadTop")


def test_midpoints():
    assert BODY25.midpoint_of("Neck") == ("LShoulder", "RShoulder")
    assert BODY25.midpoint_of("MidHip") == ("LHip", "RHip")
    assert BODY25.midpoint_of("Nose") is None


def test_mistakes_are_named():
    with pytest.raises(KeyError, match=r"no keypoint 'Tail'.*Nose"):
        BODY25.index("Tail")
    with pytest.raises(ValueError, match="twice"):
        KeypointSchema("x", ("Nose", "Nose"), ())
    with pytest.raises(ValueError, match="unknown"):
        KeypointSchema("x", ("Nose",), (("Nose", "Tail"),))
    assert BODY25.indices(["Nose", "RHeel"]) == [0, 24]
    assert "Tail" not in BODY25
