"""Flowfit: find the 3D human body (SMPL) that explains a picture's 2D keypoints.

The command line's verbs are functions here: `from flowfit import fit`. They are imported when first
used, so that `import flowfit` is quick and loads no torch. The folders `models`, `priors` and
`fitting` beside this one are `flowfit.models`, `flowfit.priors` and `flowfit.fitting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flowfit.fitting.verbs.compare import compare as compare
    from flowfit.fitting.verbs.doctor import doctor as doctor
    from flowfit.fitting.verbs.evaluate import evaluate as evaluate
    from flowfit.fitting.verbs.fit import fit as fit
    from flowfit.fitting.verbs.lift import lift as lift
    from flowfit.fitting.verbs.multiview import multiview as multiview
    from flowfit.fitting.verbs.sample import sample as sample
    from flowfit.fitting.verbs.train_image import train_image as train_image
    from flowfit.fitting.verbs.train_keypoints import train as train

_FROM = {
    "compare": "flowfit.fitting.verbs.compare",
    "doctor": "flowfit.fitting.verbs.doctor",
    "evaluate": "flowfit.fitting.verbs.evaluate",
    "fit": "flowfit.fitting.verbs.fit",
    "lift": "flowfit.fitting.verbs.lift",
    "multiview": "flowfit.fitting.verbs.multiview",
    "sample": "flowfit.fitting.verbs.sample",
    "train": "flowfit.fitting.verbs.train_keypoints",
    "train_image": "flowfit.fitting.verbs.train_image",
}
__all__ = [
    "__version__",
    "compare",
    "doctor",
    "evaluate",
    "fit",
    "lift",
    "multiview",
    "sample",
    "train",
    "train_image",
]


def __getattr__(name: str) -> Any:
    """A verb, imported when first asked for."""
    if name in _FROM:
        from importlib import import_module

        verb = getattr(import_module(_FROM[name]), name)
        globals()[name] = verb
        return verb
    raise AttributeError(f"module 'flowfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
