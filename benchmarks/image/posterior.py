r"""How good the image posterior is: mode, density, calibration; with picture, keypoints, both.

    python -m benchmarks.image.posterior --mocap MOCAP/test --log RUN/log.csv \
        --page docs/image_posterior.md

On made-up pictures of people, poses, clothes and backgrounds that no prior has seen. Writes
`image_posterior.json`, `image_posterior_calibration.png`, `image_posterior_people.png` and, with
`--log`, `image_posterior_training.png`; the table goes into the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, TURNED, orientation_error, pa_mpjpe
from flowfit.priors.data.drawn.draw_people import Pictures
from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.mocap import Mocap, read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, People, Scenery
from flowfit.priors.image.files import load_image_posterior
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.keypoints.draw_calibration import DrawCalibration, calibration_of
from flowfit.priors.keypoints.draws import random_latents
from flowfit.priors.keypoints.posterior import Bodies
from flowfit.priors.keypoints.prior import FlowGiven
from flowfit.priors.networks.bound_flow import BoundFlow
from flowfit.priors.networks.encoders import Boxes

BUILT_IN = Path("priors/weights/image_small.safetensors")
# how people are filmed, and whether the frame cuts them
SETS = {"plain": Scenery(), "truncated": TRUNCATED}
# what the posterior is shown: (picture, keypoints)
SHOWN = {
    "nothing": (False, False),
    "picture": (True, False),
    "keypoints": (False, True),
    "picture and keypoints": (True, True),
}
BEST_OF = (1, 5, 10, 25, 100)
LEVELS = (0.5, 0.8, 0.95)
_NOISE = 0.03  # on the 6D numbers of true bodies, as in training
_PARTS = 16  # pictures made at once


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.image.posterior"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=512, help="in each set")
    parser.add_argument("--samples", type=int, default=200, help="of each person")
    parser.add_argument("--prior", type=Path, default=BUILT_IN)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--log", type=Path, help="log.csv of the training, for its curves")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the tables into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    posterior, about = load_image_posterior(args.prior)
    calibration = calibration_of(about, str(args.prior))
    body, recordings = find_body("open"), read_mocap(args.mocap)
    found: dict[str, Any] = {}
    ranks: dict[str, dict[str, Tensor]] = {}
    for name in SETS:
        pictures, speed = make_pictures(name, body, recordings, args.people, args.seed)
        found[name] = {"pictures_per_cpu_second": speed, "shown": {}}
        for shown in SHOWN:
            measured, of_set = measure(
                posterior, calibration, body, pictures, shown, args.samples, args.seed
            )
            found[name]["shown"][shown] = measured
            ranks[f"{name}, {shown}"] = of_set
            print(name, shown, json.dumps(measured), flush=True)
        if name == "plain":
            draw_people(posterior, body, pictures, args.out / "image_posterior_people.png")
    content = {
        "what": "image posterior, made-up pictures of people from unseen motion capture",
        "prior": args.prior.name,
        "steps": about.get("steps"),
        "people_a_set": args.people,
        "samples": args.samples,
        "seed": args.seed,
        **conditions(),
        "sets": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "image_posterior.json", content)
    text = markdown(json.loads((args.out / "image_posterior.json").read_text(encoding="utf-8")))
    plot_ranks(ranks, args.out / "image_posterior_calibration.png")
    if args.log is not None:
        plot_training(args.log, args.out / "image_posterior_training.png")
    if args.page is not None:
        put_between_marks(args.page, "image posterior", text)


def make_pictures(
    name: str, body: Body, recordings: Mocap, people: int, seed: int
) -> tuple[Pictures, float]:
    """Pictures of a set, by its name; and how many a second of one core were drawn."""
    still = Augmentation(mirror=0, recombine=0, posture=0, jitter=0)
    settings = PictureSettings(
        margin=1.0, truncated=0.0, seed=seed, detector=Detector(), augmentation=still,
        plain_scenery=SETS[name],
    )  # fmt: skip
    maker = PictureMaker(body, find_body("open-low"), recordings, settings)
    began = time.process_time()
    made = [maker.part(number) for number in range(-(-people // _PARTS))]
    speed = len(made) * _PARTS / (time.process_time() - began)
    whole = People(*(_join([getattr(p.people, n) for p in made]) for n in People._fields))
    box = Boxes(*(torch.cat([p.box[i] for p in made]) for i in range(2)))
    return Pictures(torch.cat([p.images for p in made]), whole, box), speed


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    return replace(
        first,
        focal=torch.cat([v.focal for v in values]),
        center=torch.cat([v.center for v in values]),
    )


def seen_of(pictures: Pictures, shown: str) -> Seen:
    """What the posterior is shown of everybody."""
    picture, keypoints = SHOWN[shown]
    people = pictures.people
    return Seen(
        pictures.images.float() / 255,
        torch.full((len(pictures.images),), picture),
        people.keypoints,
        people.confidence * keypoints,
        people.camera,
        pictures.box,
    )


@torch.no_grad()
def contexts(posterior: ImagePosterior, seen: Seen) -> Tensor:
    """Conditions of many people, a few at a time."""
    parts = []
    for start in range(0, len(seen.images), 64):
        rows = torch.arange(start, min(start + 64, len(seen.images)))
        parts.append(posterior.condition(rows_of(seen, rows)))
    return torch.cat(parts)


def rows_of(seen: Seen, rows: Tensor) -> Seen:
    """Some of the people."""
    return Seen(
        seen.images[rows], seen.has_image[rows], seen.keypoints[rows], seen.confidence[rows],
        seen.camera.rows(rows), Boxes(seen.box.center[rows], seen.box.side[rows]),
    )  # fmt: skip


@torch.no_grad()
def measure(
    posterior: ImagePosterior,
    calibration: DrawCalibration,
    body: Body,
    pictures: Pictures,
    shown: str,
    samples: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Errors, density, coverage and ranks of a set of people."""
    people = pictures.people
    seen = seen_of(pictures, shown)
    began = time.process_time()
    context = contexts(posterior, seen)
    mode = posterior.mode(context)
    milliseconds = 1000 * (time.process_time() - began) / len(context)
    truth = body.joints(people.betas, people.rotations)
    joints = body.joints(mode.betas[:, 0], mode.rotations[:, 0])
    place = posterior.translation(context, mode.betas[:, 0], seen, body)
    generator = torch.Generator().manual_seed(seed)
    vectors = posterior.vectors(people.rotations, people.betas)
    noise = torch.randn(vectors.shape, generator=generator)
    noise[:, -posterior.num_betas :] = 0
    drawing = calibration.of_widths(posterior.flow.widths(context))
    at_truth = posterior.flow.encode(vectors + _NOISE * noise, context)
    density = at_truth.log_prob + drawing.log_ratio(at_truth.latent)
    turned = orientation_error(mode.rotations[:, 0, 0], people.rotations[:, 0])
    aligned = (joints - joints[:, :1] - truth + truth[:, :1])[:, JOINTS]
    found: dict[str, Any] = {
        "pa_mpjpe_mm": 1000 * pa_mpjpe(joints[:, JOINTS], truth[:, JOINTS]).mean().item(),
        "mpjpe_mm": 1000 * aligned.norm(dim=-1).mean().item(),
        "orientation_deg": turned.mean().item(),
        "turned_share": (turned > TURNED).float().mean().item(),
        "depth_percent": 100 * (place[:, 2] / people.transl[:, 2]).log().abs().median().item(),
        "nll_nats": -density.mean().item(),
        "cpu_ms": milliseconds,
    }
    given = FlowGiven(
        shown, posterior, context, BoundFlow.bind(posterior.flow, context), None, None, calibration
    )
    sampled, ranks = sample_measures(body, given, mode, truth, samples, seed)
    return {**found, **sampled}, ranks


