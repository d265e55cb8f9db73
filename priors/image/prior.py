"""The image posterior as the solver sees it: told the picture, the keypoints, or both."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema
from flowfit.priors.base import Start
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.image.shown import PicturePrior
from flowfit.priors.keypoints.draw_calibration import DrawCalibration
from flowfit.priors.keypoints.prior import FlowGiven, to_schema, usual_derivatives
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.encoders import Boxes


class ImagePrior(PicturePrior):
    """An image posterior, ready to be shown pictures and told keypoints.

    Args:
        name: what results call it. posterior: in evaluation mode. schema: of its keypoints.
        told: it is told the keypoints, too; else they only say where to cut the picture and where
            the fit is to lead. calibration: of its draws; None draws as trained.
    """

    def __init__(
        self,
        name: str,
        posterior: ImagePosterior,
        schema: KeypointSchema,
        *,
        told: bool = True,
        calibration: DrawCalibration | None = None,
    ) -> None:
        self.name, self.posterior, self.schema, self.told = name, posterior, schema, told
        self.image_size = posterior.image_size
        self.calibration = calibration or DrawCalibration()

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
        if not self.told:
            trust = torch.zeros_like(trust)
        points = torch.where((trust > 0)[..., None], points, 0)
        people = torch.arange(len(points), device=points.device)
        focal, center = (t.expand(len(points), 2) for t in (camera.focal, camera.center))
        each = Camera(focal, center).rows(people)
        return Seen(crops.images, crops.has_image, points, trust, each, crops.box)
