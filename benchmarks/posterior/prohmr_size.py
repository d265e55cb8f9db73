"""The full-size configuration `prohmr`: time and memory a step, 32 pictures learned by heart.

    python -m benchmarks.posterior.prohmr_size --mocap MOCAP/val --page docs/image_posterior.md

`--size` is the crops' side when learning by heart: 224 takes 12 times as long as the default. The
networks are the full-size ones either way.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.models.body_files import find_body
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.models.rotations import rotation_6d_to_matrix
from flowfit.priors.data.datasets.files import read_dataset
from flowfit.priors.data.datasets.registry import mix
from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings, make_picture_set
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.pictures.augment import PictureAugmentation
from flowfit.priors.image.prohmr_prior import normalised
from flowfit.priors.training.image import ImageLearner
from flowfit.priors.training.image_config import CONFIGS
from flowfit.priors.training.image_losses import truth_of
from flowfit.priors.training.loop import Trainer
from flowfit.priors.training.prohmr import ProHMRForm

PICTURES = 32
NORMS_LEARN = 1 / 3  # share of the steps after which the averages of the batch norms are held
_STILL = PictureAugmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        prog="python -m benchmarks.posterior.prohmr_size",
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files")
    parser.add_argument("--steps", type=int, default=600, help="when learning by heart")
    parser.add_argument("--size", type=int, default=64, help="pixels, when learning by heart")
    parser.add_argument("--batch", type=int, default=8, help="of the steps that are timed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mixed", action="store_true", help="bfloat16 networks")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = find_body("open")
        settings = PictureSettings(count=PICTURES, size=224, truncated=0.0)
        maker = PictureMaker(body, body, read_mocap(args.mocap), settings)
        people = read_dataset(make_picture_set(folder / "set", maker, progress=False))
        mixture = mix({"a": people}, {"a": 1.0})
        config = replace(CONFIGS["prohmr"], batch=args.batch, augmentation=_STILL, steps=args.steps)

        form = ProHMRForm(config, body, device=args.device, mixed=args.mixed)
        parameters = sum(p.numel() for p in form.model.parameters())
        trainer = Trainer(config, ImageLearner(config, form, mixture), folder / "time")
        trainer.step()
        began, used = time.perf_counter(), time.process_time()
        for _ in range(2):
            trainer.step()
        seconds, cpu = (time.perf_counter() - began) / 2, (time.process_time() - used) / 2
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if args.device != "cpu":
            memory = torch.cuda.max_memory_allocated() / 2**30
        del trainer, form

        curve = learn_by_heart(args, config, mixture, folder)
    content = {
        "what": "the full-size configuration: time and memory a step, 32 pictures learned by heart",
        "device": args.device if args.device == "cpu" else torch.cuda.get_device_name(),
        "mixed": args.mixed,
        "parameters_million": parameters / 1e6,
        "batch": args.batch,
        "seconds_a_step": seconds,
        "cpu_seconds_a_step": cpu,
        "peak_memory_gib": memory,
        "size": args.size,
        "norms_learn": NORMS_LEARN,
        "curve": curve,
        **conditions(),
    }
    write_json(args.out / "prohmr_size.json", content)
    text = markdown(json.loads((args.out / "prohmr_size.json").read_text(encoding="utf-8")))
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "seed size", text)


def learn_by_heart(
    args: argparse.Namespace, config: Any, mixture: Any, folder: Path
) -> list[dict[str, float]]:
    """The modes' errors on the 32 pictures while they are learned."""
    # without dropout and critic, which are there to prevent just this
    config = replace(
        config,
        sizes={**config.sizes, "image_size": args.size},
        batch=PICTURES,
        rate=3e-4,
        warmup=20,
        falling=0.5,
        losses=replace(config.losses, adversarial=0.0),
    )
    form = ProHMRForm(config, find_body("open"), device=args.device, mixed=args.mixed)
    drop_nothing(form.model)
    learner = ImageLearner(config, form, mixture)
    trainer = Trainer(config, learner, folder / "heart")
    everybody = learner.reader.read(mixture.sets[0])
    truth = truth_of(everybody, form.body, form.schema)
    true = form.body.joints(truth.people.betas, truth.people.rotations)
    learner.read = lambda step: everybody  # type: ignore[method-assign]
    curve = []
    for step in range(args.steps + 1):
        if step % 50 == 0:
            form.model.eval()
            with torch.no_grad():
                images = everybody.images.to(args.device)
                six, betas, _ = (t.cpu() for t in form.model(normalised(images)))
            rotations = rotation_6d_to_matrix(six.unflatten(-1, (24, 6)))
            joints = form.body.joints(betas, rotations)
            error = 1000 * pa_mpjpe(joints[:, JOINTS], true[:, JOINTS]).mean().item()
            curve.append({"step": step, "pa_mpjpe_mm": error})
            print(curve[-1], flush=True)
        if step == round(NORMS_LEARN * args.steps):
            hold_norms(form.model)
        if step < args.steps:
            trainer.step()
    return curve


def drop_nothing(model: nn.Module) -> None:
    """Turn dropout off."""
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout.p = 0.0


def hold_norms(model: nn.Module) -> None:
    """Let the batch norms use their averages from now on, in training, too.

    In training the flow's norms see true bodies at one call and modes and random bodies at the
    next. Their averages, which the mode is decoded with, are of neither, and as long as training
    does without them it does not learn to.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, norm=module: norm  # type: ignore[method-assign,misc]


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    lines = [
        conditions_line(content),
        "",
        f"`prohmr`, {content['parameters_million']:.0f} million parameters, crops of 224 pixels, "
        f"batch {content['batch']}, {'bfloat16' if content['mixed'] else 'float32'} on "
        f"{content['device']}: {content['cpu_seconds_a_step']:.1f} s of CPU a step "
        f"({content['seconds_a_step']:.1f} s on the clock of a shared machine), "
        f"{content['peak_memory_gib']:.1f} GiB at most.",
        "",
        f"32 pictures learned by heart (crops of {content['size']} pixels, full-size networks, no "
        "dropout, no critic; after "
        f"{100 * content['norms_learn']:.0f} % of the steps the batch norms keep their averages), "
        "the modes' PA-MPJPE:",
        "",
        "| step | " + " | ".join(str(int(c["step"])) for c in content["curve"]) + " |",
        "| --- " * (len(content["curve"]) + 1) + "|",
        "| mm | " + " | ".join(f"{c['pa_mpjpe_mm']:.1f}" for c in content["curve"]) + " |",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
