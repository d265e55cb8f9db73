"""From a scene's files to what the solver takes: one row for each person of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flowfit.fitting.scenes.match_people import Seen, people_of
from flowfit.fitting.scenes.scene import Scene
from flowfit.fitting.several_views.problem import MultiviewProblem
from flowfit.models.errors import InputError


@dataclass(frozen=True, eq=False)
class ScenePeople:
    """Everybody to be fitted, in the order of the frames.

    Attributes:
        frames: name of each row's frame. people: who each row is.
    """

    frames: tuple[str, ...]
    people: tuple[Seen, ...]

    def __len__(self) -> int:
        return len(self.people)

    def of(self, frames: Sequence[str]) -> ScenePeople:
        """The people of some frames."""
        wanted = set(frames)
        rows = [row for row, frame in enumerate(self.frames) if frame in wanted]
        return ScenePeople(
            tuple(self.frames[row] for row in rows), tuple(self.people[row] for row in rows)
        )


def find_people(
    scene: Scene, frames: Sequence[str], *, person: int | None = None, match: bool = False
) -> ScenePeople:
    """Who is in the frames.

    Args:
        person: number of the only one wanted. match: as in `people_of`.

    Raises:
        InputError: nobody can tell who is who, or the person is in none of the frames.
    """
    named: list[str] = []
    found: list[Seen] = []
    others: set[int] = set()
    for frame in frames:
        for seen in people_of(scene, frame, match=match):
            others.add(seen.number)
            if person is None or seen.number == person:
                named.append(frame)
                found.append(seen)
    if person is not None and not found:
        there = ", ".join(map(str, sorted(others))) or "nobody"
        raise InputError(f"{scene.folder}: no person {person} in these frames; there are {there}")
    return ScenePeople(tuple(named), tuple(found))


def lonely_views(people: ScenePeople, views: Sequence[str]) -> list[str]:
    """Lines about views that see people but none whom another view sees, while others do."""
    together = {view for one in people.people if len(one.rows) > 1 for view in one.rows}
    some = {view for one in people.people for view in one.rows}
    return [
        f"view {view} sees nobody whom another view sees: its calibration is suspicious, or its "
        "frames are of another time"
        for view in views
        if together and view in some - together
    ]


def problem_of(
    scene: Scene,
    people: ScenePeople,
    *,
    calibrated: bool,
    dtype: torch.dtype,
    device: str,
) -> MultiviewProblem:
    """The solver's problem: row by row the people, V views of the scene.

    Args:
        calibrated: give the solver the cameras' places, if the scene has them.
    """
    count = len(scene.schema)
    keypoints = torch.zeros(len(people), len(scene.views), count, 2, dtype=torch.float64)
    confidence = torch.zeros(len(people), len(scene.views), count, dtype=torch.float64)
    for row, (frame, seen) in enumerate(zip(people.frames, people.people, strict=True)):
        for place, view in enumerate(scene.views):
            if view in seen.rows:
                found = scene.people[frame, view]
                keypoints[row, place] = torch.from_numpy(found.keypoints[seen.rows[view]])
                confidence[row, place] = torch.from_numpy(found.confidence[seen.rows[view]])
    rig = scene.cameras.rig if calibrated and scene.cameras is not None else None
    return MultiviewProblem.build(
        scene.schema,
        keypoints.to(dtype=dtype, device=device),
        confidence.to(dtype=dtype, device=device),
        scene.lens.to(dtype=dtype, device=device),
        None if rig is None else rig.to(dtype=dtype, device=device),
    )
