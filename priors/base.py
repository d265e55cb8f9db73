"""What the solver asks of a prior over bodies.

A prior owns the latent vector that is optimised: it says what body a latent stands for, how a
step moves it, and what it costs. For a normalizing flow the latent is z and the cost is half its
squared norm; for the classical priors the latent holds the rotations themselves. The solver does
not know the difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.encoders import Boxes
from flowfit.priors.networks.flow import ConditionalFlow

KEYPOINTS, PICTURE = "keypoints", "picture"  # what a prior can be told of somebody


class Pose(NamedTuple):
    """A body without its place: rotations (B, 24, 3, 3), the root's first, and betas (B, S)."""

    rotations: Tensor
    betas: Tensor


class PullBack(Protocol):
    """From derivatives by a pose to derivatives by the step."""

    def __call__(self, rows: Tensor, *, rough: bool = False) -> Tensor:
        """Derivatives (B, R, T) by the step.

        Args:
            rows: (B, R, 72 + S), R a person: by the left perturbations of the 24 local rotations
                (radians) and the betas.
            rough: an error of a hundredth does no harm, if that is faster.
        """
        ...


class Start(NamedTuple):
    """Where a prior would begin: latent (B, N) and translation (B, 3), metres."""

    latent: Tensor
    transl: Tensor


class Term(NamedTuple):
    """One energy term of a prior: 0.5 |residual|^2.

    Attributes:
        name: what recipes call it: "pose", "shape", "limits", ...
        residual: (B, M). jacobian: (B, M, T), or None when it was not asked for or is the identity.
        is_latent: the residual is the first M numbers that a step adds to; its Jacobian is the
            identity and is not written out.
    """

    name: str
    residual: Tensor
    jacobian: Tensor | None
    is_latent: bool = False


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a prior is loaded for.

    Attributes:
        num_betas: S of the body. up: (3,) that direction in the frame of the root, where it is
            known. dtype, device: in and on what it computes.
        bending: SMPLify's cost of bent knees and elbows beside a mixture.
    """

    num_betas: int = 10
    up: Tensor | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    bending: bool = False

    def check_no_mixture(self, name: str) -> None:
        """InputError where a mixture is wanted, and this prior is none."""
        if self.bending:
            raise InputError(
                f"prior {name}: SMPLify's recipes need a mixture; give gmm_08.pkl or smplify"
            )


class Crops(NamedTuple):
    """Images (B, 3, N, N), 0 to 1, RGB; which of them show something (B,); where they were cut."""

    images: Tensor
    has_image: Tensor
    box: Boxes


class Shown(Protocol):
    """Pictures of B people."""

    def __len__(self) -> int: ...

    def rows(self, index: Sequence[int]) -> Shown:
        """Those of some of the people."""
        ...

    def crops(self, keypoints: Tensor, confidence: Tensor, size: int) -> Crops:
        """Crops of `size` pixels of people with keypoints (B, K, 2), (B, K)."""
        ...


class PriorModel(ABC):
    """What a prior's name or file stands for, before it has been told what was seen.

    It says of itself all that a caller has to know, so that none asks which class it is of.

    Attributes:
        name: what results call it. sees: what it is told: `KEYPOINTS`, `PICTURE`, both or nothing.
        has_draws: what it gives is a posterior that bodies can be drawn from (`as_posterior`).
        image_size: N, pixels, of the crops that it wants to be shown; None: it sees no picture.
    """

    name: str
    sees: frozenset[str] = frozenset()
    has_draws: bool = False
    image_size: int | None = None

    @property
    def looks(self) -> bool:
        """Whether what was seen makes a difference to it."""
        return bool(self.sees)

    @property
    def by_keypoints_alone(self) -> bool:
        """Whether it is a posterior that is told keypoints and nothing else.

        So it can be told of other keypoints as well, such as with left and right exchanged, and
        several views may use it, each of which has keypoints of its own.
        """
        return self.has_draws and self.sees == {KEYPOINTS}

    def without_keypoints(self) -> PriorModel:
        """The same, told of the picture alone; keypoints only say where to cut it."""
        return self

    def show(self, shown: Shown) -> PriorModel:
        """The same, with pictures of the people it will be told of, where it sees pictures."""
        return self

    def rows(self, index: Tensor) -> PriorModel:
        """The same for some of the people whose pictures it was shown."""
        return self

    @abstractmethod
    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> PosePrior:
        """The prior of B people of whom (B, K, 2) pixels were seen."""


class PosePrior(Protocol):
    """A prior over poses and shapes of B people.

    Attributes:
        name: what results call it.
        step_blocks: named parts of a step ("root", "pose", "shape", "latent", ...), in order;
            their lengths add up to the step size T.
        costly: pulling derivatives back through it is most of a fit's work (a network), so that
            a solver should do it seldom.
        flow: over bodies, bound to what was seen of each; None of a prior without one.
    """

    name: str
    step_blocks: dict[str, int]
    costly: bool
    flow: BoundFlow | None = None

    def as_posterior(self) -> Posterior | None:
        """Itself, where bodies can be drawn from it; else None."""
        return None

    def encode(self, pose: Pose) -> Tensor:
        """The latent (B, N) of a body."""
        ...

    def decode(self, latent: Tensor) -> Pose:
        """The body of a latent."""
        ...

    def linearize(self, latent: Tensor) -> tuple[Pose, PullBack]:
        """`decode`, and what takes derivatives by the pose to derivatives by the step."""
        ...

    def usual_derivatives(self) -> Tensor | None:
        """Derivatives (B, 72 + S, T) of the pose by the step as they usually are.

        Where a solver may begin to learn those of a costly prior; None of one that is not.
        """
        ...

    def move(self, latent: Tensor, step: Tensor) -> Tensor:
        """The latent after a step (B, T)."""
        ...

    def terms(self, latent: Tensor, *, jacobian: bool) -> list[Term]:
        """The energy terms, unweighted, with Jacobians by the step when asked."""
        ...

    def start(self) -> Start | None:
        """Where to begin, for a prior that has seen the people; else None."""
        ...

    def modes(self) -> Pose:
        """The likeliest bodies, in the prior's own frame for the root: (M, ...)."""
        ...

    def mean(self) -> Pose:
        """A body in the middle, the first of (M, ...); by itself one of the likeliest."""
        return self.modes()

    def rows(self, index: Tensor) -> PosePrior:
        """The prior of some of the people (a prior that has seen nothing returns itself)."""
        ...


class Posterior(PosePrior, Protocol):
    """A prior of B people whose bodies can be drawn: decode normal latents (B, D) as long as these.

    Attributes:
        flow: describes the 24 rotations as 6D vectors and then the betas. network: the flow before
            it was bound. context: (B, C), what was seen of each.
    """

    flow: BoundFlow
    network: ConditionalFlow
    context: Tensor

    def draw_lengths(self, normal: Tensor) -> Tensor:
        """Factors (B,) that make normal latents as long as true bodies' are, of normal numbers."""
        ...

    def decode_draws(self, latent: Tensor) -> Pose:
        """Bodies of random latents (B, D)."""
        ...

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log density (B,) of random latents' bodies, nats."""
        ...

    def log_density(self, pose: Pose, noise: Tensor) -> Tensor:
        """Log density (B,) of bodies with noise (B, D) on the flow's vectors, nats.

        NaN where a body is not known.
        """
        ...

    def rows(self, index: Tensor) -> Posterior:
        """The posterior of some of the people."""
        ...
