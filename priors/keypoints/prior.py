"""The flow posterior as the solver sees it: the latent is z, the energy half its squared norm."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import SCHEMAS, KeypointSchema
from flowfit.models.rotations import rotation_6d_jacobian, rotation_6d_to_matrix
from flowfit.priors.base import (
    KEYPOINTS,
    Pose,
    PosePrior,
    PriorModel,
    PullBack,
    Start,
    Term,
    Wanted,
)
from flowfit.priors.keypoints.draw_calibration import (
    DrawCalibration,
    Drawing,
    calibration_of,
    clean_vectors,
)
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.keypoints.posterior import (
    NUM_JOINTS,
    ROTATION_NUMBERS,
    KeypointPosterior,
    mode_translation,
)
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.flow import ConditionalFlow

_USUAL_DRAWS, _USUAL_SPREAD = 4, 0.5
_AS_TRAINED = DrawCalibration()


class FlowPosterior(Protocol):
    """A flow over bodies, whatever its condition is made of."""

    @property
    def flow(self) -> ConditionalFlow:
        """The flow itself."""
        ...

    def vectors(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """The flow's vectors of bodies."""
        ...


class FlowPrior(PriorModel):
    """A keypoint posterior, ready to be told what was seen.

    Args:
        name: what results call it. posterior: in evaluation mode. schema: what it was trained on.
        blind: ignore what was seen: the unconditional prior. calibration: of its draws.
    """

    def __init__(
        self,
        name: str,
        posterior: KeypointPosterior,
        schema: KeypointSchema,
        *,
        blind: bool = False,
        calibration: DrawCalibration = _AS_TRAINED,
    ) -> None:
        self.name, self.posterior, self.schema, self.blind = name, posterior, schema, blind
        self.calibration = calibration
        self.sees, self.has_draws = frozenset() if blind else frozenset({KEYPOINTS}), not blind

    @cached_property
    def usual(self) -> Tensor:
        """(72 + S, D): mean derivative of the pose by the unscaled latent, over a few bodies.

        Fixed draws: it is the same in every run.
        """
        like = next(self.posterior.parameters())
        nothing = like.new_zeros(1, len(self.schema))
        pixels = nothing[..., None].expand(-1, -1, 2)
        camera = Camera(torch.ones_like(pixels[:, 0]), torch.zeros_like(pixels[:, 0]))
        with torch.no_grad():
            context = self.posterior.condition(pixels, nothing, camera)
        return usual_derivatives(self.posterior, context)

    @torch.no_grad()
    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> FlowGiven:
        """The prior of B people whose keypoints (B, K, 2) pixels were seen.

        Of a person with no keypoint seen it is the unconditional prior.
        """
        keypoints, confidence = to_schema(schema, self.schema, keypoints, confidence)
        told = torch.zeros_like(confidence) if self.blind else confidence
        context = self.posterior.condition(keypoints, told, camera)
        flow = BoundFlow.bind(self.posterior.flow, context)
        given = FlowGiven(
            self.name, self.posterior, context, flow, None, self.usual, self.calibration
        )
        if self.blind:
            return given
        latent = context.new_zeros(len(context), flow.features)
        betas = given.decode(latent).betas
        transl = mode_translation(
            self.posterior, context, betas, keypoints, confidence, camera, body
        )
        # of somebody unseen nothing tells the place: whole, in the middle of the picture
        nobody = ~(told > 0).any(-1, keepdim=True)
        middle = torch.zeros_like(transl)
        middle[:, 2] = (camera.focal[..., 1] / (2 * camera.center[..., 1])) * body.height
        transl = torch.where(nobody, middle, transl)
        start = Start(latent, transl)
        return given.starting(start)


