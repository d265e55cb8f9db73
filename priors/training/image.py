"""How an image posterior learns from pictures: what is read of a step, and the fused form.

Forms differ in what is trained and in its loss: the one here stands on a keypoint posterior,
ProHMR's is in `flowfit.priors.training.prohmr`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flowfit.models.body import Body
from flowfit.models.keypoints import SCHEMAS
from flowfit.priors.data.datasets.people import PictureSet, join
from flowfit.priors.data.datasets.registry import Mixture
from flowfit.priors.data.pictures.batches import Batch, PictureReader
from flowfit.priors.image.files import begin_with, save_image_posterior
from flowfit.priors.image.posterior import ImagePosterior
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.networks.precision import set_mixed_precision
from flowfit.priors.training.image_config import ImageTrainingConfig
from flowfit.priors.training.image_losses import (
    image_losses,
    to_device,
    truth_of,
    with_exact_keypoints,
)
from flowfit.priors.training.loop import Learner


class ImageForm(Protocol):
    """A form of image posterior in training: what it is, and its loss on a batch of pictures.

    Attributes:
        body: whom it is about, on the CPU. The others: as of a `Learner`.
    """

    @property
    def model(self) -> nn.Module:
        """See above."""

    @property
    def device(self) -> torch.device:
        """See above."""

    @property
    def body(self) -> Body:
        """See above."""

    @property
    def others(self) -> Mapping[str, nn.Module | torch.optim.Optimizer]:
        """See above."""

    def picture_size(self, step: int) -> int:
        """Pixels of the crops of a step."""

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to lower, and its terms, unweighted."""

    def follow(self) -> dict[str, float]:
        """As `Learner.follow`."""

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """As `Learner.export`."""


class ImageLearner(Learner):
    """An image posterior on pictures of people.

    Args:
        config: of the run. form: what is trained. people: whose pictures are read.
        threads: that read pictures.
    """

    unit = "pictures"
    shown: Mapping[str, str] = {"total": ".3f"}

    def __init__(
        self, config: ImageTrainingConfig, form: ImageForm, people: Mixture, *, threads: int = 1
    ) -> None:
        self.config, self.form, self.people = config, form, people
        self.model, self.device, self.others = form.model, form.device, form.others
        self.phase_ends = (config.keypoints_first,)
        self.reader = PictureReader(form.body, form.picture_size(0), config.augmentation, threads)

    def state(self) -> dict[str, Tensor]:
        """What changes in the model: its trained parameters and the averages of its norms."""
        named = dict(self.model.named_parameters())
        frozen = {k for k, p in named.items() if not p.requires_grad}
        trained = named.keys() - frozen
        parts = {k.rpartition(".")[0] for k in trained}
        return {
            k: v
            for k, v in self.model.state_dict().items()
            if k not in frozen and (k in trained or k.rpartition(".")[0] in parts)
        }

    def read(self, step: int) -> Batch:
        """The pictures of a step."""
        seed = self.config.seed_of(step, 29)
        drawn = self.people.draw(self.config.batch, np.random.default_rng(seed))
        reader = replace(self.reader, size=self.form.picture_size(step))
        return reader.read(gather(drawn), torch.Generator().manual_seed(seed))

    def losses(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The form's, of the pictures of a step."""
        batch = self.read(step)
        generator = torch.Generator(self.device).manual_seed(self.config.seed_of(step, 31))
        torch.manual_seed(self.config.seed_of(step, 37))  # dropout's
        return self.form.losses(batch, step, generator)

    def follow(self) -> dict[str, float]:
        """The form's."""
        return self.form.follow()

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the form's checkpoint."""
        self.form.export(path, weights, facts)


class FusedForm:
    """The image posterior that stands on the keypoint posterior.

    Args:
        config: of the run. body: whom it is about. base: file of the keypoint posterior.
        device: where. mixed: bfloat16 in the networks. start: an image posterior of which to
            begin with what fits, or None.

    Attributes:
        begun: what was taken from `start`, if there is one.
    """

    def __init__(
        self,
        config: ImageTrainingConfig,
        body: Body,
        base: Path,
        *,
        device: torch.device | str = "cpu",
        mixed: bool = False,
        start: Path | None = None,
    ) -> None:
        self.config, self.base = config, base
        self.device = torch.device(device)
        keypoint_posterior, about = load_posterior(base)
        self.schema = SCHEMAS[about["schema"]]
        torch.manual_seed(config.seed)
        self.model = ImagePosterior(keypoint_posterior, schema=self.schema, **config.sizes)
        self.begun = None if start is None else begin_with(self.model, start)
        self.model.to(self.device)
        channels_last(self.model)
        set_mixed_precision(self.model, mixed)
        self.image_size = self.model.image_size
        self.others: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.body = body.to(device="cpu")
        self.trained_on = body.to(device=device)

    def picture_size(self, step: int) -> int:
        """The posterior's; smaller while it only learns to find keypoints."""
        first = step < self.config.keypoints_first
        return self.config.first_size if first else self.image_size

    def losses(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As in `ImageForm`; the first steps only learn to find keypoints."""
        truth = truth_of(batch, self.body, self.schema)
        images, truth = to_device(batch, truth, self.device)
        truth = with_exact_keypoints(truth, self.config.exact, generator)
        return image_losses(
            self.model, images, truth, self.trained_on, self.schema, self.config.losses,
            self.config.own, generator, keypoints_only=step < self.config.keypoints_first,
        )  # fmt: skip

    def follow(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write what was trained; the keypoint posterior is named, not copied."""
        about = {"schema": self.schema.name, "body": self.body.name, **facts}
        save_image_posterior(path, weights, self.config.sizes, self.base, about)


def channels_last(model: nn.Module) -> None:
    """The order of numbers in memory that convolutions are fastest with."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gather(drawn: Sequence[tuple[PictureSet, int]]) -> PictureSet:
    """People of any sets, as `Mixture.draw` gives them, as one set."""
    parts = []
    for people, row in drawn:
        one = people.rows([row])
        # named from the root of the disk, so that sets of different folders can be joined
        whole = str(one.path(0).resolve())
        parts.append(replace(one, pictures=(whole,), root=Path("/"), name="mixture"))
    return join(parts)
