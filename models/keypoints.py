"""Every keypoint table of the project. Keypoints are used by name; nothing else holds an index.

A schema lists keypoints in a file's order. Each keypoint is, where the body has a counterpart, a
weighted mean of *landmarks*: SMPL's 24 joints and a few named vertices (nose, eyes, ears, toes,
heels, top of the head). Flips and maps between schemas follow from the names and landmarks.

Left and right are the person's own. The tables state where the SMPL field puts a keypoint: for
OpenPose `Neck` and `MidHip` that is SMPL's neck and pelvis joint, although detectors report the
midpoints of the shoulders and of the hips (`midpoint_of` says which, for whoever weighs them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from flowfit.models.kinematics import JOINT_NAMES, PARENTS, mirrored_name

# names of the vertices that a body file marks; smplx's `vertex_ids` uses the same
VERTEX_LANDMARKS: tuple[str, ...] = (
    *("nose", "reye", "leye", "rear", "lear"),
    *("rthumb", "rindex", "rmiddle", "rring", "rpinky"),
    *("lthumb", "lindex", "lmiddle", "lring", "lpinky"),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
    "head_top",
)
# vertex numbers on the SMPL template of 6,890 vertices (smplx `vertex_ids`; head_top as SMPLify)
SMPL_NUM_VERTICES = 6890
SMPL_VERTEX_IDS: dict[str, int] = dict(
    zip(
        VERTEX_LANDMARKS,
        (
            *(332, 6260, 2800, 4071, 583),
            *(6191, 5782, 5905, 6016, 6133),
            *(2746, 2319, 2445, 2556, 2673),
            *(3216, 3226, 3387, 6617, 6624, 6787),
            411,
        ),
        strict=True,
    )
)

Landmarks = Mapping[str, float]


def _at(name: str) -> Landmarks:
    return {name: 1.0}


def _mid(*names: str) -> Landmarks:
    return {name: 1.0 / len(names) for name in names}


def _both_sides(table: dict[str, str]) -> dict[str, Landmarks]:
    """{'Knee': 'knee'} -> LKnee: left_knee, RKnee: right_knee."""
    return {
        letter + name: _at(f"{side}_{joint}")
        for name, joint in table.items()
        for letter, side in (("L", "left"), ("R", "right"))
    }


_LIMBS = {
    "Shoulder": "shoulder",
    "Elbow": "elbow",
    "Wrist": "wrist",
    "Hip": "hip",
    "Knee": "knee",
    "Ankle": "ankle",
}
# where each keypoint of any schema lies on the body
_BODY_POINTS: dict[str, Landmarks] = {
    **_both_sides(_LIMBS),
    "Nose": _at("nose"),
    "REye": _at("reye"),
    "LEye": _at("leye"),
    "REar": _at("rear"),
    "LEar": _at("lear"),
    "Neck": _at("neck"),
    "MidHip": _at("pelvis"),
    "LBigToe": _at("LBigToe"),
    "LSmallToe": _at("LSmallToe"),
    "LHeel": _at("LHeel"),
    "RBigToe": _at("RBigToe"),
    "RSmallToe": _at("RSmallToe"),
    "RHeel": _at("RHeel"),
    "HeadTop": _at("head_top"),
    "Head": _mid("reye", "leye", "rear", "lear", "head_top"),
    "Jaw": _mid("neck", "nose"),
    "Thorax": _mid("left_shoulder", "right_shoulder"),
    "Spine": _at("spine2"),
    "Pelvis": _mid("left_hip", "right_hip"),
    **{name: _at(name) for name in JOINT_NAMES},
}
_MIDPOINTS = {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}


def mirrored_keypoint(name: str) -> str:
    """LKnee <-> RKnee, left_knee <-> right_knee; names of the middle stay."""
    prefix, dash, rest = name.rpartition(":")  # "lsp:RKnee" keeps its prefix
    if len(rest) > 1 and rest[0] in "LR" and rest[1].isupper():
        rest = ("R" if rest[0] == "L" else "L") + rest[1:]
    else:
        rest = mirrored_name(rest)
    return prefix + dash + rest


@dataclass(frozen=True, eq=False)
class KeypointSchema:
    """An ordered list of named keypoints.

    Attributes:
        name: the schema's own name, for example "body25".
        names: keypoint names in file order; length K.
        edges: pairs of names to draw as bones.
    """

    name: str
    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    _indices: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        indices = {n: i for i, n in enumerate(self.names)}
        if len(indices) != len(self.names):
            raise ValueError(f"schema {self.name}: a keypoint name stands twice")
        unknown = [n for edge in self.edges for n in edge if n not in indices]
        if unknown:
            raise ValueError(f"schema {self.name}: edges name unknown keypoints {unknown}")
        object.__setattr__(self, "_indices", indices)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._indices

    def index(self, name: str) -> int:
        """Place of a keypoint; KeyError lists the names there are."""
        try:
            return self._indices[name]
        except KeyError:
            raise KeyError(
                f"schema {self.name} has no keypoint {name!r}; it has {', '.join(self.names)}"
            ) from None

    def indices(self, names: tuple[str, ...] | list[str]) -> list[int]:
        """Places of several keypoints."""
        return [self.index(n) for n in names]

    def landmarks(self, name: str) -> Landmarks | None:
        """Where the keypoint lies on the body, or None when the body has no such point."""
        self.index(name)
        return _BODY_POINTS.get(name.rpartition(":")[2])

    def midpoint_of(self, name: str) -> tuple[str, str] | None:
        """The two keypoints whose midpoint a detector reports under this name, if it does."""
        pair = _MIDPOINTS.get(name)
        return pair if pair is not None and pair[0] in self and pair[1] in self else None

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """Permutation that exchanges left and right."""
        return tuple(self.index(mirrored_keypoint(n)) for n in self.names)

    @cached_property
    def edge_indices(self) -> tuple[tuple[int, int], ...]:
        """The edges as places."""
        return tuple((self.index(a), self.index(b)) for a, b in self.edges)

    def map_to(self, other: KeypointSchema) -> tuple[int, ...]:
        """For each keypoint of `other` the place of the same body point here, or -1."""
        own: dict[object, int] = {}
        for i, n in enumerate(self.names):
            own.setdefault(self._meaning(n), i)
        return tuple(
            self._indices[n] if n in self else own.get(other._meaning(n), -1) for n in other.names
        )

    def _meaning(self, name: str) -> object:
        points = self.landmarks(name)
        return name if points is None else tuple(sorted(points.items()))


def _chain(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple(pairwise(names))


_LEGS = (*_chain("RHip", "RKnee", "RAnkle"), *_chain("LHip", "LKnee", "LAnkle"))
_ARMS = (*_chain("RShoulder", "RElbow", "RWrist"), *_chain("LShoulder", "LElbow", "LWrist"))
_FACE = (*_chain("Nose", "REye", "REar"), *_chain("Nose", "LEye", "LEar"))
_FEET = (
    *_chain("LAnkle", "LBigToe", "LSmallToe"),
    ("LAnkle", "LHeel"),
    *_chain("RAnkle", "RBigToe", "RSmallToe"),
    ("RAnkle", "RHeel"),
)
_NECK_TRUNK = (
    ("Neck", "RShoulder"),
    ("Neck", "LShoulder"),
    ("Neck", "MidHip"),
    ("MidHip", "RHip"),
    ("MidHip", "LHip"),
)
_BOX_TRUNK = (
    *_chain("LShoulder", "RShoulder", "RHip", "LHip", "LShoulder"),
    ("Nose", "LShoulder"),
    ("Nose", "RShoulder"),
)

BODY25 = KeypointSchema(
    "body25",
    (
        *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist"),
        *("MidHip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle"),
        *("REye", "LEye", "REar", "LEar"),
        *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
    ),
    (*_NECK_TRUNK, ("Neck", "Nose"), *_ARMS, *_LEGS, *_FACE, *_FEET),
)
COCO18 = KeypointSchema(  # OpenPose's older model: COCO and a neck
    "coco18",
    (
        *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist"),
        *("RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar"),
    ),
    (
        *(("Neck", "RShoulder"), ("Neck", "LShoulder"), ("Neck", "RHip"), ("Neck", "LHip")),
        *(("Neck", "Nose"), *_ARMS, *_LEGS, *_FACE),
    ),
)
_COCO_NAMES = (
    *("Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow"),
    *("LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle"),
)
COCO17 = KeypointSchema("coco17", _COCO_NAMES, (*_BOX_TRUNK, *_ARMS, *_LEGS, *_FACE))
HALPE26 = KeypointSchema(
    "halpe26",
    (
        *_COCO_NAMES,
        *("HeadTop", "Neck", "MidHip"),
        *("LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel"),
    ),
    (*_NECK_TRUNK, ("Neck", "Nose"), ("Nose", "HeadTop"), *_ARMS, *_LEGS, *_FACE, *_FEET),
)
MEDIAPIPE33 = KeypointSchema(
    "mediapipe33",
    (
        *("Nose", "LEyeInner", "LEye", "LEyeOuter", "REyeInner", "REye", "REyeOuter"),
        *("LEar", "REar", "LMouth", "RMouth", "LShoulder", "RShoulder", "LElbow", "RElbow"),
        *("LWrist", "RWrist", "LPinky", "RPinky", "LIndex", "RIndex", "LThumb", "RThumb"),
        *("LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle", "LHeel", "RHeel"),
        *("LBigToe", "RBigToe"),
    ),
    (
        *(*_BOX_TRUNK, *_ARMS, *_LEGS, *_FACE, ("LMouth", "RMouth")),
        *(("LWrist", "LPinky"), ("LWrist", "LIndex"), ("LWrist", "LThumb")),
        *(("RWrist", "RPinky"), ("RWrist", "RIndex"), ("RWrist", "RThumb")),
        *_chain("LAnkle", "LHeel", "LBigToe"),
        *_chain("RAnkle", "RHeel", "RBigToe"),
    ),
)
H36M17 = KeypointSchema(
    "h36m17",
    (
        *("MidHip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle"),
        *("Spine", "Thorax", "Jaw", "HeadTop"),
        *("LShoulder", "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist"),
    ),
    (
        *(("MidHip", "RHip"), ("MidHip", "LHip")),
        *_chain("MidHip", "Spine", "Thorax", "Jaw", "HeadTop"),
        *(("Thorax", "LShoulder"), ("Thorax", "RShoulder"), *_ARMS, *_LEGS),
    ),
)
_LSP_NAMES = (
    *("RAnkle", "RKnee", "RHip", "LHip", "LKnee", "LAnkle"),
    *("RWrist", "RElbow", "RShoulder", "LShoulder", "LElbow", "LWrist", "Neck", "HeadTop"),
)
LSP14 = KeypointSchema(
    "lsp14",
    _LSP_NAMES,
    (("Neck", "HeadTop"), *_BOX_TRUNK[:4], *_ARMS, *_LEGS),
)
SMPL24 = KeypointSchema(
    "smpl24",
    JOINT_NAMES,
    tuple((JOINT_NAMES[p], n) for n, p in zip(JOINT_NAMES, PARENTS, strict=True) if p >= 0),
)
# ProHMR's order: OpenPose's 25, then 19 of other datasets ("lsp:" tells the twins apart)
_PROHMR_EXTRA = (
    *(f"lsp:{n}" for n in _LSP_NAMES),
    *("Pelvis", "Thorax", "Spine", "Jaw", "Head"),
)
PROHMR44 = KeypointSchema("prohmr44", (*BODY25.names, *_PROHMR_EXTRA), BODY25.edges)
SPIN24 = KeypointSchema(  # of SPIN's dataset files: "part" and "S"
    "spin24",
    (*_PROHMR_EXTRA, *_COCO_NAMES[: _COCO_NAMES.index("LShoulder")]),
    tuple((f"lsp:{a}", f"lsp:{b}") for a, b in LSP14.edges if {a, b} <= set(_LSP_NAMES)),
)

SCHEMAS: dict[str, KeypointSchema] = {
    s.name: s
    for s in (BODY25, COCO17, COCO18, HALPE26, MEDIAPIPE33, H36M17, LSP14, SMPL24, PROHMR44, SPIN24)
}
