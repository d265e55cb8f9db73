"""The image posterior as the solver sees it: told the picture, the keypoints, or both."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import SCHEMAS, KeypointSchema
from flowfit.priors.base import KEYPOINTS, PICTURE, Start, Wanted
from flowfit.priors.image.files import load_image_posterior
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.image.shown import PicturePrior
from flowfit.priors.keypoints.draw_calibration import DrawCalibration, calibration_of
from flowfit.priors.keypoints.prior import FlowGiven, to_schema, usual_derivatives
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.encoders import Boxes


class ImagePrior(PicturePrior):
    """An image posterior, ready to be shown pictures and told keypoints.

    Args:
        name: what results call it. posterior: in evaluation mode. schema: of its keypoints.
        calibration: of its draws; None draws as trained.
    """

    has_draws = True

    def __init__(
        self,
        name: str,
        posterior: ImagePosterior,
        schema: KeypointSchema,
        *,
        calibration: DrawCalibration | None = None,
    ) -> None:
        self.sees = frozenset({PICTURE, KEYPOINTS})
        self.name, self.posterior, self.schema = name, posterior, schema
        self.image_size = posterior.image_size
        self.calibration = calibration or DrawCalibration()

    def without_keypoints(self) -> ImagePrior:
        """The same, but keypoints only say where to cut the picture and where a fit is to lead."""
        changed = copy.copy(self)
        changed.sees = frozenset({PICTURE})
        return changed

    @cached_property
    def usual(self) -> Tensor:
        """(72 + S, D): mean derivative of the pose by the latent of somebody unseen."""
        like = next(self.posterior.parameters())
        keypoints = like.new_zeros(1, len(self.schema), 2)
        two, one = like.new_ones(1, 2), like.new_ones(1)
        nothing = Seen(
            like.new_zeros(1, 3, self.image_size, self.image_size),
            torch.zeros(1, dtype=torch.bool, device=like.device),
            keypoints,
            keypoints[..., 0],
            Camera(two, two),
            Boxes(two, one),
        )
        with torch.no_grad():
            context = self.posterior.condition(nothing)
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
        """The posterior of B people whose pictures it was shown."""
        seen = self.seen(schema, keypoints, confidence, camera)
        context = self.posterior.condition(seen)
        flow = BoundFlow.bind(self.posterior.flow, context)
        given = FlowGiven(
            self.name, self.posterior, context, flow, None, self.usual, self.calibration
        )
        latent = context.new_zeros(len(context), flow.features)
        mode = given.decode(latent)
        transl = self.posterior.translation(context, mode.betas, seen, body)
        return given.starting(Start(latent, transl))

    def seen(
        self, schema: KeypointSchema, keypoints: Tensor, confidence: Tensor, camera: Camera
    ) -> Seen:
        """What the posterior is shown of people with keypoints (B, K, 2), (B, K)."""
        crops = self.look(keypoints, confidence)
        points, trust = to_schema(schema, self.schema, keypoints, confidence)
        if KEYPOINTS not in self.sees:
            trust = torch.zeros_like(trust)
        points = torch.where((trust > 0)[..., None], points, 0)
        people = torch.arange(len(points), device=points.device)
        focal, center = (t.expand(len(points), 2) for t in (camera.focal, camera.center))
        each = Camera(focal, center).rows(people)
        return Seen(crops.images, crops.has_image, points, trust, each, crops.box)


def load_image_prior(name: str, path: Path, wanted: Wanted) -> ImagePrior:
    """An image posterior's checkpoint as a prior.

    Raises:
        InputError: it is no such file, or a mixture is wanted.
    """
    wanted.check_no_mixture(name)
    posterior, about = load_image_posterior(path, dtype=wanted.dtype, device=wanted.device)
    calibration = calibration_of(about, str(path.with_suffix(".json")))
    return ImagePrior(name, posterior, SCHEMAS[about["schema"]], calibration=calibration)
