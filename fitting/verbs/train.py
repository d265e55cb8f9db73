"""Train a posterior on motion capture: the verb `train`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from flowfit.fitting.writing.files import check_writable, make_folder
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.priors.data.people.mocap import Paths, read_mocap
from flowfit.priors.keypoints.files import file_hash, read_about
from flowfit.priors.load import posterior_file
from flowfit.priors.training.keypoint_config import TrainingConfig, read_config
from flowfit.priors.training.keypoints import Trainer

CHECKPOINT = "posterior.safetensors"


def train(
    mocap: Paths,
    out: str | os.PathLike[str],
    *,
    validation: Paths | None = None,
    config: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    batch: int | None = None,
    start: str | os.PathLike[str] | None = None,
    body: str | None = None,
    device: str = "cpu",
    mixed: bool = False,
    credit: str = "",
    licence: str = "",
    progress: bool = True,
    export_now: bool = False,
) -> Path | None:
    """Train a keypoint posterior on AMASS files; goes on where a run in the folder was stopped.

    Args:
        mocap: folder of AMASS npz files. out: folder for `posterior.safetensors`, its JSON,
            `log.csv` and `state.pt`. validation: folder of other recordings.
        config: JSON file with what differs from `TrainingConfig`. steps, batch: over the config's.
        start: a keypoint posterior to begin with: a checkpoint of the configuration's sizes, or
            the name of a built-in one.
        body: to synthesise people with. device, mixed: where, and bfloat16 in the networks.
        credit, licence: of the motion capture; written into the checkpoint.
        progress: show a bar.
        export_now: take no step; write the checkpoint that the run in the folder would end with
            if it ended where it is.

    Returns:
        The checkpoint, or None in the helping processes of torchrun.

    Raises:
        InputError: something given cannot be used.
    """
    folder = Path(out)
    check_writable(folder)
    settings = TrainingConfig() if config is None else read_config(Path(config))
    changes: dict[str, Any] = {"steps": steps, "batch": batch}
    settings = replace(settings, **{k: v for k, v in changes.items() if v is not None})
    if settings.steps < 1 or settings.batch < 2:
        raise InputError("training needs at least 1 step and a batch of 2 people")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch % world:
        raise InputError(f"a batch of {settings.batch} cannot be shared by {world} processes")
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    recordings = read_mocap(mocap)
    others = None if validation is None else read_mocap(validation)
    first = None if start is None else posterior_file(str(start))
    trainer = Trainer(
        settings, find_body(body), recordings, folder, device=device, mixed=mixed, start=first
    )
    make_folder(folder)
    resumed = trainer.resume()
    if export_now and not resumed:
        raise InputError(f"{folder}: no run to export; train first, without --export-now")
    if not export_now:
        for _ in trainer.train(validation=others, progress=progress):
            pass
    if trainer.rank != 0:
        return None
    metrics = {} if others is None else trainer.validate(others)
    path = folder / CHECKPOINT
    trainer.export(
        path,
        {
            "trained_on": {
                "sequences": len(recordings.names),
                "frames": len(recordings),
                "credit": credit,
                "licence": licence,
            },
            "draws": trainer.calibrated(others).told(),
            "validation": metrics,
            **({} if first is None else {"began_with": _named(first)}),
        },
    )
    (folder / "config.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    return path


def _named(start: Path) -> dict[str, Any]:
    """What a checkpoint says of the one that it began with."""
    return {
        "file": start.name,
        "sha256": file_hash(start),
        "steps": read_about(start).get("steps"),
    }
