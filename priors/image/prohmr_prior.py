"""ProHMR's released posterior as the solver sees it.

Its flow describes the 24 rotations only; the shape and the camera come from a head and are moved
beside the latent. Its picture is a crop of 224 pixels, seen as if by a camera of 5,000 pixels that
looks at the crop's middle. So the body is turned here to where the crop lies in the whole picture's
camera. With ProHMR's own 5,000 pixels for the whole picture that turn is next to nothing, and the
translation is the one of its full-frame fitting.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.kinematics import NUM_JOINTS, joint_index
from flowfit.models.rotations import (
    matrix_to_rotation_6d,
    rotation_6d_jacobian,
    rotation_6d_to_matrix,
)
from flowfit.priors.base import Pose, PosePrior, PullBack, Start, Term, Wanted
from flowfit.priors.data.pictures.crops import ray, turn_to_crop
from flowfit.priors.image.prohmr import BETAS, Opened, ProHMRHead, read_prohmr
from flowfit.priors.image.shown import PicturePrior
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.encoders import Boxes
from flowfit.priors.networks.flow import ConditionalFlow

IMAGE_SIZE = 224
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_LEAST_SCALE = 1e-2  # of the head's camera: farther away nobody is seen
ROOT = NUM_JOINTS * 3


class ProHMRPrior(PicturePrior):
    """A released checkpoint, ready to be shown pictures. It is not told the keypoints.

    Args:
        name: what results call it. opened: the checkpoint.

    Raises:
        InputError: it has no image network or no head.
    """

    image_size = IMAGE_SIZE

    def __init__(self, name: str, opened: Opened) -> None:
        posterior = opened.posterior
        if posterior.backbone is None or posterior.head is None:
            lacks = "image network" if posterior.backbone is None else "head for shape and camera"
            raise InputError(f"prior {name}: this checkpoint has no {lacks}; give a ProHMR model")
        if posterior.flow.features != NUM_JOINTS * 6:
            raise InputError(f"prior {name}: its flow describes no {NUM_JOINTS} rotations")
        self.name, self.posterior = name, posterior
        self.flow: ConditionalFlow = posterior.flow
        self.head: ProHMRHead = posterior.head

    @torch.no_grad()
    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> ProHMRGiven:
        """The posterior of B people whose pictures it was shown."""
        if body.num_betas != BETAS:
            raise InputError(f"prior {self.name}: is for bodies of {BETAS} shape numbers")
        crops = self.look(keypoints, confidence)
        context = self.posterior.condition(normalised(crops.images))
        betas, numbers = self.head(context)
        turn = turn_to_crop(crops.box, camera)
        flow = BoundFlow.bind(self.flow, context)
        latent = torch.cat((context.new_zeros(len(context), flow.features), betas), -1)
        place = translation(numbers, betas, crops.box, camera, turn, body)
        return ProHMRGiven(self.name, self.flow, context, flow, turn, Start(latent, place))


def load_prohmr_prior(name: str, path: Path, wanted: Wanted) -> ProHMRPrior:
    """A released checkpoint as a prior.

    Raises:
        InputError: it is no such file, lacks a part, or a mixture is wanted.
    """
    wanted.check_no_mixture(name)
    opened = read_prohmr(path, dtype=wanted.dtype)
    opened.posterior.to(wanted.device)
    return ProHMRPrior(name, opened)


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, N, N), 0 to 1, as the network was trained on them."""
    mean, sd = images.new_tensor(_MEAN), images.new_tensor(_SD)
    return (images - mean[:, None, None]) / sd[:, None, None]


def translation(
    numbers: Tensor, betas: Tensor, box: Boxes, camera: Camera, turn: Tensor, body: Body
) -> Tensor:
    """Translation (B, 3) in the whole picture's camera, metres, of the head's s, tx, ty (B, 3).

    s is the size of two metres as a share of the crop; tx and ty are metres in the crop's camera.
    """
    scale, aside = numbers[:, :1].clamp(min=_LEAST_SCALE), numbers[:, 1:]
    depth = 2 * camera.focal.mean(-1, keepdim=True) / (box.side[:, None] * scale)
    pelvis = body.rest_joints(betas)[:, joint_index("pelvis")]
    moved = pelvis + torch.nn.functional.pad(aside, (0, 1))
    return (turn @ moved[..., None])[..., 0] - pelvis + depth * ray(box, camera)


