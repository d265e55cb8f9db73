"""How fast `flowfit train` is on one thread of a CPU, and where a step's time goes.

    python -m benchmarks.posterior.training_speed --mocap MOCAP/train

Steps of the built-in configuration, in float32 and in bfloat16 (`--mixed`), with a clock around the
functions that a step calls. CPU seconds, medians of several steps. Both kinds start from the same
weights and see the same people, by turns, so that what else the machine does slows both.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.models.body_files import find_body
from flowfit.priors.data.people.mocap import Mocap, read_mocap
from flowfit.priors.training import keypoints
from flowfit.priors.training.keypoint_config import TrainingConfig
from flowfit.priors.training.loop import Trainer

PARTS = {
    "people": "drawing people",
    "encode": "encoder, and the flow from bodies to latents",
    "decode": "the mode and the samples, from latents to bodies",
    "losses": "keypoints of the bodies, and the other terms of the loss",
    "backward": "backward",
    "update": "optimizer, averaged weights, and the rest",
}
KINDS = {"float32": False, "bfloat16": True}
_WARM_UP = 2  # the first step starts the ActNorms and the optimizer


class Clock:
    """CPU seconds by part; what a part calls inside another is counted once, as the inner one."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner: list[float] = []

    def around(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function with a clock on it."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.process_time() - began
                self.spent[part] = self.spent.get(part, 0.0) + whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole

        return timed


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.posterior.training_speed",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (train)")
    parser.add_argument("--steps", type=int, default=10, help="to be timed, of each kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, mocap = TrainingConfig(), read_mocap(args.mocap)
    found = measure(config, mocap, args.steps)
    content = {
        "what": "CPU seconds of a training step, medians",
        "batch": config.batch,
        "steps": args.steps,
        "sizes": config.sizes,
        **conditions(),
        "bfloat16_instructions": bfloat16_instructions(),
        "kinds": found,
    }
    write_json(args.out / "training_speed.json", content)
    text = markdown(json.loads((args.out / "training_speed.json").read_text(encoding="utf-8")))
    (args.out / "training_speed.md").write_text(text, encoding="utf-8")
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "training_speed", text)


def measure(config: TrainingConfig, mocap: Mocap, steps: int) -> dict[str, dict[str, Any]]:
    """Median CPU seconds of a step and of its parts, and people a CPU second, of each kind."""
    # the folder is only for what `train` writes, which is not called
    trainers = {
        name: Trainer(
            config, keypoints.KeypointLearner(config, find_body(None), mocap, mixed=mixed), Path()
        )
        for name, mixed in KINDS.items()
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    for _ in range(_WARM_UP + steps):
        for name, trainer in trainers.items():
            runs[name].append(one_step(trainer))
    return {name: summary(timed[_WARM_UP:], config.batch) for name, timed in runs.items()}


def summary(runs: list[dict[str, float]], batch: int) -> dict[str, Any]:
    """Medians of the CPU seconds of several steps, and people a CPU second."""
    step = statistics.median(sum(run.values()) for run in runs)
    return {
        "people_per_second": batch / step,
        "step_seconds": step,
        "seconds": {part: statistics.median(run[part] for run in runs) for part in PARTS},
    }


def one_step(trainer: Trainer) -> dict[str, float]:
    """CPU seconds of the parts of the trainer's next step."""
    clock = Clock()
    posterior: Any = trainer.learner.model
    parts: tuple[tuple[Any, str, str], ...] = (
        (trainer.learner, "draw", "people"),
        (posterior, "condition", "encode"),
        (posterior.flow, "encode", "encode"),
        (posterior, "bodies", "decode"),
        (keypoints, "posterior_losses", "losses"),
        (torch.Tensor, "backward", "backward"),
    )
    with ExitStack() as stack:
        for owner, name, part in parts:
            timed = clock.around(getattr(owner, name), part)
            stack.enter_context(patch.object(owner, name, timed))
        clock.around(trainer.step, "update")()
    return clock.spent


def bfloat16_instructions() -> list[str]:
    """The processor's instruction sets for bfloat16, as Linux names them."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    return sorted(set(re.findall(r"\b(?:avx512_bf16|amx_bf16|bf16)\b", flags)))


def markdown(content: dict[str, Any]) -> str:
    """The table, from what the JSON file holds."""
    kinds = content["kinds"]
    speeds = ", ".join(f"{k['people_per_second']:,.0f} in {name}" for name, k in kinds.items())
    has = ", ".join(content["bfloat16_instructions"]) or "no instructions for bfloat16"
    lines = [
        f"People a CPU second: {speeds}. Steps of {content['batch']:,} people, medians of "
        f"{content['steps']} steps. {conditions_line(content)[:-1]}; {has}.",
        "",
        f"| CPU seconds of a step | {' | '.join(kinds)} |",
        "| --- |" + " --- |" * len(kinds),
    ]
    for part, text in PARTS.items():
        values = (
            f"{k['seconds'][part]:.2f} ({100 * k['seconds'][part] / k['step_seconds']:.0f} %)"
            for k in kinds.values()
        )
        lines.append(f"| {text} | {' | '.join(values)} |")
    totals = (f"**{k['step_seconds']:.2f}**" for k in kinds.values())
    lines.append(f"| **step** | {' | '.join(totals)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
