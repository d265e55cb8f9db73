"""How good lifting 2D skeletons to 3D is, and ProHMR's Figure 4.

    python -m benchmarks.lifting.lifting --mocap MOCAP/test --train MOCAP/train --regressor
    REGRESSOR

On made-up people from motion capture and through cameras that no lifter has seen: the mode's error
beside the same network trained as a plain regressor (`flowfit train lifting --config regressor`);
the best of n samples, of n skeletons of the training set, and of n skeletons around the mode; how
often the samples' intervals hold the truth; skeletons a second. Writes `lifting.json`,
`lifting.md` and `lifting.png`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.lifting.lifting_page import markdown, plot
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.keypoints import BODY25, H36M17, KeypointSchema
from flowfit.models.metrics import mpjpe, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import Mocap, read_mocap
from flowfit.priors.data.people.synthetic import TRUNCATED, Detector, PeopleMaker, Scenery
from flowfit.priors.lifting.files import load_lifter
from flowfit.priors.lifting.input import JOINTS, ROOT, to_joints
from flowfit.priors.lifting.lifter import NUMBERS, Lifter
from flowfit.priors.load import load

# what is told of whom; the detector errs as in `benchmarks.posterior.posterior`
SETS: dict[str, tuple[KeypointSchema, Detector, Scenery]] = {
    "body25": (BODY25, Detector(), Scenery()),
    "h36m17": (H36M17, Detector(), Scenery()),
    "body25, truncated": (BODY25, Detector(), TRUNCATED),
}
CURVES_OF = "body25"
COUNTS = tuple(2**k for k in range(13))  # 1 to 4096
SIGMAS = (0.01, 0.10, 0.20)  # metres, of the Gaussians around the mode
LEVELS = (0.5, 0.8, 0.95)
TIMED_PEOPLE, TIMED_SAMPLES = 10_000, 100
_POOL = 20_000  # skeletons drawn from the training set


class Seen(NamedTuple):
    """People as told: (B, K, 2) pixels, (B, K), cameras; and their joints (B, 17, 3), metres."""

    schema: KeypointSchema
    keypoints: Tensor
    confidence: Tensor
    camera: Camera
    joints: Tensor


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.lifting.lifting"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (test)")
    parser.add_argument("--train", type=Path, required=True, help="folder of AMASS files (train)")
    parser.add_argument("--lifter", default="lifting")
    parser.add_argument("--regressor", type=Path, help="of `train lifting --config regressor`")
    parser.add_argument("--people", type=int, default=2000, help="in each set")
    parser.add_argument("--sampled", type=int, default=200, help="people for best of 4,096")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body, lifter = find_body("open"), load_lifter(args.lifter)[0]
    regressor = None if args.regressor is None else load_lifter(args.regressor)[0]
    recordings = read_mocap(args.mocap)
    content: dict[str, Any] = {
        "what": "lifting, made-up people from unseen motion capture",
        "people_a_set": args.people,
        "sampled": args.sampled,
        "seed": args.seed,
        **conditions(),
        "sets": {},
    }
    for name in SETS:
        seen = made_up(name, body, recordings, args.people, args.seed)
        content["sets"][name] = set_errors(seen, body, lifter, regressor)
        print(name, json.dumps(content["sets"][name]), flush=True)
        if name == CURVES_OF:
            some = first_people(seen, args.sampled)
            pool = training_skeletons(body, read_mocap(args.train), _POOL, args.seed)
            content |= curves(lifter, some, pool, args.seed)
            print(json.dumps(content["curves"]), flush=True)
    content["speed"] = speeds(lifter, first_people(seen, TIMED_PEOPLE))
    print(json.dumps(content["speed"]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "lifting.json", content)
    content = json.loads((args.out / "lifting.json").read_text(encoding="utf-8"))
    text = f"{conditions_line(content)}\n\n{markdown(content)}"
    (args.out / "lifting.md").write_text(text, encoding="utf-8")
    plot(content, args.out / "lifting.png")
    if args.page is not None:
        put_between_marks(args.page, "lifting", text)


def made_up(name: str, body: Body, recordings: Mocap, people: int, seed: int) -> Seen:
    """People of one of the sets."""
    schema, detector, scenery = SETS[name]
    poses = axis_angle_to_matrix(torch.from_numpy(recordings.poses).float())
    weights = torch.from_numpy(recordings.balanced_weights()).float()
    maker = PeopleMaker(body, poses, weights, schema, detector, scenery)
    drawn = maker.draw(people, torch.Generator().manual_seed(seed))
    joints = body.keypoints(drawn.betas, drawn.rotations, JOINTS)
    joints = joints - joints[:, JOINTS.index(ROOT)][:, None]
    return Seen(schema, drawn.keypoints, drawn.confidence, drawn.camera, joints)


def first_people(seen: Seen, count: int) -> Seen:
    """So many of them, over and over when there are fewer."""
    rows = torch.arange(count) % len(seen.joints)
    return Seen(
        seen.schema,
        seen.keypoints[rows],
        seen.confidence[rows],
        seen.camera.rows(rows),
        seen.joints[rows],
    )


@torch.no_grad()
def condition(lifter: Lifter, seen: Seen) -> Tensor:
    """What the lifter makes of what was seen, from the detector's own schema."""
    told = to_joints(seen.schema, lifter.schema, seen.keypoints, seen.confidence)
    return lifter.condition(*told, seen.camera)


