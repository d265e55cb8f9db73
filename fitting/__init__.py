"""Floor 2: find the body that explains what was seen. Uses models and priors.

The command line's verbs are functions here: `from fitting import fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fitting.compare_recipes import compare as compare
    from fitting.diagnosis import doctor as doctor
    from fitting.evaluate_posterior import evaluate as evaluate
    from fitting.fit_image import fit as fit
    from fitting.fit_scene import multiview as multiview
    from fitting.lift_people import lift as lift
    from fitting.sample_people import sample as sample
    from fitting.train_on_pictures import train_image as train_image
    from fitting.train_prior import train as train

_VERBS = {
    "fit": "fitting.fit_image",
    "multiview": "fitting.fit_scene",
    "compare": "fitting.compare_recipes",
    "lift": "fitting.lift_people",
    "doctor": "fitting.diagnosis",
    "sample": "fitting.sample_people",
    "train": "fitting.train_prior",
    "train_image": "fitting.train_on_pictures",
    "evaluate": "fitting.evaluate_posterior",
}
__all__ = [
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
    """Verbs are imported when first used: the command line would start slowly otherwise."""
    if name in _VERBS:
        from importlib import import_module

        verb = getattr(import_module(_VERBS[name]), name)
        globals()[name] = verb
        return verb
    raise AttributeError(f"module 'fitting' has no attribute {name!r}")
