"""Made-up people seen by made-up cameras through a made-up detector.

Poses come from motion capture; shape, place, camera and the detector's errors are drawn here. The
errors imitate a 2D pose detector: noise in proportion to the person's box and larger on hips,
hands and feet, gross outliers, joints that are missed, whole limbs hidden, the picture's frame
cutting people off, faces that are not seen from behind, and confidences that go with the error.
Everything follows from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, KeypointSchema
from flowfit.models.kinematics import forward_kinematics, joint_index
from flowfit.models.proportions import stature
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.offsets import KeypointOffsets
from flowfit.priors.data.people.physique import Physique

# standard deviation of a detector's error, per cent of the person's box, by end of the name
_NOISE_PERCENT = {
    **{"Nose": 0.5, "Eye": 0.5, "Ear": 0.7, "Neck": 1.0, "Shoulder": 1.1, "Elbow": 1.2},
    **{"Wrist": 1.3, "Hip": 1.5, "Knee": 1.2, "Ankle": 1.2, "Toe": 1.5, "Heel": 1.5},
}
_OTHER_NOISE_PERCENT = 1.5
_LIMBS = (
    ("LShoulder", "LElbow", "LWrist"),
    ("RShoulder", "RElbow", "RWrist"),
    ("LKnee", "LAnkle", "LBigToe", "LSmallToe", "LHeel"),
    ("RKnee", "RAnkle", "RBigToe", "RSmallToe", "RHeel"),
    ("LHip", "LKnee", "LAnkle", "LBigToe", "LSmallToe", "LHeel"),
    ("RHip", "RKnee", "RAnkle", "RBigToe", "RSmallToe", "RHeel"),
)
_SIZES = ((640, 480), (480, 640), (1280, 720), (720, 1280), (1920, 1080), (1000, 1000))


@dataclass(frozen=True)
class Detector:
    """How a detector errs.

    Attributes:
        noise: factor on the table of joint noises. outliers: share of keypoints that are grossly
            wrong, by `outlier_size` of the box. missed: share of keypoints not found.
        hidden_limbs: chance that a limb is occluded. swaps: chance that a person's legs (or arms)
            have left and right exchanged.
        cropped: chance that only a part of the person is in the picture given to the detector: the
            lower part is cut off, or one side (as in AH36M).
        wrong_but_sure: so many keypoints of a person are off by `wrong_by` (range, in boxes), with
            the confidence of good ones; of `wrong_share` of the people.
    """

    noise: float = 1.0
    outliers: float = 0.02
    outlier_size: float = 0.15
    missed: float = 0.03
    hidden_limbs: float = 0.05
    swaps: float = 0.01
    cropped: float = 0.0
    wrong_but_sure: int = 0
    wrong_by: tuple[float, float] = (0.33, 0.33)
    wrong_share: float = 1.0


@dataclass(frozen=True)
class Scenery:
    """Where people stand and how they are filmed.

    Attributes:
        box: range of the body's height in the picture, as a share of the picture's height.
        off_centre: how far from the middle the body's centre may be, as a share of the picture.
        focal: range of the focal length in picture diagonals, drawn evenly in the logarithm.
        pitch_sd, roll_sd: of the camera, degrees.
        tilted: share of cameras that look down (positive) or up by anything in `tilts`, degrees.
        rolled: share of cameras held any way round.
    """

    box: tuple[float, float] = (0.3, 0.95)
    off_centre: float = 0.25
    focal: tuple[float, float] = (0.6, 2.0)
    pitch_sd: float = 12.0
    roll_sd: float = 4.0
    tilted: float = 0.0
    tilts: tuple[float, float] = (-50.0, 90.0)
    rolled: float = 0.0


# people whom the frame cuts: closer, and further from the middle
TRUNCATED = Scenery(box=(1.0, 2.2), off_centre=0.45)


class People(NamedTuple):
    """B people, in the camera's frame.

    Attributes:
        rotations: (B, 24, 3, 3). betas: (B, S). transl: (B, 3) metres.
        keypoints: (B, K, 2) pixels as detected. confidence: (B, K), 0 = not seen.
        camera: of each person. size: (B, 2) pixels, width and height.
        true_keypoints: (B, K, 2) pixels without error.
        up: (B, 3) where up is in the camera's frame, unit length; NaN where nobody says.
        stature: (B,) metres from head to heel, standing straight.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor
    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    size: Tensor
    true_keypoints: Tensor
    up: Tensor
    stature: Tensor


