"""A lifter as a prior over bodies: the classical prior, and where the lifted skeletons have joints.

The term "lifted" holds the body's 17 joints against the mode of p(skeleton | keypoints), in the
covariance of its samples: narrow across the picture, wide in depth. It is what a posterior over
bodies would say, for keypoints that no such posterior was trained for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.one_view.lifted_start import lifted_start, lifter_context
from flowfit.models.body import Body
from flowfit.models.body_jacobian import keypoints_with_jacobian
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.models.rows import take
from flowfit.priors.base import KEYPOINTS, Pose, PosePrior, PriorModel, PullBack, Start, Term
from flowfit.priors.lifting.files import load_lifter
from flowfit.priors.lifting.input import JOINTS, LIFTED, ROOT
from flowfit.priors.lifting.lifter import NUMBERS, Lifter
from flowfit.priors.load import load

NAME = "lifting"
_SAMPLES = 256
_LEAST_SD = 0.02  # metres: what a covariance of so many samples does not know
_PLACES = JOINTS.indices(list(LIFTED))


def load_lifted_prior(
    *,
    num_betas: int,
    up: Tensor,
    dtype: torch.dtype,
    device: torch.device | str,
    bending: bool,
) -> PriorModel:
    """The built-in lifter beside the built-in mixture; arguments as in `flowfit.priors.load.load`.

    Raises:
        InputError: SMPLify's recipes are to be fitted with it.
    """
    if bending:
        raise InputError(f"prior {NAME}: SMPLify's recipes have terms of their own; use gmm")
    base = load("gmm", num_betas=num_betas, up=up, dtype=dtype, device=device)
    return LiftedPrior(base, load_lifter(dtype=dtype, device=device)[0])


class LiftedPrior(PriorModel):
    """The model: told what was seen, it lifts it.

    Args:
        base: the classical prior beside it. lifter: in its number type.
    """

    name = NAME
    sees = frozenset({KEYPOINTS})

    def __init__(self, base: PriorModel, lifter: Lifter) -> None:
        self.base, self.lifter = base, lifter

    @torch.no_grad()
    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> LiftedGiven:
        """The prior of B people whose keypoints (B, K, 2) pixels were seen."""
        problem = FitProblem.build(schema, keypoints, confidence, camera)
        base = self.base.given(schema, keypoints, confidence, camera, body)
        pose, transl = lifted_start(problem, body, base, self.lifter)
        context = lifter_context(problem, self.lifter)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(_SAMPLES, NUMBERS, generator=generator, dtype=torch.float64).to(context)
        mode = self.lifter.mode(context).joints[:, 0, _PLACES].flatten(1)
        samples = self.lifter.sample(context, noise).joints[:, :, _PLACES].flatten(2)
        off = samples - mode[:, None]
        covariance = off.mT @ off / _SAMPLES
        covariance = covariance + _LEAST_SD**2 * torch.eye(NUMBERS).to(context)
        factor = torch.linalg.cholesky_ex(torch.linalg.inv_ex(covariance)[0])[0]
        start = Start(base.encode(pose), transl)
        return LiftedGiven(base, body, mode, factor.mT, start)


class LiftedGiven(PosePrior):
    """The prior of B people.

    Args:
        base: the classical prior. body: whose joints are meant.
        mode: (B, 48) metres, the lifted joints around the pelvis.
        whitening: (B, 48, 48), from metres to standard deviations. start: where to begin.
    """

    def __init__(
        self, base: PosePrior, body: Body, mode: Tensor, whitening: Tensor, start: Start
    ) -> None:
        self.base, self.body, self.mode, self.whitening = base, body, mode, whitening
        self._start = start
        self.name, self.step_blocks, self.costly = NAME, base.step_blocks, False

    def encode(self, pose: Pose) -> Tensor:
        """As the classical prior."""
        return self.base.encode(pose)

    def decode(self, latent: Tensor) -> Pose:
        """As the classical prior."""
        return self.base.decode(latent)

    def linearize(self, latent: Tensor) -> tuple[Pose, PullBack]:
        """As the classical prior."""
        return self.base.linearize(latent)

    def usual_derivatives(self) -> Tensor | None:
        """None: there is nothing to learn."""
        return None

    def move(self, latent: Tensor, step: Tensor) -> Tensor:
        """As the classical prior."""
        return self.base.move(latent, step)

    def terms(self, latent: Tensor, *, jacobian: bool) -> list[Term]:
        """The classical prior's terms, and "lifted"."""
        pose, root = self.base.decode(latent), JOINTS.index(ROOT)
        model = self.body.keypoint_model(JOINTS)
        found = keypoints_with_jacobian(self.body, model, pose.betas, pose.rotations)
        relative = found.points[:, _PLACES] - found.points[:, root : root + 1]
        error = relative.flatten(1) - self.mode
        residual = (self.whitening @ error[..., None])[..., 0]
        slope = None
        if jacobian:
            whole = torch.cat((found.by_rotation, found.by_betas), -1)
            whole = (whole[:, _PLACES] - whole[:, root : root + 1]).flatten(1, 2)
            slope = self.whitening @ whole
        return [*self.base.terms(latent, jacobian=jacobian), Term("lifted", residual, slope)]

    def start(self) -> Start | None:
        """The body of the lifted skeleton."""
        return self._start

    def modes(self) -> Pose:
        """The classical prior's."""
        return self.base.modes()

    def rows(self, index: Tensor) -> LiftedGiven:
        """The same for some of the people."""
        mode, whitening, start = self.mode[index], self.whitening[index], take(self._start, index)
        return LiftedGiven(self.base, self.body, mode, whitening, start)
