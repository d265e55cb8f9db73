"""Make a small scene to try `flowfit multiview` on: keypoints, cameras, pictures and the truth.

python examples/make_scene.py scene --people 2 --frames 2

The bodies are drawn from the built-in prior, the pictures are rendered, the keypoints have a
made-up detector's errors. The same arguments give the same scene.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch

from flowfit.fitting.drawing.overlay import write_png
from flowfit.fitting.drawing.render import Shape, render
from flowfit.fitting.drawing.scene import in_camera
from flowfit.fitting.scenes.camera_files import SceneCameras, write_cameras_json
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.files import write_whole
from flowfit.models.keypoints import BODY25
from flowfit.models.rig import Rig
from flowfit.priors.load import load

SIZE = (640, 480)
FOCAL = 560.0  # pixels
DISTORTION = (-0.16, 0.05, 0.0008, -0.0006, 0.0)
PLACES = ((0.0, 0.0), (0.75, 0.55), (-0.8, 0.5))  # metres on the floor
COLORS = ((0.80, 0.62, 0.52), (0.55, 0.66, 0.80), (0.66, 0.74, 0.56))
NOISE, OUTLIERS, MISSED = 0.010, 0.02, 0.05  # of the box; shares of the keypoints
# from a level camera's axes (y down, z ahead) to the world's (z up)
TO_WORLD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def four_cameras() -> SceneCameras:
    """Cameras around the middle of the floor, 3.4 metres off, that look at it."""
    rotations, translations = [], []
    for turn, height in ((0.2, 1.5), (1.7, 2.3), (3.3, 1.8), (4.8, 2.6)):
        place = torch.tensor([3.4 * math.cos(turn), 3.4 * math.sin(turn), height])
        ahead = torch.nn.functional.normalize(torch.tensor([0.0, 0.1, 0.85]) - place, dim=0)
        right = torch.linalg.cross(ahead, torch.tensor([0.0, 0.0, 1.0]))
        right = torch.nn.functional.normalize(right, dim=0)
        rotation = torch.stack((right, torch.linalg.cross(ahead, right), ahead)).double()
        rotations.append(rotation)
        translations.append(-rotation @ place.double())
    count = len(rotations)
    names = tuple(f"cam{n}" for n in range(count))
    lens = Camera(
        torch.full((count, 2), FOCAL, dtype=torch.float64),
        torch.tensor(SIZE, dtype=torch.float64).expand(count, 2) / 2 + 3.0,
        torch.tensor(DISTORTION, dtype=torch.float64).expand(count, 5),
    )
    rig = Rig(torch.stack(rotations), torch.stack(translations))
    return SceneCameras(names, lens, rig, (SIZE,) * count, np.array([0.0, 0.0, 1.0]))


def draw_bodies(body: Body, people: int, frames: int, seed: int) -> dict[str, torch.Tensor]:
    """Rotations (F, P, 24, 3, 3), betas (F, P, S), transl (F, P, 3): people who move a little."""
    prior = load("pose-flow", num_betas=body.num_betas)
    nothing = torch.zeros(people, len(BODY25))
    camera = Camera.from_size(*SIZE, FOCAL)
    given = prior.given(BODY25, nothing[..., None].expand(-1, -1, 2), nothing, camera, body)
    generator = torch.Generator().manual_seed(seed)
    size = sum(given.step_blocks.values())
    start, moves = (torch.randn(people, size, generator=generator) for _ in range(2))
    turn = TO_WORLD
    found = []
    betas = given.decode(0.7 * start).betas
    for frame in range(frames):
        pose = given.decode(0.7 * start + 0.25 * frame * moves)
        rotations = torch.cat((turn @ pose.rotations[:, :1], pose.rotations[:, 1:]), 1)
        low = body.vertices(betas, rotations)[..., 2].amin(-1)  # feet on the floor
        transl = torch.tensor([(*PLACES[p % len(PLACES)], 0.0) for p in range(people)])
        transl[:, 2] = -low
        found.append({"rotations": rotations, "betas": betas, "transl": transl})
    return {key: torch.stack([f[key] for f in found]).double() for key in found[0]}


def detect(pixels: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    """A person's keypoints (K, 2) as a detector may report them: (K, 3) x, y, confidence."""
    true = pixels.numpy()
    side = float(np.ptp(true, axis=0).max())
    error = NOISE * side * rng.normal(size=true.shape)
    error += (rng.random(len(true)) < OUTLIERS)[:, None] * 0.15 * side * rng.normal(size=true.shape)
    xy = true + error
    for name in BODY25.names:  # detectors derive the neck and the mid-hip from their neighbours
        pair = BODY25.midpoint_of(name)
        if pair is not None:
            xy[BODY25.index(name)] = xy[BODY25.indices(list(pair))].mean(0)
    doubt = np.linalg.norm(error, axis=-1) / (0.02 * side) + 0.35 * rng.normal(size=len(true))
    sure = 0.95 / (1 + np.exp(0.55 * doubt - 2.2))
    inside = ((xy >= 0) & (xy < SIZE)).all(-1) & (rng.random(len(true)) >= MISSED)
    return np.where(inside[:, None], np.concatenate((xy, sure[:, None]), -1), 0).round(3)


