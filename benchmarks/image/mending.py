r"""What the image posterior makes of the keypoints that it is given, on made-up pictures.

    python -m benchmarks.image.mending --mocap MOCAP/test --page docs/image_posterior.md

A given keypoint is right if it lies within 5 % of the crop's side of the true one, as in training.
Told are how far right ones are from the truth before and after mending, how many of the right and
of the wrong ones are kept, and how far wrong ones are before and after.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.image.posterior import BUILT_IN, SETS, make_pictures, rows_of, seen_of
from flowfit.models.body_files import find_body
from flowfit.priors.data.drawn.draw_people import Pictures
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.image.files import load_image_posterior
from flowfit.priors.image.mending import Mended
from flowfit.priors.image.posterior import ImagePosterior

_RIGHT_WITHIN = 0.05  # crop sides


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.image.mending"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--people", type=int, default=512, help="in each set")
    parser.add_argument("--prior", type=Path, default=BUILT_IN)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    posterior, _ = load_image_posterior(args.prior)
    body, recordings = find_body("open"), read_mocap(args.mocap)
    found: dict[str, Any] = {}
    for name in SETS:
        pictures, _ = make_pictures(name, body, recordings, args.people, args.seed)
        found[name] = measure(posterior, pictures)
        print(name, json.dumps(found[name]), flush=True)
    content = {
        "what": "keypoints before and after the image posterior mended them",
        "people_a_set": args.people,
        "seed": args.seed,
        "sets": found,
        **conditions(),
    }
    write_json(args.out / "image_mending.json", content)
    if args.page is not None:
        text = markdown(json.loads((args.out / "image_mending.json").read_text(encoding="utf-8")))
        put_between_marks(args.page, "mending", text)


@torch.no_grad()
def measure(posterior: ImagePosterior, pictures: Pictures) -> dict[str, float]:
    """Of everybody in a set, in percent."""
    people, box = pictures.people, pictures.box
    mended = mend(posterior, pictures)

    def off(place: Tensor) -> Tensor:
        return 100 * (place - true).norm(dim=-1)

    def in_crop(pixels: Tensor) -> Tensor:
        return (pixels - box.center[:, None]) / box.side[:, None, None]

    true = in_crop(people.true_keypoints)
    before = off(in_crop(people.keypoints))
    given = (people.confidence > 0) & before.isfinite()
    right = given & (before < 100 * _RIGHT_WITHIN)
    wrong = given & ~right
    kept = 100 * (mended.right_logit > 0).to(before.dtype)
    return {
        "wrong_percent": 100 * (wrong.sum() / given.sum()).item(),
        "right_off_before": before[right].mean().item(),
        "right_off_after": off(mended.moved)[right].mean().item(),
        "right_kept_percent": kept[right].mean().item(),
        "wrong_kept_percent": kept[wrong].mean().item(),
        "wrong_off_before": before[wrong].mean().item(),
        "wrong_off_after": off(mended.place)[wrong].mean().item(),
    }


def mend(posterior: ImagePosterior, pictures: Pictures) -> Mended:
    """Everybody's keypoints, mended, a few people at a time."""
    seen, parts = seen_of(pictures, "picture and keypoints"), []
    for start in range(0, len(seen.images), 64):
        some = rows_of(seen, torch.arange(start, min(start + 64, len(seen.images))))
        told = posterior.keypoint_posterior.condition(some.keypoints, some.confidence, some.camera)
        parts.append(posterior.join(posterior.encoder(some.images), told, some).mended)
    return Mended(*(torch.cat(values) for values in zip(*parts, strict=True)))


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    lines = [
        conditions_line(content),
        "",
        "| set | given keypoints that are wrong | right ones: off before, after | right ones kept "
        "| wrong ones kept | wrong ones: off before, after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, m in content["sets"].items():
        lines.append(
            f"| {name} | {m['wrong_percent']:.0f} % "
            f"| {m['right_off_before']:.2f}, {m['right_off_after']:.2f} % of the crop "
            f"| {m['right_kept_percent']:.0f} % | {m['wrong_kept_percent']:.0f} % "
            f"| {m['wrong_off_before']:.1f}, {m['wrong_off_after']:.1f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