@torch.no_grad()
def set_errors(
    seen: Seen, body: Body, lifter: Lifter, regressor: Lifter | None
) -> dict[str, dict[str, float]]:
    """MPJPE and PA-MPJPE over 17 joints, mm, of every method on one set."""
    found = {"mode": lifter.mode(condition(lifter, seen)).joints[:, 0]}
    if regressor is not None:
        found["plain regressor"] = regressor.mode(condition(regressor, seen)).joints[:, 0]
    if seen.schema is BODY25:
        flow = load("keypoint-flow")
        given = flow.given(seen.schema, seen.keypoints, seen.confidence, seen.camera, body)
        start = given.start()
        assert start is not None
        pose = given.decode(start.latent)
        found["SMPL posterior's mode"] = body.keypoints(pose.betas, pose.rotations, JOINTS)
    root = JOINTS.index(ROOT)
    return {
        name: {
            "mpjpe_mm": 1000 * mpjpe(joints, seen.joints, root).mean().item(),
            "pa_mpjpe_mm": 1000 * pa_mpjpe(joints, seen.joints).mean().item(),
        }
        for name, joints in found.items()
    }


def training_skeletons(body: Body, recordings: Mocap, count: int, seed: int) -> Tensor:
    """Skeletons (count, 17, 3) of random poses of the training set, with random shapes."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.from_numpy(recordings.balanced_weights())
    rows = torch.multinomial(weights, count, True, generator=generator)
    rotations = axis_angle_to_matrix(torch.from_numpy(recordings.poses)[rows].float())
    betas = torch.randn(count, body.num_betas, generator=generator)
    return body.keypoints(betas, rotations, JOINTS)


@torch.no_grad()
def curves(lifter: Lifter, seen: Seen, pool: Tensor, seed: int) -> dict[str, Any]:
    """Least PA-MPJPE of n skeletons, mm, for each way to draw them; coverage of the samples."""
    context = condition(lifter, seen)
    generator = torch.Generator().manual_seed(seed)
    most = COUNTS[-1]
    errors: dict[str, list[Tensor]] = {}
    inside: dict[str, list[Tensor]] = {"all axes": [], "depth": []}
    for row, truth in enumerate(seen.joints):
        latent = torch.randn(most, NUMBERS, generator=generator)
        latent[0] = 0  # the mode counts as the first sample, here and of the Gaussians
        samples = lifter.sample(context[row : row + 1], latent).joints[0]
        ways = {"posterior": samples}
        rows = torch.randint(len(pool), (most,), generator=generator)
        ways["training set"] = pool[rows]
        for sigma in SIGMAS:
            around = sigma * torch.randn(most, len(JOINTS), 3, generator=generator)
            around[:, JOINTS.index(ROOT)] = 0
            around[0] = 0
            ways[f"Gaussian, {100 * sigma:.0f} cm"] = samples[:1] + around
        for name, skeletons in ways.items():
            each = 1000 * pa_mpjpe(skeletons, truth.expand(most, -1, -1))
            best = torch.stack([each[:n].min() for n in COUNTS])
            errors.setdefault(name, []).append(best)
        kept = [i for i, name in enumerate(JOINTS.names) if name != ROOT]
        rank = (samples[1:, kept] < truth[kept]).float().mean(0)
        hit = torch.stack([(rank - 0.5).abs() <= level / 2 for level in LEVELS], -1).float()
        inside["all axes"].append(hit.mean((0, 1)))
        inside["depth"].append(hit[:, 2].mean(0))
    means = {name: torch.stack(rows).mean(0) for name, rows in errors.items()}
    return {
        "curves": {
            name: {str(n): v for n, v in zip(COUNTS, mean.tolist(), strict=True)}
            for name, mean in means.items()
        },
        "slopes": {name: slope(mean) for name, mean in means.items()},
        "coverage": {
            name: dict(zip(map(str, LEVELS), torch.stack(hits).mean(0).tolist(), strict=True))
            for name, hits in inside.items()
        },
    }


def slope(errors: Tensor) -> dict[str, float]:
    """The line through errors (len(COUNTS)) over log2 n: mm a doubling, and what it explains."""
    doublings = torch.tensor([math.log2(n) for n in COUNTS])
    x, y = doublings - doublings.mean(), errors - errors.mean()
    along = (x @ y / (x @ x)).item()
    left = ((y - along * x) ** 2).sum() / (y @ y).clamp(min=1e-12)
    return {"mm_a_doubling": along, "r_squared": 1 - left.item()}


@torch.no_grad()
def speeds(lifter: Lifter, seen: Seen) -> dict[str, float]:
    """CPU seconds of one thread: skeletons a second from pixels, alone and with samples."""
    many = len(seen.joints)
    noise = torch.randn(TIMED_SAMPLES, NUMBERS, generator=torch.Generator().manual_seed(0))

    def modes() -> None:
        lifter.mode(condition(lifter, seen))

    def samples() -> None:
        context = condition(lifter, first_people(seen, many // TIMED_SAMPLES))
        lifter.mode(context)
        lifter.sample(context, noise)

    alone, together = (_best_time(job) for job in (modes, samples))
    return {
        "people": many,
        "modes_a_second": many / alone,
        "samples_each": TIMED_SAMPLES,
        "samples_a_second": many / together,
        "people_with_samples_a_second": many / TIMED_SAMPLES / together,
    }


def _best_time(job: Callable[[], None], rounds: int = 5) -> float:
    """Least CPU seconds of several; the first is not counted."""
    spent = []
    for _ in range(rounds + 1):
        began = time.process_time()
        job()
        spent.append(time.process_time() - began)
    return min(spent[1:])


if __name__ == "__main__":
    main()
