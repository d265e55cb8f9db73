"""The built-in dataset: made-up people, drawn as they are needed. It needs no files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.evaluation.people import SMPL, Watched
from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, SCHEMAS
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose
from flowfit.priors.data.drawn.draw_people import PeopleDrawer
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, PeopleMaker, Scenery
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.load import posterior_file

VIEWS = "views"  # every person in four pictures, from all around, by cameras that nobody knows
SETS: dict[str, Scenery] = {"plain": Scenery(), "truncated": TRUNCATED, VIEWS: Scenery()}
_AROUND, _ASTRAY = 4, 20.0  # views; degrees by which they differ from even steps, at most
_POSES = 4000  # drawn where there is no motion capture
_STRIDE = 7919  # between the seeds of the parts


class SyntheticPeople:
    """Pictures of people whom no training has seen, when `poses` are of unseen recordings.

    Args:
        body: whose keypoints and joints. drawn: whose mesh is drawn; a coarser one of the same
            shapes will do. poses: (T, 24, 3, 3) world rotations, y up, and weights: (T,) or None.
        count: people a set. together: of a part. size: pixels of the crops. seed: of everything.
        dtype: of what comes out; people are drawn in float32 whatever it is.
    """

    joints = SMPL

    def __init__(
        self,
        body: Body,
        drawn: Body,
        poses: Tensor,
        weights: Tensor | None,
        *,
        sets: tuple[str, ...],
        count: int,
        together: int,
        size: int,
        seed: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        single = body.to(dtype=torch.float32, device="cpu")
        if together % _AROUND:
            raise ValueError(f"a part must hold whole moments of {_AROUND} views")
        self.sets, self.count, self.together, self.seed = sets, count, together, seed
        self.makers = {
            name: PeopleMaker(single, poses, weights, BODY25, Detector(), SETS[name])
            for name in sets
        }
        self.body, self.dtype, self.device = single, dtype, device
        self.drawer = PeopleDrawer(drawn.to(dtype=torch.float32, device="cpu"), size)

    def parts(self, name: str) -> int:
        """See `PeopleSource`."""
        return -(-self._pictures(name) // self.together)

    def _pictures(self, name: str) -> int:
        return self.count if name != VIEWS else _AROUND * max(1, self.count // _AROUND)

    def part(self, name: str, number: int) -> tuple[Watched, list[tuple[str, str]]]:
        """See `PeopleSource`; a part is the same whichever others were made."""
        first = number * self.together
        count = min(self.together, self._pictures(name) - first)
        place = list(SETS).index(name)
        generator = torch.Generator().manual_seed(
            (self.seed * len(SETS) + place) * _STRIDE + number
        )
        frame = torch.full((count,), -1)
        if name == VIEWS:
            people = self._from_all_around(count // _AROUND, generator)
            frame = (first + torch.arange(count)) // _AROUND
        else:
            people = self.makers[name].draw(count, generator)
        made = self.drawer.draw(people, generator)
        people = made.people

        def to(tensor: Tensor) -> Tensor:
            return tensor.to(dtype=self.dtype, device=self.device)

        camera = Camera(to(people.camera.focal), to(people.camera.center))
        detected = FitProblem.build(BODY25, to(people.keypoints), to(people.confidence), camera)
        true = people.true_keypoints
        inside = true.isfinite().all(-1) & ((true >= 0) & (true < people.size[:, None])).all(-1)
        annotated = FitProblem.build(BODY25, to(true.nan_to_num()), to(inside.float()), camera)
        truth = to(self.joints.of(self.body, people.betas, people.rotations))
        box = type(made.box)(to(made.box.center), to(made.box.side))
        return (
            Watched(
                tuple(f"{name} {first + i}" for i in range(count)),
                to(made.images.float() / 255),
                box,
                detected,
                annotated,
                truth,
                torch.ones(truth.shape[:2], dtype=torch.bool, device=self.device),
                Pose(to(people.rotations), to(people.betas)),
                frame,
            ),
            [],
        )

    def _from_all_around(self, count: int, generator: torch.Generator) -> People:
        """`count` people, each as often as there are views, turned about the picture's upright."""
        maker = self.makers[VIEWS]
        drawn = maker.draw(count, generator)
        each = torch.arange(count).repeat_interleave(_AROUND)
        degrees = (360.0 / _AROUND) * torch.arange(_AROUND).repeat(count)
        degrees = degrees + _ASTRAY * (2 * torch.rand(len(each), generator=generator) - 1)
        zero = torch.zeros_like(degrees)
        turn = axis_angle_to_matrix(torch.stack((zero, torch.deg2rad(degrees), zero), -1))
        rotations = drawn.rotations[each]
        rotations = torch.cat(((turn @ rotations[:, 0])[:, None], rotations[:, 1:]), 1)
        seen = rotations, drawn.betas[each], drawn.transl[each]
        return maker.watch(*seen, drawn.camera.rows(each), drawn.size[each], generator)


def mocap_poses(folder: Path) -> tuple[Tensor, Tensor]:
    """World rotations (T, 24, 3, 3) of recordings and how often each frame is drawn."""
    recordings = read_mocap(folder)
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).float())
    return poses, torch.from_numpy(recordings.balanced_weights()).float()


def drawn_poses(seed: int) -> Tensor:
    """World rotations (T, 24, 3, 3) that the built-in pose prior draws.

    For where there is no motion capture. It knows the world from a camera that is about level;
    what it draws is turned back as if that one had been.
    """
    posterior, about = load_posterior(posterior_file("pose-flow"))
    like = next(posterior.parameters())
    nothing = like.new_zeros(1, len(SCHEMAS[about["schema"]]))
    camera = Camera(like.new_ones(1, 2), like.new_zeros(1, 2))
    with torch.no_grad():
        context = posterior.condition(nothing[..., None].expand(-1, -1, 2), nothing, camera)
        generator = torch.Generator().manual_seed(seed)
        rotations = posterior.sample(context, _POSES, generator).rotations[0]
    level = torch.diag(like.new_tensor([1.0, -1.0, -1.0]))
    return torch.cat((level @ rotations[:, :1], rotations[:, 1:]), 1)
