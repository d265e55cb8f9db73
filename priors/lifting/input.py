"""What a lifting network is told: a skeleton of any keypoint schema, by name, as one of its own.

Human3.6M's 17 joints are what is lifted. The released layout is told those; the built-in network
is told the nose, eyes and ears as well, which say where a head looks and which most detectors
report in place of Human3.6M's spine, jaw and top of the head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.models.keypoints import H36M17, KeypointSchema

ROOT = "MidHip"
JOINTS = H36M17  # what is lifted
LIFTED = tuple(name for name in JOINTS.names if name != ROOT)  # the root is the origin
FACE = ("Nose", "LEye", "REye", "LEar", "REar")
WITH_FACE = KeypointSchema("h36m17+face", (*H36M17.names, *FACE), H36M17.edges)
INPUT_SCHEMAS = {s.name: s for s in (H36M17, WITH_FACE)}
# what stands for a joint that a schema does not name, the first of which all was seen
_STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    "MidHip": (("LHip", "RHip"), ("Pelvis",)),
    "Thorax": (("LShoulder", "RShoulder"), ("Neck",)),
}
_OTHER_DATASET = "lsp:"  # twins of a joint in ProHMR's table


def to_joints(
    given: KeypointSchema, wanted: KeypointSchema, points: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """Points of one schema as another's, by name; new tensors.

    A joint that `given` names, itself or by the body's landmark, is taken where it was seen; else
    its twin of another dataset; else the middle of what stands for it, where all of that was seen.
    What then is still missing has confidence 0 and lies at 0.

    Args:
        points: (B, K, 2) pixels, or (B, K, 3) metres. confidence: (B, K); 0 = not seen.

    Returns:
        (B, J, 2 or 3) and (B, J).
    """
    own = given.map_to(wanted)
    moved = points.new_zeros(len(points), len(wanted), points.shape[-1])
    trust = confidence.new_zeros(len(points), len(wanted))
    for place, name in enumerate(wanted.names):
        for ends in _sources(given, name, own[place]):
            found = confidence[:, ends].amin(-1)
            take = (trust[:, place] <= 0) & (found > 0)
            middle = points[:, ends].mean(1)
            moved[:, place] = torch.where(take[:, None], middle, moved[:, place])
            trust[:, place] = torch.where(take, found, trust[:, place])
    return moved, trust


def _sources(given: KeypointSchema, name: str, same: int) -> list[list[int]]:
    """Places whose middle may stand for a joint, best first."""
    found = [] if same < 0 else [[same]]
    choices = ((name,), (_OTHER_DATASET + name,), *_STAND_INS.get(name, ()))
    for ends in choices:
        if all(end in given for end in ends):
            found.append(given.indices(list(ends)))
    return found
