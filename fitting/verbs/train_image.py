"""Train a posterior on pictures: `train image`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowfit.fitting.writing.files import check_writable, make_folder
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.data.datasets.files import read_dataset
from flowfit.priors.data.datasets.registry import Mixture, mix
from flowfit.priors.data.drawn.picture_sets import PictureMaker, make_picture_set
from flowfit.priors.data.people.mocap import Mocap, Paths, read_mocap
from flowfit.priors.image.files import Begun
from flowfit.priors.load import posterior_file
from flowfit.priors.training.image import FusedForm, ImageLearner
from flowfit.priors.training.image_config import (
    CONFIGS,
    ImageTrainingConfig,
    check_image_config,
    read_image_config,
)
from flowfit.priors.training.loop import Trainer
from flowfit.priors.training.prohmr import ProHMRForm

_SYNTHETIC = "synthetic pictures: people drawn in front of noise and shapes; no photograph"
_SAVE_EVERY = 100  # steps, slower than those on keypoints
_COARSE = {"open": "open-low"}  # drawn in its place: enough for small pictures


def train_image(
    out: str | os.PathLike[str],
    *,
    mocap: Paths | None = None,
    datasets: list[tuple[str, str | None, float]] | None = None,
    config: str = "small",
    steps: int | None = None,
    batch: int | None = None,
    pictures: int | None = None,
    base: str | os.PathLike[str] | None = None,
    start: str | os.PathLike[str] | None = None,
    body: str | None = None,
    device: str = "cpu",
    mixed: bool = False,
    threads: int = 1,
    credit: str = "",
    licence: str = "",
    progress: bool = True,
) -> Path:
    """Train an image posterior; goes on where a run in the folder was stopped.

    Args:
        out: folder for the checkpoint, its JSON, `log.csv`, `state.pt`, and, of made-up pictures,
            `pictures/`.
        mocap: folder of AMASS files, of which pictures are made up; or
        datasets: (file, folder of its pictures or None for the file's own, weight) of each.
        config: "small", "prohmr", or a JSON file with what differs from one of them.
        steps, batch, pictures: over the config's; pictures is how many are made up.
        base: the keypoint posterior that "small" stands on; None takes the built-in one.
        start: what to begin with: for "small" another image posterior, also an older one or one
            of other sizes, of which is taken what fits; for "prohmr" a released checkpoint, or a
            ResNet's weights.
        body: as in `fit`. device, mixed: where, and bfloat16 in the networks. threads: that read
            pictures. credit, licence: of the data; written into the checkpoint.
        progress: show bars.

    Returns:
        The checkpoint.

    Raises:
        InputError: something given cannot be used.
    """
    folder = Path(out)
    check_writable(folder)
    settings = CONFIGS[config] if config in CONFIGS else read_image_config(_config_file(config))
    changes: dict[str, Any] = {"steps": steps, "batch": batch}
    settings = replace(settings, **{k: v for k, v in changes.items() if v is not None})
    if pictures is not None:
        settings = replace(settings, pictures=replace(settings.pictures, count=pictures))
    check_image_config(settings)
    if (mocap is None) == (datasets is None):
        raise InputError("give --mocap DIR to make pictures up, or --dataset FILE.npz, not both")
    whose = find_body(body)
    form: FusedForm | ProHMRForm
    first = None if start is None else Path(start)
    if settings.kind == "prohmr":
        form = ProHMRForm(settings, whose, device=device, mixed=mixed, start=first)
    else:
        stands_on = posterior_file("keypoint-flow" if base is None else str(base))
        form = FusedForm(settings, whose, stands_on, device=device, mixed=mixed, start=first)
    if mocap is not None:
        recordings = read_mocap(mocap)
        make_folder(folder)
        people = _made_up(folder, settings, form.image_size, recordings, whose, device, progress)
        trained_on: dict[str, Any] = {
            "sequences": len(recordings.names),
            "frames": len(recordings),
            "pictures": settings.pictures.count,
        }
    else:
        assert datasets is not None
        people = _read(datasets)
        make_folder(folder)
        trained_on = {"datasets": {one.name: len(one) for one in people.sets}}
    trainer = Trainer(settings, ImageLearner(settings, form, people, threads=threads), folder)
    resumed = trainer.resume()
    if isinstance(form, FusedForm) and form.begun is not None and not resumed:
        _tell_begun(str(start), form.begun)
    for _ in trainer.train(save_every=_SAVE_EVERY, progress=progress):
        pass
    path = folder / ("posterior.pt" if settings.kind == "prohmr" else "posterior.safetensors")
    trained_on |= {"credit": credit, "licence": licence}
    domain = _SYNTHETIC if mocap is not None else "pictures of the datasets named"
    trainer.export(path, {"domain": domain, "trained_on": trained_on})
    (folder / "config.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    return path


def _tell_begun(start: str, begun: Begun) -> None:
    """On standard error, which parts of the network begin with another's weights."""
    parts = dict.fromkeys(".".join(name.split(".")[:2]) for name in begun.new)
    rest = f"new are those of {', '.join(parts)}" if parts else "all there are"
    print(f"flowfit: {start}: begun with {begun.taken} of its tensors; {rest}", file=sys.stderr)


def _config_file(config: str) -> Path:
    if not config.endswith(".json"):
        raise InputError(
            f"no configuration {config!r}: choose {', '.join(CONFIGS)}, or a JSON file"
        )
    return Path(config)


def _made_up(
    folder: Path,
    settings: ImageTrainingConfig,
    image_size: int,
    recordings: Mocap,
    body: Body,
    device: str,
    progress: bool,
) -> Mixture:
    """Pictures of people in the recordings' poses, made in the folder unless they are there."""
    small = image_size <= settings.pictures.size
    drawn = find_body(_COARSE[body.name]) if small and body.name in _COARSE else body
    wanted = replace(settings.pictures, size=image_size)
    maker = PictureMaker(body, drawn, recordings, wanted, device)
    path = make_picture_set(folder / "pictures", maker, name=body.name, progress=progress)
    return mix({"made up": read_dataset(path)}, {"made up": 1.0})


def _read(datasets: list[tuple[str, str | None, float]]) -> Mixture:
    sets, weights = {}, {}
    for file, root, weight in datasets:
        people, missing = read_dataset(
            Path(file).expanduser(), None if root is None else Path(root)
        ).with_pictures()
        if missing:
            lost = f"flowfit: {file}: {len(missing)} pictures are not there and are passed over"
            tqdm.write(lost, file=sys.stderr)
        if file in sets:
            raise InputError(f"{file}: given twice; give it once with a larger weight")
        sets[file], weights[file] = people, weight
    return mix(sets, weights)
