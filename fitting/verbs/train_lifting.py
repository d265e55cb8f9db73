"""Train a lifter on motion capture or on Human3.6M: the verb `train lifting`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flowfit.fitting.writing.files import check_writable, make_folder, write_json
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.data.people.mocap import Paths, read_mocap
from flowfit.priors.data.skeletons.h36m import EVALUATION, TRAINING, read_h36m
from flowfit.priors.data.skeletons.pairs import FilePairs, Mixed, PairSource
from flowfit.priors.data.skeletons.prohmr_pairs import read_prohmr_pairs
from flowfit.priors.lifting.input import INPUT_SCHEMAS, WITH_FACE
from flowfit.priors.training.lifting import LiftingTrainer, made_up_pairs
from flowfit.priors.training.lifting_config import (
    LiftingConfig,
    check_lifting_config,
    read_lifting_config,
)

CHECKPOINT = "lifter.safetensors"


def train_lifter(
    out: str | os.PathLike[str],
    *,
    mocap: Paths | None = None,
    h36m: str | os.PathLike[str] | None = None,
    detections: str | None = None,
    validation: Paths | None = None,
    config: str | os.PathLike[str] = "fast",
    steps: int | None = None,
    batch: int | None = None,
    body: str | None = None,
    device: str = "cpu",
    mixed: bool = False,
    credit: str = "",
    licence: str = "",
    progress: bool = True,
) -> Path:
    """Train a lifter; goes on where a run in the folder was stopped.

    Args:
        out: folder for `lifter.safetensors`, its JSON, `log.csv` and `state.pt`.
        mocap: folder of AMASS npz files, seen through virtual cameras.
        h36m: folder of Human3.6M's npz files in the common layout, or an npz of ProHMR. With
            `mocap`, half of each batch is of either.
        detections: NAME of `data_2d_h36m_NAME.npz`. validation: folder of other AMASS files.
            Of Human3.6M, S9 and S11 are the validation.
        config: "fast", "paper", "regressor" or a JSON file. steps, batch: over the config's.
        body: to synthesise people with. device, mixed: where, and bfloat16 in the networks.
        credit, licence: of the data; written into the checkpoint. progress: show a bar.

    Raises:
        InputError: something given cannot be used.
    """
    folder = Path(out)
    check_writable(folder)
    settings = read_lifting_config(str(config))
    changes: dict[str, Any] = {"steps": steps, "batch": batch}
    settings = replace(settings, **{k: v for k, v in changes.items() if v is not None})
    check_lifting_config(settings, "training")
    if mocap is None and h36m is None:
        raise InputError("nothing to train on: give --mocap DIR, --h36m PATH or both")
    sources: list[PairSource] = []
    others: PairSource | None = None
    facts: dict[str, Any] = {"credit": credit, "licence": licence}
    if h36m is not None:
        pairs, others = _read_files(Path(h36m), settings, detections, device)
        sources.append(pairs)
        facts["pairs"] = len(pairs)
    if mocap is not None:
        model = find_body(body).to(device=device)
        recordings = read_mocap(mocap)
        sources.append(made_up_pairs(settings, model, recordings))
        facts |= {"sequences": len(recordings.names), "frames": len(recordings)}
        facts["body"] = model.name
        if validation is not None:
            unseen = read_mocap(validation)
            others = made_up_pairs(settings, model, unseen, augmented=False)
    elif validation is not None:
        raise InputError("--validation is a folder of AMASS files, for --mocap")
    make_folder(folder)
    source = sources[0] if len(sources) == 1 else Mixed(sources)
    trainer = LiftingTrainer(settings, source, folder, device=device, mixed=mixed)
    trainer.resume()
    for _ in trainer.train(validation=others, progress=progress):
        pass
    metrics = {} if others is None else trainer.validate(others)
    path = folder / CHECKPOINT
    trainer.export(path, {"trained_on": facts, "validation": metrics})
    write_json(folder / "config.json", json.loads(json.dumps(asdict(settings))))
    return path


def _read_files(
    path: Path, config: LiftingConfig, detections: str | None, device: str
) -> tuple[FilePairs, FilePairs | None]:
    """Pairs to train on and, of Human3.6M, those of the subjects for evaluation."""
    schema = INPUT_SCHEMAS[config.sizes.get("schema", WITH_FACE.name)]
    if not path.is_dir():
        return read_prohmr_pairs(path, schema).to(device), None
    pairs = read_h36m(path, schema, subjects=TRAINING, detections=detections)
    try:
        others = read_h36m(path, schema, subjects=EVALUATION, detections=detections)
    except InputError as error:
        if "none of the subjects" not in str(error):
            raise
        return pairs.to(device), None
    return pairs.to(device), others.to(device)
