"""Made-up people whose keypoints are bad in many ways: what a quality score has to tell apart."""

from __future__ import annotations

from pathlib import Path

import torch

from flowfit.models.body import Body
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, PeopleMaker, Scenery

_APART = 1000  # seeds of sets
LEAST_SEEN = 2  # keypoints; `fit` takes people from two on
CORRUPTED = {
    "plain": (Detector(), Scenery()),
    "cropped": (Detector(cropped=1.0), Scenery()),
    "truncated": (Detector(), TRUNCATED),
    "two wrong": (Detector(wrong_but_sure=2), Scenery()),
    "six wrong": (Detector(wrong_but_sure=6, wrong_by=(0.15, 0.6)), Scenery()),
    "noise x 3": (Detector(noise=3.0), Scenery()),
    "sides exchanged": (Detector(swaps=0.6), Scenery()),
    "half missed": (Detector(missed=0.5, hidden_limbs=0.2), Scenery()),
    "truncated, three wrong": (Detector(wrong_but_sure=3, wrong_by=(0.15, 0.4)), TRUNCATED),
    "few seen": (Detector(missed=0.8), Scenery()),
}


def made_up(
    mocap: Path,
    body: Body,
    sets: dict[str, tuple[Detector, Scenery]],
    people: int,
    seed: int,
    *,
    same: bool = True,
) -> dict[str, People]:
    """People of every set, from recordings: the same bodies in each, or others."""
    recordings = read_mocap(mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).to(body.dtype))
    weights = torch.from_numpy(recordings.balanced_weights()).to(body.dtype)
    drawn = {}
    for place, (name, (detector, scenery)) in enumerate(sets.items()):
        maker = PeopleMaker(body, poses, weights, BODY25, detector, scenery)
        generator = torch.Generator().manual_seed(seed if same else seed + _APART * place)
        drawn[name] = maker.draw(people, generator, least_seen=LEAST_SEEN)
    return drawn