class ProHMRGiven(PosePrior):
    """p(rotations | picture) of B people, and their shape beside it.

    The latent is z (B, 144) and then the betas (B, 10).
    """

    costly = True
    flow: BoundFlow

    def __init__(
        self,
        name: str,
        network: ConditionalFlow,
        context: Tensor,
        flow: BoundFlow,
        turn: Tensor,
        start: Start,
    ) -> None:
        self.name, self.network, self.context = name, network, context
        self.flow, self.turn, self._start = flow, turn, start
        self.step_blocks = {"latent": flow.features, "shape": BETAS}

    def encode(self, pose: Pose) -> Tensor:
        """Latents of bodies."""
        root = self.turn.transpose(-1, -2) @ pose.rotations[:, 0]
        rotations = torch.cat((root[:, None], pose.rotations[:, 1:]), 1)
        with torch.no_grad():
            vectors = matrix_to_rotation_6d(rotations).flatten(-2)
            latent = self.network.encode(vectors, self.context).latent
        return torch.cat((latent, pose.betas), -1)

    def decode(self, latent: Tensor) -> Pose:
        """Bodies of latents."""
        z, betas = latent[:, :-BETAS], latent[:, -BETAS:]
        six = self.flow.decode(z).unflatten(-1, (NUM_JOINTS, 6))
        return Pose(self._turned(rotation_6d_to_matrix(six)), betas)

    def linearize(self, latent: Tensor) -> tuple[Pose, PullBack]:
        """Bodies, and what takes derivatives by them to derivatives by z and the betas."""
        z, betas = latent[:, :-BETAS], latent[:, -BETAS:]
        vectors, pull_back = self.flow.linearize(z)
        rotations, turning = rotation_6d_jacobian(vectors.unflatten(-1, (NUM_JOINTS, 6)))

        def to_latent(rows: Tensor, *, rough: bool = False) -> Tensor:
            # a step of the root in the picture's frame is the turned step in the crop's
            root = rows[..., :3] @ self.turn
            of_pose = torch.cat((root, rows[..., 3:ROOT]), -1).unflatten(-1, (NUM_JOINTS, 3))
            by_six = torch.einsum("brjw,bjws->brjs", of_pose, turning).flatten(-2)
            return torch.cat((pull_back(by_six, rough=rough), rows[..., ROOT:]), -1)

        return Pose(self._turned(rotations), betas), to_latent

    def usual_derivatives(self) -> Tensor | None:
        """Those at everybody's mode, exact: where a fit begins."""
        pose, to_latent = self.linearize(self._start.latent)
        size = ROOT + pose.betas.shape[-1]
        eye = torch.eye(size, dtype=pose.betas.dtype, device=pose.betas.device)
        return to_latent(eye.expand(len(pose.betas), -1, -1))

    def move(self, latent: Tensor, step: Tensor) -> Tensor:
        """Latent + step."""
        return latent + step

    def terms(self, latent: Tensor, *, jacobian: bool) -> list[Term]:
        """The terms "latent": z, and "shape": the betas."""
        z, betas = latent[:, :-BETAS], latent[:, -BETAS:]
        by_step = None
        if jacobian:
            eye = torch.eye(BETAS, dtype=latent.dtype, device=latent.device)
            by_step = torch.nn.functional.pad(eye, (z.shape[1], 0)).expand(len(z), -1, -1)
        return [Term("latent", z, None, is_latent=True), Term("shape", betas, by_step)]

    def start(self) -> Start | None:
        """The mode, where the head sees it."""
        return self._start

    def modes(self) -> Pose:
        """The mode of the first person."""
        first = self.rows(torch.zeros(1, dtype=torch.long, device=self.context.device))
        return first.decode(first._start.latent)

    def rows(self, index: Tensor) -> ProHMRGiven:
        """The same for some of the people."""
        start = Start(*(t[index] for t in self._start))
        return ProHMRGiven(
            self.name,
            self.network,
            self.context[index],
            self.flow.rows(index),
            self.turn[index],
            start,
        )

    def _turned(self, rotations: Tensor) -> Tensor:
        root = self.turn @ rotations[:, 0]
        return torch.cat((root[:, None], rotations[:, 1:]), 1)
