"""What a fit to several views minimises and in which stages: data, not code."""

from __future__ import annotations

from dataclasses import dataclass

from flowfit.fitting.energy.recipes import Reprojection


@dataclass(frozen=True)
class ViewsStage:
    """One minimisation over views.

    Attributes:
        name: for the log. reprojection: the data term, as for one view. latent: weight of the
            posteriors' latent energy, which the views share; 0 leaves it out.
        iterations: at most, in each of the rounds. rounds: how often the posteriors' derivatives
            are taken anew. keep: how many of a frame's start hypotheses go on.
        place_only: only the places of root and views move.
    """

    name: str
    reprojection: Reprojection
    latent: float = 1.0
    iterations: int = 15
    rounds: int = 1
    keep: int = 1
    place_only: bool = False


@dataclass(frozen=True)
class ViewsRecipe:
    """A named way to fit several views.

    Attributes:
        stages: run in order.
        doubt: a view of whose keypoints half are further off than this (in the person's sizes),
            and doubt_ratio times as far as in the median view, contradicts the others and is left
            out. None: none is.
        suspicious, believed_fall: with an unknown rig the worst view is tried out where its
            reprojection energy is above the first; without it that of the others must fall by more
            than the second (nats).
        turn_sd, shift_sd: radians and metres, how far a given camera may be off where the rig is
            refined.
    """

    stages: tuple[ViewsStage, ...]
    doubt: float | None = 0.06
    doubt_ratio: float = 2.5
    suspicious: float = 12.0
    believed_fall: float = 3.0
    turn_sd: float = 0.035
    shift_sd: float = 0.05


_COARSE, _FINE = Reprojection(0.03, 0.3), Reprojection(0.014, 0.05)
VIEWS = ViewsRecipe(
    (
        ViewsStage("place", _COARSE, latent=0.0, iterations=8, place_only=True),
        ViewsStage("coarse", _COARSE, iterations=10),
        ViewsStage("fine", _FINE, iterations=40),
    )
)
