"""Flowfit: find the 3D human body (SMPL) that explains a picture's 2D keypoints.

The command line's verbs are functions here: `from flowfit import fit`. They are imported when first
used, so that `import flowfit` is quick and loads no torch. The folders `models`, `priors` and
`fitting` beside this one are `flowfit.models`, `flowfit.priors` and `flowfit.fitting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# in the order of `flowfit --help`; each is a function in the file of its name in fitting/verbs/
VERBS = ("fit", "compare", "multiview", "lift", "sample", "train", "evaluate", "doctor")
__all__ = ["__version__", "train_image", *VERBS]

if TYPE_CHECKING:  # for type checkers, which do not run `__getattr__`
    from flowfit.fitting.verbs.compare import compare as compare
    from flowfit.fitting.verbs.doctor import doctor as doctor
    from flowfit.fitting.verbs.evaluate import evaluate as evaluate
    from flowfit.fitting.verbs.fit import fit as fit
    from flowfit.fitting.verbs.lift import lift as lift
    from flowfit.fitting.verbs.multiview import multiview as multiview
    from flowfit.fitting.verbs.sample import sample as sample
    from flowfit.fitting.verbs.train import train as train
    from flowfit.fitting.verbs.train_image import train_image as train_image


def __getattr__(name: str) -> Any:
    """A verb, imported when first asked for."""
    if name in __all__:
        from importlib import import_module

        verb = getattr(import_module(f"flowfit.fitting.verbs.{name}"), name)
        globals()[name] = verb
        return verb
    raise AttributeError(f"module 'flowfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
