"""The verb `doctor`: what this machine has, and how to get what is missing.

A short verb whose options stand beside it: what is slow to load it imports when it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from importlib import metadata


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb; `common` has the options of every verb."""
    parser = verbs.add_parser(
        "doctor", parents=[common], help="what this machine has, and how to get what is missing"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    print(doctor())
    return 0


def doctor() -> str:
    """The report, a line each: versions, device, drawing, bodies, priors."""
    import torch

    from flowfit.fitting.drawing.render import available_engine
    from flowfit.models.body_files import available_bodies
    from flowfit.priors.registry import BUILT_IN

    engine, reason = available_engine()
    lines = [
        ("flowfit", f"{_installed('flowfit')} on Python {platform.python_version()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("GPU", _gpu()),
        ("drawing", f"{engine} ({reason})"),
    ]
    if engine != "pyrender":
        if importlib.util.find_spec("pyrender") is None:
            advice = "pip install 'flowfit[render]' adds pyrender; ray casting draws the same"
        else:
            advice = "Debian: apt install libegl1; ray casting draws the same pictures"
        lines.append(("", advice))
    for name, where in available_bodies():
        lines.append(("body", f"{name}: {where}"))
    if not os.environ.get("FLOWFIT_BODY"):
        lines.append(
            ("", "the real SMPL: register at smpl.is.tue.mpg.de, then --body FILE or FLOWFIT_BODY")
        )
    lines += [("prior", f"{prior.name}: {prior.what}") for prior in BUILT_IN.values()]
    lines.append(("", "SMPLify's own mixture: --prior path/to/gmm_08.pkl"))
    lines.append(("", "ProHMR's released posterior: --prior path/to/checkpoint.pt"))
    return "\n".join(f"{label:<8} {text}" for label, text in lines)


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use; everything runs on the CPU"
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    return f"{torch.cuda.device_count()} x {', '.join(sorted(names))}: --device cuda"


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