def load_flow_prior(name: str, path: Path, wanted: Wanted, *, blind: bool = False) -> FlowPrior:
    """A keypoint posterior's checkpoint as a prior; `blind` as in `FlowPrior`.

    Raises:
        InputError: it is no such file, or a mixture is wanted.
    """
    wanted.check_no_mixture(name)
    posterior, about = load_posterior(path, dtype=wanted.dtype, device=wanted.device)
    calibration = calibration_of(about, str(path.with_suffix(".json")))
    schema = SCHEMAS[about["schema"]]
    return FlowPrior(name, posterior, schema, blind=blind, calibration=calibration)


@torch.no_grad()
def usual_derivatives(posterior: FlowPosterior, context: Tensor) -> Tensor:
    """(72 + S, D): mean derivative of the pose by the unscaled latent, over a few fixed draws.

    Args:
        context: (1, C) of somebody of whom nothing was seen.
    """
    context = context.expand(_USUAL_DRAWS, -1)
    flow = replace(BoundFlow.bind(posterior.flow, context), scale=None)
    generator = torch.Generator().manual_seed(0)
    shape = (_USUAL_DRAWS, flow.features)
    latent = torch.randn(shape, generator=generator, dtype=torch.float64).to(context)
    given = FlowGiven("usual", posterior, context, flow, None, None)
    pose, pull_back = given.linearize(_USUAL_SPREAD * latent)
    eye = torch.eye(NUM_JOINTS * 3 + pose.betas.shape[-1], dtype=context.dtype).to(context)
    return pull_back(eye.expand(_USUAL_DRAWS, -1, -1)).mean(0)


