"""How a lifter learns from pairs of 2D and 3D skeletons."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.skeletons.pairs import MadeUpPairs, Pairs, PairSource
from flowfit.priors.lifting.files import save_lifter
from flowfit.priors.lifting.input import INPUT_SCHEMAS, WITH_FACE
from flowfit.priors.lifting.lifter import Lifter
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.lifting_config import LiftingConfig
from flowfit.priors.training.loop import Learner

_TO_STANDARDISE = 8192  # pairs, at most, from which means and spreads are taken
_BATCHES_TO_STANDARDISE = 128


class LiftingLearner(Learner):
    """A lifter on pairs of 2D and 3D skeletons.

    Args:
        config: of the run. source: of the pairs. validation: other pairs, or None.
        device: where to train; the source's. mixed: bfloat16 in the networks.
    """

    model: Lifter
    unit = "pairs"

    def __init__(
        self,
        config: LiftingConfig,
        source: PairSource,
        *,
        validation: PairSource | None = None,
        device: torch.device | str = "cpu",
        mixed: bool = False,
    ) -> None:
        self.config, self.source, self.validation = config, source, validation
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        self.model = Lifter(**config.sizes).to(self.device)
        with torch.no_grad():
            many = min(_TO_STANDARDISE, _BATCHES_TO_STANDARDISE * config.batch)
            some = source.draw(many, self._generator(-1))
            self.model.standardise(some.keypoints, some.confidence, some.joints)
        set_mixed_precision(self.model, mixed)

    def _generator(self, step: int) -> torch.Generator:
        """Random numbers of a step: they follow from the seed and the step alone."""
        generator = torch.Generator(self.device)
        return generator.manual_seed(self.config.seed * 1_000_003 + step + 1)

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the pairs of a step."""
        generator = self._generator(step)
        torch.manual_seed(generator.initial_seed())  # of the dropouts
        pairs = self.source.draw(self.config.batch, generator)
        factors = self.config.losses
        terms = lifting_losses(
            self.model, pairs, factors.target_noise, generator, likelihood=factors.nll != 0
        )
        total = factors.mode_3d * terms["mode_3d"]
        if factors.nll != 0:  # 0 times infinity would be NaN
            total = total + factors.nll * terms["nll"]
        return total, terms

    def with_weights(self, weights: Mapping[str, Tensor]) -> Lifter:
        """The lifter with other weights, for use."""
        lifter = Lifter(**self.config.sizes).to(self.device)
        lifter.load_state_dict(weights)
        return lifter.eval().requires_grad_(False)

    @torch.no_grad()
    def validate(self, weights: Mapping[str, Tensor], pairs: int = 2048) -> dict[str, float]:
        """NLL in nats and the mode's MPJPE in mm on fixed pairs of the other source."""
        if self.validation is None:
            return {}
        generator = torch.Generator(self.device).manual_seed(1)
        drawn = self.validation.draw(pairs, generator)
        lifter = self.with_weights(weights)
        noise = self.config.losses.target_noise
        terms = lifting_losses(lifter, drawn, noise, generator)
        context = lifter.condition(drawn.keypoints, drawn.confidence, drawn.camera)
        error = (lifter.mode(context).joints[:, 0] - drawn.joints).norm(dim=-1)
        return {**{k: float(v) for k, v in terms.items()}, "mpjpe_mm": 1000 * float(error.mean())}

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint that `load_lifter` opens."""
        save_lifter(path, self.with_weights(weights), self.config.sizes, facts, half=True)


def made_up_pairs(
    config: LiftingConfig, body: Body, mocap: Mocap, *, augmented: bool = True
) -> MadeUpPairs:
    """The pairs that a configuration trains on, from recordings.

    Args:
        augmented: change the poses that are drawn; not in validation.
    """
    schema = INPUT_SCHEMAS[config.sizes.get("schema", WITH_FACE.name)]
    sceneries = [
        (config.plain_scenery, 1 - config.truncated),
        (config.truncated_scenery, config.truncated),
    ]
    augmentation = config.augmentation if augmented else None
    return MadeUpPairs.build(
        body, mocap, schema, sceneries, config.detector, augmentation, disguised=config.disguised
    )


def lifting_losses(
    lifter: Lifter,
    pairs: Pairs,
    target_noise: float,
    generator: torch.Generator,
    *,
    likelihood: bool = True,
) -> dict[str, Tensor]:
    """ProHMR's terms, means over the batch: `nll`, and `mode_3d`, summed absolute metres.

    Args:
        target_noise: metres, on the likelihood's targets. likelihood: whether `nll` is wanted; 0
            where not.
    """
    context = lifter.condition(pairs.keypoints, pairs.confidence, pairs.camera)
    nll = context.new_zeros(())
    if likelihood or not lifter.started:
        noise = torch.randn(
            pairs.joints.shape, generator=generator, dtype=context.dtype, device=context.device
        )
        # without derivatives it starts the ActNorms, which take their scales from the first batch
        with nullcontext() if likelihood else torch.no_grad():
            nll = -lifter.log_prob(pairs.joints + target_noise * noise, context).mean()
    error = (lifter.mode(context).joints[:, 0] - pairs.joints).abs()
    return {"nll": nll, "mode_3d": error.sum((-1, -2)).mean()}