@dataclass(frozen=True, eq=False)
class PeopleMaker:
    """Draws people.

    Attributes:
        body: whom. poses: (T, 24, 3, 3) world rotations to draw from, y up.
        weights: (T,) how often each is drawn, or None for evenly.
        schema: what the detector reports. detector: its errors. scenery: camera and place.
        augmentation: changes to the poses drawn, or None.
        physique: whose proportions. offsets: what the detector calls a joint.
    """

    body: Body
    poses: Tensor
    weights: Tensor | None = None
    schema: KeypointSchema = BODY25
    detector: Detector = field(default_factory=Detector)
    scenery: Scenery = field(default_factory=Scenery)
    augmentation: Augmentation | None = None
    physique: Physique = field(default_factory=Physique)
    offsets: KeypointOffsets = field(default_factory=KeypointOffsets)

    def draw(self, count: int, generator: torch.Generator, *, least_seen: int = 6) -> People:
        """Some people; those of whom fewer than `least_seen` keypoints remain are drawn again."""
        people = self._draw(count, generator)
        for _ in range(20):
            bad = ((people.confidence > 0).sum(-1) < least_seen).nonzero()[:, 0]
            if not len(bad):
                break
            again = self._draw(len(bad), generator)
            people = _replace_rows(people, bad, again)
        return people

    def _draw(self, count: int, generator: torch.Generator) -> People:
        dtype, device = self.body.dtype, self.body.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            unit = torch.rand(count, *shape, generator=generator, dtype=dtype, device=device)
            return low + (high - low) * unit

        def normal(*shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator, dtype=dtype, device=device)

        if self.weights is None:
            chosen = torch.randint(len(self.poses), (count,), generator=generator, device=device)
        else:
            chosen = torch.multinomial(self.weights, count, True, generator=generator)
        rotations = self.poses[chosen].to(dtype)
        if self.augmentation is not None:
            rotations = self.augmentation(rotations, generator)
        zero = torch.zeros(count, dtype=dtype, device=device)
        yaw = uniform(-math.pi, math.pi)
        pitch = torch.deg2rad(self.scenery.pitch_sd * normal())
        roll = torch.deg2rad(self.scenery.roll_sd * normal())
        if self.scenery.tilted:
            tilt = torch.deg2rad(uniform(*self.scenery.tilts))
            pitch = torch.where(uniform(0, 1) < self.scenery.tilted, tilt, pitch)
        if self.scenery.rolled:
            turn = uniform(-math.pi, math.pi)
            roll = torch.where(uniform(0, 1) < self.scenery.rolled, turn, roll)
        facing = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=dtype, device=device))
        to_camera = (
            axis_angle_to_matrix(torch.stack((zero, zero, roll), -1))
            @ axis_angle_to_matrix(torch.stack((pitch, zero, zero), -1))
            @ facing
            @ axis_angle_to_matrix(torch.stack((zero, yaw, zero), -1))
        )
        root = to_camera @ rotations[:, 0]
        rotations = torch.cat((root[:, None], rotations[:, 1:]), 1)
        betas = self.physique(normal(self.body.num_betas), self.body, generator)

        sizes = torch.tensor(_SIZES, dtype=dtype, device=device)
        size = sizes[torch.randint(len(sizes), (count,), generator=generator, device=device)]
        diagonal = size.norm(dim=-1)
        low, high = self.scenery.focal
        focal = diagonal * uniform(math.log(low), math.log(high)).exp()
        camera = Camera(focal[:, None].expand(-1, 2), size / 2)
        transl = self._place(rotations, betas, focal, size, uniform)

        return self.watch(rotations, betas, transl, camera, size, generator, up=to_camera[..., 1])

    def watch(
        self,
        rotations: Tensor,
        betas: Tensor,
        transl: Tensor,
        camera: Camera,
        size: Tensor,
        generator: torch.Generator,
        *,
        up: Tensor | None = None,
    ) -> People:
        """What the detector makes of people who stand there already; shapes as in `People`."""
        points = self.body.keypoints(betas, rotations, self.schema, transl)
        true, in_front = camera.project(points)
        tall = stature(self.body, betas)
        named = true
        if self.offsets:
            share = (tall / stature(self.body, torch.zeros_like(betas[:1]))).nan_to_num(1.0)
            turned = forward_kinematics(rotations, self.body.rest_joints(betas))[0]
            points = points + self.offsets.draw(self.schema, turned, share, generator)
            named, in_front = camera.project(points)
        keypoints, confidence = self._detect(named, in_front, points, rotations, size, generator)
        up = torch.full_like(transl, torch.nan) if up is None else up
        return People(rotations, betas, transl, keypoints, confidence, camera, size, true, up, tall)

    def _place(
        self,
        rotations: Tensor,
        betas: Tensor,
        focal: Tensor,
        size: Tensor,
        uniform: Callable[..., Tensor],
    ) -> Tensor:
        """Translation at which the body has the drawn size and place in the picture."""
        joints = self.body.joints(betas, rotations)
        low, high = joints.amin(1), joints.amax(1)
        extent = (high - low)[:, :2].amax(-1).clamp(min=0.8) * 1.12  # head and feet stick out
        share = uniform(*self.scenery.box)
        depth = (focal * extent / (share * size.amin(-1))).clamp(min=0.8)
        aside = self.scenery.off_centre * uniform(-1, 1, 2) * size
        center = (low + high) / 2
        target = torch.cat((aside / focal[:, None] * depth[:, None], depth[:, None]), -1)
        return target - center

    def _detect(
        self,
        true: Tensor,
        in_front: Tensor,
        points: Tensor,
        rotations: Tensor,
        size: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        model, names = self.detector, self.schema.names
        dtype, device = true.dtype, true.device
        count, keypoints = true.shape[:2]

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=dtype, device=device)

        there = in_front & self.body.keypoint_model(self.schema).available
        box = _box_side(true, there)
        sd = torch.tensor([_noise_percent(n) for n in names], dtype=dtype, device=device) / 100
        # some pictures are harder than others for the whole person
        harder = torch.randn(count, 1, generator=generator, dtype=dtype, device=device)
        hardness = (0.4 * harder).exp()
        spread = model.noise * hardness * sd * box[:, None]
        error = spread[..., None] * torch.randn(
            count, keypoints, 2, generator=generator, dtype=dtype, device=device
        )
        gross = rand(count, keypoints) < model.outliers
        far = (
            model.outlier_size
            * box[:, None, None]
            * torch.randn(count, keypoints, 2, generator=generator, dtype=dtype, device=device)
        )
        error = error + torch.where(gross[..., None], far, 0)
        seen = there & (rand(count, keypoints) >= model.missed)
        seen &= self._face_seen(points, rotations)
        for limb in _LIMBS:
            places = [self.schema.index(n) for n in limb if n in self.schema]
            hidden = rand(count) < model.hidden_limbs
            for place in places:
                seen[:, place] &= ~hidden
        detected = true + error
        if model.wrong_but_sure:
            # the lowest of random numbers among the seen: so many keypoints of each person
            # (a derived midpoint has no error of its own)
            own = torch.tensor([self.schema.midpoint_of(n) is None for n in names], device=device)
            order = torch.where(seen & own, rand(count, keypoints), 2.0).argsort(-1)
            wrong = order[:, : model.wrong_but_sure]
            angle = 2 * math.pi * rand(count, model.wrong_but_sure)
            low, high = model.wrong_by
            reach = box[:, None] * (low + (high - low) * rand(count, model.wrong_but_sure))
            reach = torch.where(rand(count, 1) < model.wrong_share, reach, 0)
            far = reach[..., None] * torch.stack((angle.cos(), angle.sin()), -1)
            index = wrong[..., None].expand(-1, -1, 2)
            detected = detected.scatter_add(1, index, far)
        for swapped in (("Knee", "Ankle", "BigToe", "SmallToe", "Heel", "Hip"), ("Elbow", "Wrist")):
            flip = list(range(keypoints))
            for joint in swapped:
                left, right = "L" + joint, "R" + joint
                if left in self.schema and right in self.schema:
                    a, b = self.schema.index(left), self.schema.index(right)
                    flip[a], flip[b] = b, a
            who = rand(count) < model.swaps
            detected = torch.where(who[:, None, None], detected[:, flip], detected)
            seen = torch.where(who[:, None], seen[:, flip], seen)
        if model.cropped:
            seen &= self._in_crop(detected, true, there, generator)
        inside = ((detected >= 0) & (detected < size[:, None])).all(-1)
        seen &= inside
        # detectors derive the neck and the mid-hip from their neighbours
        for place, name in enumerate(names):
            pair = self.schema.midpoint_of(name)
            if pair is not None:
                ends = self.schema.indices(list(pair))
                detected[:, place] = detected[:, ends].mean(1)
                seen[:, place] = seen[:, ends].all(1)
        relative = error.norm(dim=-1) / (0.02 * box[:, None])
        doubt = 0.55 * relative + 0.35 * torch.randn(
            count, keypoints, generator=generator, dtype=dtype, device=device
        )
        confidence = (0.95 * torch.sigmoid(2.2 - doubt)).clamp(0.05, 1.0)
        confidence = torch.where(seen, confidence, 0)
        return torch.where(seen[..., None], detected, 0), confidence

    def _in_crop(
        self, detected: Tensor, true: Tensor, there: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(B, K): whether a keypoint was detected in the part of the person that was kept."""
        count, device = len(true), true.device

        def rand(low: float, high: float) -> Tensor:
            unit = torch.rand(count, 1, generator=generator, dtype=true.dtype, device=device)
            return low + (high - low) * unit

        low = true.masked_fill(~there[..., None], torch.inf).amin(1, keepdim=True)
        high = true.masked_fill(~there[..., None], -torch.inf).amax(1, keepdim=True)
        # where a keypoint lies between the first and the last, across and down
        across, down = ((detected - low) / (high - low)).unbind(-1)
        legs_cut = down < rand(0.35, 0.75)
        left_kept, right_kept = across < rand(0.4, 0.7), across > rand(0.3, 0.6)
        kind = rand(0, 1)
        kept = torch.where(kind < 0.5, legs_cut, torch.where(kind < 0.75, left_kept, right_kept))
        return kept | (rand(0, 1) >= self.detector.cropped)

    def _face_seen(self, points: Tensor, rotations: Tensor) -> Tensor:
        """(B, K): a nose or an eye is seen unless the head looks away, an ear on its own side."""
        turned = rotations[:, 0]
        for joint in ("spine1", "spine2", "spine3", "neck", "head"):
            turned = turned @ rotations[:, joint_index(joint)]
        seen = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
        # outward directions on the head, in its own axes (x left, z ahead)
        outward = {"Nose": (0.0, 1.0), "LEye": (0.4, 0.9), "REye": (-0.4, 0.9)}
        outward |= {"LEar": (1.0, -0.1), "REar": (-1.0, -0.1)}
        for name, (left, ahead) in outward.items():
            if name in self.schema:
                place = self.schema.index(name)
                direction = left * turned[..., 0] + ahead * turned[..., 2]
                view = torch.nn.functional.normalize(points[:, place], dim=-1)
                seen[:, place] = (direction * view).sum(-1) < 0.3
        return seen


def _noise_percent(name: str) -> float:
    for end, value in _NOISE_PERCENT.items():
        if name.endswith(end):
            return value
    return _OTHER_NOISE_PERCENT


def _box_side(pixels: Tensor, there: Tensor) -> Tensor:
    low = pixels.masked_fill(~there[..., None], torch.inf).amin(1)
    high = pixels.masked_fill(~there[..., None], -torch.inf).amax(1)
    return (high - low).amax(-1).clamp(min=1.0).nan_to_num(posinf=1.0, neginf=1.0)


def _replace_rows(people: People, rows: Tensor, by: People) -> People:
    def put(old: Tensor, new: Tensor) -> Tensor:
        old = old.clone()
        old[rows] = new
        return old

    camera = Camera(
        put(people.camera.focal, by.camera.focal), put(people.camera.center, by.camera.center)
    )
    rest = {n: put(getattr(people, n), getattr(by, n)) for n in People._fields if n != "camera"}
    return People(camera=camera, **rest)
