"""Where the weights are that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def weights_file(name: str) -> Path:
    """A file of the folder `weights`, such as "gmm8.npz"."""
    return Path(str(resources.files("flowfit.priors") / "weights" / name))
