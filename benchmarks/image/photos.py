r"""What the image posterior, which has only seen drawn people, makes of photographs.

    python -m benchmarks.image.photos --pictures examples/data --draw camera astronaut \
        --page docs/image_posterior.md

No true bodies are known of photographs. What is told: how far the mode's picture is from the
keypoints that a detector found, and how far the mode is from the fit with everything known. Writes
`image_photos.json`, and for each name after `--draw` a picture `docs/images/image_NAME.png`: the
crop, and the mode given the picture alone, the keypoints alone, and both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.image.posterior import BUILT_IN, SHOWN
from flowfit.fitting.drawing.render import Shape, render
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES
from flowfit.fitting.one_view.fit_seen import fit_seen
from flowfit.fitting.reading import formats
from flowfit.fitting.reading.inputs import focal_length
from flowfit.fitting.reading.pictures import read_picture
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.priors.data.pictures.crops import crop_box, cut
from flowfit.priors.image.files import load_image_posterior
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.load import load
from flowfit.priors.networks.encoders import Boxes

_TILE = 320  # pixels
_ENDINGS = (".png", ".jpg", ".jpeg")
_KEYPOINTS = ("_keypoints.json", "_openpose.json")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.image.photos"
    )
    parser.add_argument("--pictures", type=Path, required=True, help="with keypoints beside them")
    parser.add_argument("--draw", nargs="*", default=[], help="names of pictures to draw")
    parser.add_argument("--prior", type=Path, default=BUILT_IN)
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    posterior, _ = load_image_posterior(args.prior)
    body = find_body("open")
    found: dict[str, Any] = {}
    for path in sorted(p for p in args.pictures.iterdir() if p.suffix in _ENDINGS):
        beside = [path.with_name(path.stem + end) for end in _KEYPOINTS]
        there = [p for p in beside if p.is_file()]
        if not there:
            print(f"{path}: no keypoints beside it, passed over")
            continue
        measured, drawn = measure(posterior, body, path, there[0])
        found[path.stem[:20]] = measured
        print(path.name, json.dumps(measured), flush=True)
        if path.stem in args.draw:
            args.images.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(args.images / f"image_{path.stem}.png"), drawn[..., ::-1])
    content = {"what": "the image posterior on photographs", "photos": found, **conditions()}
    write_json(args.out / "image_photos.json", content)
    if args.page is not None:
        text = markdown(json.loads((args.out / "image_photos.json").read_text(encoding="utf-8")))
        put_between_marks(args.page, "photographs", text)


@torch.no_grad()
def measure(
    posterior: ImagePosterior, body: Body, path: Path, keypoints: Path
) -> tuple[dict[str, Any], np.ndarray]:
    """Of the first person of a photograph: distances of every mode, and a picture of them."""
    picture = read_picture(path)
    size = (picture.width, picture.height)
    detections = formats.read(keypoints, schema="body25", image_size=size)
    camera = Camera.from_size(*size, focal_length(None, picture, size)[0])
    pixels = torch.tensor(detections.keypoints[:1]).float()
    confidence = torch.tensor(detections.confidence[:1]).float()
    problem = FitProblem.build(
        detections.schema, pixels, confidence, Camera(camera.focal[None], camera.center[None])
    )
    fitted = fit_seen(problem, body, load("keypoint-flow"), RECIPES["flow"])
    box = crop_box(problem.keypoints, problem.confidence)
    crop = cut(picture.pixels, box.center[0].numpy(), float(box.side[0]), posterior.image_size)
    image = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    wide = cut(picture.pixels, box.center[0].numpy(), float(box.side[0]), _TILE)
    tiles, measured = [wide], {}
    seen_points = problem.confidence[0] > 0
    for shown, (has_picture, has_keypoints) in SHOWN.items():
        if shown == "nothing":
            continue
        seen = Seen(
            image, torch.tensor([has_picture]), problem.keypoints,
            problem.confidence * has_keypoints, problem.camera, box,
        )  # fmt: skip
        context = posterior.condition(seen)
        mode = posterior.mode(context)
        betas, rotations = mode.betas[:, 0], mode.rotations[:, 0]
        place = posterior.translation(context, betas, seen, body)
        points = body.keypoints(betas, rotations, BODY25, place)
        off = (problem.camera.project(points)[0] - problem.keypoints)[0, seen_points]
        joints = body.joints(betas, rotations)[:, JOINTS]
        away = pa_mpjpe(joints, fitted.joints3d[:, JOINTS].float())
        measured[shown] = {
            "reprojection_percent_of_crop": 100 * (off.norm(dim=-1) / box.side).median().item(),
            "pa_to_fit_mm": 1000 * away.item(),
        }
        vertices = body.vertices(betas, rotations, place)
        tiles.append(_drawn(wide, vertices[0], body, problem.camera, box))
    return measured, np.concatenate(tiles, 1)


def _drawn(
    crop: np.ndarray, vertices: Tensor, body: Body, camera: Camera, box: Boxes
) -> np.ndarray:
    """The body over the crop."""
    zoom = float(_TILE / box.side[0])
    corner = (box.center - box.side[:, None] / 2)[0]
    center = ((camera.center[0] - corner) * zoom).tolist()
    focal = (camera.focal[0] * zoom).tolist()
    shape = Shape(vertices.double().numpy(), body.faces.numpy(), (0.55, 0.75, 0.95))
    over = render(
        [shape], width=_TILE, height=_TILE, focal=(focal[0], focal[1]),
        center=(center[0], center[1]), engine="raycast",
    )  # fmt: skip
    cover = over.coverage[..., None]
    mixed = crop * (1 - cover) + over.color * cover
    return np.clip(mixed, 0, 255).astype(np.uint8)


def markdown(content: dict[str, Any]) -> str:
    """The table as a page's part."""
    lines = [
        conditions_line(content),
        "",
        "| photograph | shown | from the keypoints | from the fit (PA) |",
        "| --- | --- | --- | --- |",
    ]
    for name, of_photo in content["photos"].items():
        for shown, m in of_photo.items():
            lines.append(
                f"| {name} | {shown} | {m['reprojection_percent_of_crop']:.1f} % of the crop "
                f"| {m['pa_to_fit_mm']:.0f} mm |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
