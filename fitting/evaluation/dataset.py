"""A dataset's people, read from its files, as the evaluation wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.evaluation.people import Watched, field_joints
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.priors.base import Pose
from flowfit.priors.data.datasets.layouts import EXTRA
from flowfit.priors.data.datasets.people import SCHEMA, SINGLE, PictureSet
from flowfit.priors.data.datasets.registry import Found
from flowfit.priors.data.pictures.batches import PictureReader
from flowfit.priors.networks.encoders import Boxes


class DatasetPeople:
    """People of a dataset that was found.

    Args:
        found: the dataset. body: whose joints stand for those that the file leaves out, where it
            has bodies; of a person of known gender `of_gender`["m"] or ["f"], if there.
        count: at most so many people (or, of several views, moments), spread evenly; None for all.
            together: of a part. size: pixels of the crops.

    Raises:
        InputError: it has nothing to judge by.
    """

    def __init__(
        self,
        found: Found,
        body: Body,
        *,
        of_gender: Mapping[str, Body] | None = None,
        count: int | None,
        together: int,
        size: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        if not found.joints:
            raise InputError(
                f"{found.people.name}: has no 3D truth to evaluate against; 3D joints "
                "(extra_keypoints_3d or S) or bodies (body_pose, betas) are needed"
            )
        self.joints = field_joints(found.joints)
        self.people = found.people
        self.sets: tuple[str, ...] = (found.people.name,)
        self.body, self.dtype, self.device = body, dtype, device
        self.of_gender = of_gender or {}
        self.reader = PictureReader(body.to(dtype=torch.float32, device="cpu"), size)
        self.groups = _parts(found.people, count, together)

    def parts(self, name: str) -> int:
        """See `PeopleSource`."""
        return len(self.groups)

    def part(self, name: str, number: int) -> tuple[Watched | None, list[tuple[str, str]]]:
        """See `PeopleSource`."""
        people = self.people.rows(self.groups[number])
        try:
            batch = self.reader.read(people)
        except InputError as error:  # every picture of this part is bad
            return None, [(people.pictures[0], str(error))]
        people, labels = people.rows(batch.rows), batch.labels

        def to(tensor: Tensor) -> Tensor:
            return tensor.to(dtype=self.dtype, device=self.device)

        def problem(schema: KeypointSchema) -> FitProblem:
            places = SCHEMA.indices(schema.names)
            confidence = to(labels.confidence[:, places])
            camera = Camera(to(labels.camera.focal), to(labels.camera.center))
            return FitProblem.build(schema, to(labels.keypoints[:, places]), confidence, camera)

        points, known = to(labels.points), labels.points_confidence.to(self.device) > 0
        posed = (labels.has_pose & labels.has_betas).to(self.device)
        own = self._joints(people.gender, to(labels.betas), to(labels.rotations))
        # a file's joints and a body's have different origins: one or the other
        none = ~known[:, SCHEMA.indices(self.joints.names)].any(-1)
        instead = (none & posed)[:, None] & own.isfinite().all(-1)
        truth = torch.where(instead[..., None], own, points)
        pose = Pose(
            torch.where(posed[:, None, None, None], to(labels.rotations), torch.nan),
            torch.where(posed[:, None], to(labels.betas), torch.nan),
        )
        names = tuple(f"{n} ({i})" for n, i in zip(people.pictures, batch.rows, strict=True))
        box = Boxes(to(labels.box.center), to(labels.box.side))
        return (
            Watched(
                names,
                to(batch.images),
                box,
                problem(BODY25),
                problem(EXTRA),
                truth,
                known | instead,
                pose,
                torch.from_numpy(people.frame),
            ),
            list(batch.bad),
        )

    def _joints(self, gender: Sequence[str], betas: Tensor, rotations: Tensor) -> Tensor:
        """(B, K, 3) joints of bodies, each of the own gender's model where there is one."""
        found = self.joints.of(self.body, betas, rotations)
        for kind, body in self.of_gender.items():
            rows = torch.tensor([i for i, g in enumerate(gender) if g == kind], dtype=torch.long)
            if len(rows):
                found[rows] = self.joints.of(body, betas[rows], rotations[rows])
        return found


def _parts(people: PictureSet, count: int | None, together: int) -> list[np.ndarray]:
    """Rows of each part; the views of a moment stay together."""
    alone = people.frame == SINGLE
    key = np.where(alone, np.arange(len(people)), people.frame)
    moments, first = np.unique(np.where(alone, key, -1 - key), return_index=True)
    moments = moments[np.argsort(first, kind="stable")]
    if count is not None and count < len(moments):
        moments = moments[np.linspace(0, len(moments) - 1, count).round().astype(np.int64)]
    signed = np.where(alone, key, -1 - key)
    rows: list[np.ndarray] = []
    current: list[int] = []
    for moment in moments:
        current += np.flatnonzero(signed == moment).tolist()
        if len(current) >= together:
            rows.append(np.array(current))
            current = []
    if current:
        rows.append(np.array(current))
    return rows