def floor() -> Shape:
    """A chequered floor of 8 by 8 metres, in tiles of a quarter of a metre."""
    corners = np.arange(-16, 16)
    x, y = (v.ravel() for v in np.meshgrid(corners, corners))
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    flat = (np.stack((x, y), -1)[:, None] + square).reshape(-1, 2) * 0.25
    first = 4 * np.arange(len(x))[:, None]
    faces = np.concatenate((first + np.array([0, 1, 2]), first + np.array([0, 2, 3])))
    shade = np.where((x // 4 + y // 4) % 2, 0.52, 0.62).repeat(4)
    vertices = np.concatenate((flat, np.zeros((len(flat), 1))), -1)
    return Shape(vertices, faces, shade[:, None] * np.array([1.0, 0.97, 0.92]))


def picture(shapes: list[Shape], cameras: SceneCameras, view: int) -> np.ndarray:
    """What a camera sees."""
    lens, rig = cameras.camera, cameras.rig
    distortion = None if lens.distortion is None else lens.distortion[view].numpy()
    rotation, translation = rig.rotations[view].numpy(), rig.translations[view].numpy()
    seen = in_camera(shapes, rotation, translation, distortion)
    (fx, fy), (cx, cy) = lens.focal[view].tolist(), lens.center[view].tolist()
    drawn = render(seen, width=SIZE[0], height=SIZE[1], focal=(fx, fy), center=(cx, cy))
    wall = np.linspace(214, 178, SIZE[1])[:, None, None] * np.ones((1, SIZE[0], 3))
    mixed = wall + (drawn.color - wall) * drawn.coverage[..., None]
    return np.round(mixed).astype(np.uint8)


def make_scene(
    folder: Path,
    *,
    people: int = 2,
    frames: int = 2,
    seed: int = 0,
    body: str = "open",
    pictures: bool = True,
) -> None:
    """Write a scene; `truth.json` holds the bodies: frame -> person -> joints3d_world, metres."""
    model, cameras = find_body(body), four_cameras()
    bodies = draw_bodies(model, people, frames, seed)
    exact = model.to(dtype=torch.float64)
    points = exact.keypoints(bodies["betas"], bodies["rotations"], BODY25, bodies["transl"])
    joints = exact.joints(bodies["betas"], bodies["rotations"], bodies["transl"])
    meshes = exact.vertices(bodies["betas"], bodies["rotations"], bodies["transl"]).numpy()
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_cameras_json(folder / "cameras.json", cameras)
    truth: dict[str, list[dict[str, object]]] = {}
    for frame in range(frames):
        name = f"frame_{frame:03d}"
        where = folder / "keypoints" / name
        where.mkdir(parents=True, exist_ok=True)
        for view, camera in enumerate(cameras.names):
            at = torch.tensor([view])
            inside = cameras.rig.views(at).to_cameras(points[frame])[:, 0]
            seen = [detect(p, rng) for p in cameras.camera.rows(at).project(inside)[0]]
            order = rng.permutation(people)  # as a detector finds them: nobody knows who is who
            entries = [
                {"person_id": [-1], "pose_keypoints_2d": seen[p].ravel().tolist()} for p in order
            ]
            content = json.dumps({"version": 1.3, "people": entries})
            write_whole(where / f"{camera}_keypoints.json", content.encode())
            if pictures:
                shapes = [floor()]
                for p in range(people):
                    color = COLORS[p % len(COLORS)]
                    shapes.append(Shape(meshes[frame, p], model.faces.numpy(), color))
                (folder / "images" / camera).mkdir(parents=True, exist_ok=True)
                path = folder / "images" / camera / f"{name}.png"
                write_png(path, picture(shapes, cameras, view))
        truth[name] = [{"joints3d_world": joints[frame, p].tolist()} for p in range(people)]
    write_whole(folder / "truth.json", (json.dumps(truth) + "\n").encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--body", default="open")
    args = parser.parse_args()
    make_scene(args.folder, people=args.people, frames=args.frames, seed=args.seed, body=args.body)
    print(f"{args.folder}: now flowfit multiview {args.folder} --out out")


if __name__ == "__main__":
    main()