def sample_measures(
    body: Body, given: FlowGiven, mode: Bodies, truth: Tensor, samples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Best of n (the mode is the first), coverage of intervals, ranks of the truth."""
    best: dict[int, list[Tensor]] = {n: [] for n in BEST_OF}
    places = []
    for row, target in enumerate(truth):  # one at a time: all the samples' joints are many
        latents = random_latents(1 + samples, given, row, seed + row)[1:]
        drawn = given.rows(torch.full((samples,), row)).decode_draws(latents)
        rotations = torch.cat((mode.rotations[row], drawn.rotations))
        betas = torch.cat((mode.betas[row], drawn.betas))
        joints = body.joints(betas, rotations)
        error = 1000 * pa_mpjpe(joints[:, JOINTS], target[JOINTS].expand(len(joints), -1, -1))
        for n in BEST_OF:
            best[n].append(error[:n].min())
        relative, true = (joints[1:] - joints[1:, :1])[:, JOINTS], (target - target[:1])[JOINTS]
        places.append((relative < true).float().mean(0))
    place = torch.stack(places)  # (B, 14, 3), 0 to 1
    off = (place - 0.5).abs()
    axes = {"sideways": place[..., :2], "depth": place[..., 2:]}
    coverage = {
        name: {
            str(level): ((values - 0.5).abs() <= level / 2).float().mean().item()
            for level in LEVELS
        }
        for name, values in axes.items()
    }
    coverage["all"] = {str(level): (off <= level / 2).float().mean().item() for level in LEVELS}
    return (
        {
            "best_of_pa_mpjpe_mm": {str(n): torch.stack(e).mean().item() for n, e in best.items()},
            "coverage": coverage,
        },
        {name: values.flatten() for name, values in axes.items()},
    )


def draw_people(
    posterior: ImagePosterior, body: Body, pictures: Pictures, path: Path, count: int = 8
) -> None:
    """Pictures, and on them the skeletons of the modes: picture alone, and both."""
    import cv2

    zoom, columns = 256, []
    for row in range(count):
        picture = pictures.images[row].permute(1, 2, 0).numpy()
        picture = cv2.resize(picture, (zoom, zoom), interpolation=cv2.INTER_CUBIC)
        tiles = [picture]
        for shown in ("picture", "picture and keypoints"):
            rows = rows_of(seen_of(pictures, shown), torch.tensor([row]))
            with torch.no_grad():
                context = posterior.condition(rows)
                mode = posterior.mode(context)
                betas = mode.betas[:, 0]
                place = posterior.translation(context, betas, rows, body)
                points = body.keypoints(betas, mode.rotations[:, 0], BODY25, place)
                pixels = rows.camera.project(points)[0][0]
            corner = rows.box.center[0] - rows.box.side[0] / 2
            tiles.append(_skeleton(picture, (pixels - corner) * (zoom / rows.box.side[0])))
        columns.append(np.concatenate(tiles, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(columns, 1)[..., ::-1])


def _skeleton(picture: np.ndarray, pixels: Tensor) -> np.ndarray:
    import cv2

    picture = picture.copy()
    for a, b in BODY25.edge_indices:
        left = any(BODY25.names[end].startswith("L") for end in (a, b))
        colour = (255, 60, 60) if left else (60, 220, 60)
        ends = [tuple(int(v) for v in pixels[end].clamp(-9999, 9999)) for end in (a, b)]
        cv2.line(picture, ends[0], ends[1], colour, 2, cv2.LINE_AA)
    return picture


def plot_ranks(ranks: dict[str, dict[str, Tensor]], path: Path) -> None:
    """Histograms of ranks; flat is calibrated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = ("sideways", "depth")
    figure, axes = plt.subplots(
        2 * len(SETS), len(SHOWN), figsize=(12, 3.2 * len(SETS)), squeeze=False
    )
    for number, (name, of_set) in enumerate(ranks.items()):
        for line, kind in enumerate(kinds):
            axis = axes[2 * (number // len(SHOWN)) + line][number % len(SHOWN)]
            axis.hist(of_set[kind].numpy(), bins=20, range=(0, 1), density=True, color="#8fcca3")
            axis.axhline(1, color="#444444", linewidth=0.8)
            axis.set_title(f"{name}: {kind}", fontsize=8)
            axis.set_yticks([])
    figure.suptitle("Rank of the true joints among the samples (flat is calibrated)", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot_training(log: Path, path: Path) -> None:
    """Curves of a training's terms."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves: dict[str, dict[int, float]] = {}
    with open(log, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):  # of steps that a killed run repeated the last counts
            curves.setdefault(row["name"], {})[int(row["step"])] = float(row["value"])
    wanted = ("own_place", "own_heat", "nll", "mode_3d", "mode_2d", "mode_theta")
    names = [n for n in wanted if n in curves]
    figure, axes = plt.subplots(2, 3, figsize=(11, 5))
    for axis, name in zip(axes.flat, names, strict=False):
        points = sorted(curves[name].items())
        axis.plot([p[0] for p in points], [p[1] for p in points], color="#2a7f62", linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    figure.suptitle("Training: terms of the loss by step", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def markdown(content: dict[str, Any]) -> str:
    """The tables as a page's part."""
    head = f"{content['people_a_set']} people a set, {content['samples']} samples each, "
    lines = [conditions_line(content), "", head + f"seed {content['seed']}.", ""]
    for name, of_set in content["sets"].items():
        lines += [
            f"**{name}**",
            "",
            "| shown | PA-MPJPE mm | MPJPE mm | orientation | turned > 45° | NLL nats "
            "| best of 25 mm | CPU |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for shown, m in of_set["shown"].items():
            lines.append(
                f"| {shown} | {m['pa_mpjpe_mm']:.1f} | {m['mpjpe_mm']:.1f} "
                f"| {m['orientation_deg']:.1f}° | {100 * m['turned_share']:.1f} % "
                f"| {m['nll_nats']:.1f} | {m['best_of_pa_mpjpe_mm']['25']:.1f} "
                f"| {m['cpu_ms']:.1f} ms |"
            )
        lines.append("")
    lines += [
        "| set | shown | intervals of | 50 % | 80 % | 95 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, of_set in content["sets"].items():
        for shown, m in of_set["shown"].items():
            if shown == "nothing":
                continue
            for axis in ("sideways", "depth"):
                values = " | ".join(f"{100 * v:.0f} %" for v in m["coverage"][axis].values())
                lines.append(f"| {name} | {shown} | {axis} | {values} |")
    speeds = " and ".join(
        f"{s['pictures_per_cpu_second']:.0f} ({name})" for name, s in content["sets"].items()
    )
    lines += ["", f"Pictures of 128 pixels drawn in a second of one core: {speeds}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
