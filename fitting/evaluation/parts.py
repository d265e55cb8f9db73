"""An evaluation's parts on the disk: what a run that was stopped goes on from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from flowfit.fitting.evaluation.ways import Priors
from flowfit.models.errors import InputError

_KEYS = {"names", "ways", "best_of", "nll", "passed_over"}


def fingerprint(priors: Priors) -> str:
    """Changes with the posterior's weights: parts of other weights are not to be mixed in."""
    digest = hashlib.sha256()
    for told in sorted(priors.posteriors):
        network: Any = priors.posteriors[told]
        for key, tensor in sorted(network.posterior.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_settings(target: Path, settings: dict[str, Any]) -> None:
    """InputError when a folder holds parts of an evaluation with other settings."""
    path = target / "settings.json"
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = None
    if before != json.loads(json.dumps(settings)):
        differ = [
            k for k in settings if not isinstance(before, dict) or before.get(k) != settings[k]
        ]
        raise InputError(
            f"{target} holds an evaluation with another {', '.join(differ[:3])}; "
            "give another folder, or remove this one"
        )


def part_file(target: Path, name: str, number: int) -> Path:
    """Where a set's part is kept."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return target / "parts" / f"{safe}_{number:06d}.json"


def read_part(path: Path) -> dict[str, Any] | None:
    """A part that was saved, or None."""
    try:
        part = json.loads(path.read_text())
    except (OSError, ValueError):  # not there; or damaged, and then it is made again
        return None
    return (
        part
        if isinstance(part, dict) and {"names", "ways", "best_of", "nll"} <= set(part)
        else None
    )
