"""Batches of people in pictures, read from the disk and changed, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.errors import InputError
from flowfit.priors.data.datasets.people import PictureSet, join
from flowfit.priors.data.datasets.registry import Mixture
from flowfit.priors.data.pictures.augment import PictureAugmentation, apply
from flowfit.priors.data.pictures.crops import cut_turned
from flowfit.priors.data.pictures.files import read_pixels
from flowfit.priors.data.pictures.labels import Labels, labels_of

_UNCHANGED = PictureAugmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


class Batch(NamedTuple):
    """B people: crops (B, 3, N, N), 0 to 1, RGB, and what is known of them.

    Attributes:
        labels: in the whole pictures (after any change); `labels.box` is the crop.
        rows: which of the people asked for these are; the others' pictures could not be read.
        bad: names of the pictures that could not be read, with the reasons.
    """

    images: Tensor
    labels: Labels
    rows: tuple[int, ...]
    bad: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class PictureReader:
    """Reads people's pictures.

    Attributes:
        body: for what turning a picture does to a body. size: N, pixels of the crops.
        augmentation: None leaves all as it is. threads: that read and cut.
    """

    body: Body
    size: int
    augmentation: PictureAugmentation | None = None
    threads: int = 1

    def read(self, people: PictureSet, generator: torch.Generator | None = None) -> Batch:
        """Everybody of a set, in order; whose picture cannot be read is left out.

        Raises:
            InputError: no picture can be read.
        """
        read: list[np.ndarray | None] = []
        bad: list[tuple[str, str]] = []
        for pixels, path in self._pictures(people):
            read.append(pixels if isinstance(pixels, np.ndarray) else None)
            if not isinstance(pixels, np.ndarray):
                bad.append((path, pixels))
        rows = [row for row, pixels in enumerate(read) if pixels is not None]
        if not rows:
            reason = bad[0][1] if bad else "there is nobody"
            raise InputError(f"{people.name}: no picture can be read; the first: {reason}")
        pictures = [pixels for pixels in read if pixels is not None]
        sizes = np.array([(p.shape[1], p.shape[0]) for p in pictures], dtype=np.float64)
        labels = labels_of(people.rows(rows), sizes)
        augmentation = self.augmentation or _UNCHANGED
        changed = apply(
            augmentation.draw(labels, generator or torch.Generator().manual_seed(0)),
            labels,
            self.body,
        )
        crops = self._map(
            self._crop,
            pictures,
            changed.changes.flip.tolist(),
            changed.center.double().numpy(),
            changed.labels.box.side.tolist(),
            changed.changes.degrees.tolist(),
        )
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        images = (images * changed.changes.gain[:, :, None, None]).clamp(0, 1)
        return Batch(images, changed.labels, tuple(rows), tuple(dict.fromkeys(bad)))

    def batches(self, mixture: Mixture, count: int, seed: int) -> Iterator[Batch]:
        """Batches of `count` people of a mixture (fewer where pictures are bad), without end."""
        drawing = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        while True:
            drawn = mixture.draw(count, drawing)
            parts = [one.rows([row]) for one, row in drawn]
            whole = join([_absolute(part) for part in parts])
            yield self.read(whole, generator)

    def _pictures(self, people: PictureSet) -> list[tuple[np.ndarray | str, str]]:
        """Each person's picture or why it cannot be read, and its name; each file is read once."""
        names = list(dict.fromkeys(people.pictures))
        first = {name: people.pictures.index(name) for name in names}
        found = dict(
            zip(names, self._map(_read, [people.path(first[n]) for n in names]), strict=True)
        )
        return [(found[name], name) for name in people.pictures]

    def _crop(
        self, pixels: np.ndarray, flip: bool, center: np.ndarray, side: float, degrees: float
    ) -> np.ndarray:
        picture = pixels[:, ::-1] if flip else pixels
        return cut_turned(picture, center, side, self.size, degrees)

    def _map(self, work: Callable[..., Any], *items: Any) -> list[Any]:
        if self.threads == 1:
            return [work(*one) for one in zip(*items, strict=True)]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, *items))


def _absolute(people: PictureSet) -> PictureSet:
    """The same people with pictures named from the root of the disk, so that sets can be joined."""
    names = tuple(str(people.path(row).resolve()) for row in range(len(people)))
    return replace(people, pictures=names, root=Path("/"), name="mixture")


def _read(path: Path) -> np.ndarray | str:
    try:
        return read_pixels(path)
    except InputError as error:
        return str(error)
