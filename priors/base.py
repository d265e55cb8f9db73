"""What the solver asks of a prior over bodies.

A prior owns the latent vector that is optimised: it says what body a latent stands for, how a
step moves it, and what it costs. For a normalizing flow the latent is z and the cost is half its
squared norm; for the classical priors the latent holds the rotations themselves. The solver does
not know the difference.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import KeypointSchema


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


class PriorModel(Protocol):
    """What a prior's name or file stands for, before it has been told what was seen.

    Attributes:
        name: what results call it. looks: what was seen makes a difference to it.
    """

    name: str
    looks: bool

    def given(
        self,
        schema: KeypointSchema,
        keypoints: Tensor,
        confidence: Tensor,
        camera: Camera,
        body: Body,
    ) -> PosePrior:
        """The prior of B people of whom (B, K, 2) pixels were seen."""
        ...


class PosePrior(Protocol):
    """A prior over poses and shapes of B people.

    Attributes:
        name: what results call it.
        step_blocks: named parts of a step ("root", "pose", "shape", "latent", ...), in order;
            their lengths add up to the step size T.
        costly: pulling derivatives back through it is most of a fit's work (a network), so that
            a solver should do it seldom.
    """

    name: str
    step_blocks: dict[str, int]
    costly: bool

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

    def rows(self, index: Tensor) -> PosePrior:
        """The prior of some of the people (a prior that has seen nothing returns itself)."""
        ...