class FlowGiven(PosePrior):
    """p(body | seen) of B people; `context` (B, C) is what was seen of each.

    Attributes:
        calibration: of its draws.
    """

    flow: BoundFlow
    network: ConditionalFlow

    def __init__(
        self,
        name: str,
        posterior: FlowPosterior,
        context: Tensor,
        flow: BoundFlow,
        start: Start | None,
        usual: Tensor | None,
        calibration: DrawCalibration = _AS_TRAINED,
    ) -> None:
        self.name, self.posterior, self.context, self.flow = name, posterior, context, flow
        self.network, self.calibration = posterior.flow, calibration
        self._start, self._usual = start, usual
        self.step_blocks = {"latent": flow.features}
        self.costly = True

    def encode(self, pose: Pose) -> Tensor:
        """Latents (B, D) of bodies."""
        vectors = self.posterior.vectors(pose.rotations, pose.betas)
        with torch.no_grad():
            return self.network.encode(vectors, self.context).latent

    def decode(self, latent: Tensor) -> Pose:
        """Bodies of latents (B, D)."""
        return _pose(self.flow.decode(latent))

    def decode_draws(self, latent: Tensor) -> Pose:
        """Bodies of random latents (B, D), without the noise of what the flow was trained on."""
        return _pose(clean_vectors(self.flow, latent, self.drawing(), ROTATION_NUMBERS))

    def linearize(self, latent: Tensor) -> tuple[Pose, PullBack]:
        """Bodies, and what takes derivatives by them to derivatives by z."""
        vectors, pull_back = self.flow.linearize(latent)
        six = vectors[:, :ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 6))
        rotations, turning = rotation_6d_jacobian(six)

        def to_latent(rows: Tensor, *, rough: bool = False) -> Tensor:
            by_joint = rows[..., : NUM_JOINTS * 3].unflatten(-1, (NUM_JOINTS, 3))
            by_six = torch.einsum("brjw,bjws->brjs", by_joint, turning).flatten(-2)
            by_vectors = torch.cat((by_six, rows[..., NUM_JOINTS * 3 :]), -1)
            return pull_back(by_vectors, rough=rough)

        return Pose(rotations, vectors[:, ROTATION_NUMBERS:]), to_latent

    def usual_derivatives(self) -> Tensor | None:
        """The mean over unseen people's bodies, in each person's own widths."""
        if self._usual is None:
            return None
        scale = self.flow.scale
        if scale is None:
            return self._usual.expand(len(self.context), -1, -1)
        return self._usual * scale[:, None]

    def move(self, latent: Tensor, step: Tensor) -> Tensor:
        """Z + step."""
        return latent + step

    def terms(self, latent: Tensor, *, jacobian: bool) -> list[Term]:
        """The term "latent": z itself."""
        return [Term("latent", latent, None, is_latent=True)]

    def start(self) -> Start | None:
        """The mode, where the head sees it; None for the blind prior."""
        return self._start

    def modes(self) -> Pose:
        """The mode of the first person's posterior; of the blind prior it is everybody's."""
        first = self.flow.rows(torch.zeros(1, dtype=torch.long, device=self.context.device))
        zero = self.context.new_zeros(1, self.flow.features)
        one = FlowGiven(self.name, self.posterior, self.context[:1], first, None, None)
        return one.decode(zero)

    def rows(self, index: Tensor) -> FlowGiven:
        """The same for some of the people."""
        start = None if self._start is None else Start(*(t[index] for t in self._start))
        context, flow = self.context[index], self.flow.rows(index)
        return FlowGiven(
            self.name, self.posterior, context, flow, start, self._usual, self.calibration
        )

    def starting(self, start: Start) -> FlowGiven:
        """The same, with where a fit begins."""
        found = copy(self)
        found._start = start
        return found

    def as_posterior(self) -> FlowGiven:
        """Itself."""
        return self

    def drawing(self) -> Drawing:
        """How these people's bodies are drawn."""
        return self.calibration.of_widths(self.flow.widths())

    def draw_lengths(self, normal: Tensor) -> Tensor:
        """Factors (B,) that make normal latents as long as true bodies' are, of normal numbers."""
        return self.drawing().lengths(normal)

    @torch.no_grad()
    def log_prob(self, latent: Tensor) -> Tensor:
        """Log density (B,) of random latents' bodies, nats.

        The couplings only add, so a condition's volume is the same everywhere: one latent tells it.
        """
        zero = self.context.new_zeros(len(self.context), self.flow.features)
        at_mode = self.network.decode(zero, self.context).log_prob
        normal = at_mode - 0.5 * (latent * latent).sum(-1)
        return normal + self.drawing().log_ratio(latent)

    @torch.no_grad()
    def log_density(self, pose: Pose, noise: Tensor) -> Tensor:
        """Log density (B,) of bodies with noise (B, D) on the flow's vectors, nats."""
        vectors = self.posterior.vectors(pose.rotations, pose.betas)
        known = vectors.isfinite().all(-1)
        noisy = torch.where(known[:, None], vectors, 0) + noise
        density = self.network.encode(noisy, self.context).log_prob
        return torch.where(known, density, torch.nan)

    def calibrated(self, calibration: DrawCalibration) -> FlowGiven:
        """The same, drawn from in another way."""
        found = copy(self)
        found.calibration = calibration
        return found


def _pose(vectors: Tensor) -> Pose:
    """Bodies of the flow's vectors (B, D)."""
    six = vectors[:, :ROTATION_NUMBERS].unflatten(-1, (NUM_JOINTS, 6))
    return Pose(rotation_6d_to_matrix(six), vectors[:, ROTATION_NUMBERS:])


def to_schema(
    given: KeypointSchema, wanted: KeypointSchema, keypoints: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """Keypoints of one schema in another's order; what it lacks has confidence 0.

    Midpoints that a detector would report (neck, mid-hip) are made where both ends were seen.
    """
    if given is wanted:
        return keypoints, confidence
    source = torch.tensor(given.map_to(wanted), device=keypoints.device)
    there = source >= 0
    moved = keypoints[:, source.clamp(min=0)] * there[:, None]
    trust = confidence[:, source.clamp(min=0)] * there
    for place, name in enumerate(wanted.names):
        pair = wanted.midpoint_of(name)
        if pair is not None and not bool(there[place]):
            ends = wanted.indices(list(pair))
            moved[:, place] = moved[:, ends].mean(1)
            trust[:, place] = trust[:, ends].amin(1)
    return moved, trust
