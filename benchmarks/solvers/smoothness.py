"""Whether a flow's energy has a minimum that a solver can find.

    python -m benchmarks.solvers.smoothness --mocap MOCAP/val [--prior FILE ...] [--page
    docs/solver.md]

A flow with ReLU is trained by `flowfit train keypoints --config FILE`, where the file says
`{"sizes": {"activation": "relu"}}`.

Minimises the objective of recipe `prohmr` with exact derivatives in float64. Then: how much of the
energy the quadratic model still promises at the end (at a minimum nothing, at a kink a lot), and
how often a start a little beside the end leads to an energy that differs by more than 0.1 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.solvers.solver import DETECTOR, build
from flowfit.fitting.energy.normal_equations import damped_step
from flowfit.fitting.energy.objective import Objective, State
from flowfit.fitting.solvers.levenberg_marquardt import Options, minimize
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import PeopleMaker, Scenery
from flowfit.priors.load import load

EXACT = Options(rows=None, tolerance=0.0, largest_damping=1e12)
ITERATIONS = (10, 20, 40)
ASIDE = (0.1, 0.3, 1.0)  # of a standard deviation, each of the latent's numbers
UNDAMPED = 1e-6


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.solvers.smoothness"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files")
    parser.add_argument("--prior", nargs="+", default=["keypoint-flow"])
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body, mocap = find_body("open"), read_mocap(args.mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
    weights = torch.from_numpy(mocap.balanced_weights()).float()
    maker = PeopleMaker(body, poses, weights, BODY25, DETECTOR, Scenery())
    people = maker.draw(args.people, torch.Generator().manual_seed(args.seed))
    camera = people.camera.to(dtype=torch.float64)
    people = people._replace(
        keypoints=people.keypoints.double(), confidence=people.confidence.double(), camera=camera
    )
    found = {}
    for name in args.prior:
        flow = load(name, dtype=torch.float64)
        objective, start = build(people, body.to(dtype=torch.float64), flow)
        posterior = objective.prior.as_posterior()
        assert posterior is not None
        activation = posterior.network.activation
        found[f"{Path(name).stem} ({activation})"] = measure(objective, start, args.seed)
    content = {"people": args.people, "seed": args.seed, **conditions(), "priors": found}
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "smoothness.json", content)
    text = markdown(content)
    print(text)
    if args.page is not None:
        put_between_marks(args.page, "smoothness", text)


def measure(objective: Objective, start: State, seed: int) -> dict[str, Any]:
    """What is still promised after some iterations, and where neighbours of the end go."""
    promised = {}
    for iterations in ITERATIONS:
        solution = minimize(objective, start, iterations, EXACT)
        promised[iterations] = 100 * still_promised(objective, solution.state)
    generator = torch.Generator().manual_seed(seed)
    elsewhere = {}
    for aside in ASIDE:
        noise = torch.randn(start.latent.shape, generator=generator).to(start.latent)
        beside = solution.state._replace(latent=solution.state.latent + aside * noise)
        again = minimize(objective, beside, ITERATIONS[-1], EXACT).energy
        other = (again / solution.energy - 1).abs() > 1e-3
        elsewhere[aside] = 100 * other.double().mean().item()
    return {"promised_percent_median": promised, "elsewhere_percent": elsewhere}


def still_promised(objective: Objective, state: State) -> float:
    """Median share of the energy by which the model says that a full step would lower it."""
    evaluation = objective.evaluate(state)
    model = evaluation.model().select(objective.free_columns())
    step, _ = damped_step(model, torch.full_like(evaluation.energy, UNDAMPED))
    return (model.fall(step) / evaluation.energy).median().item()


def markdown(content: dict[str, Any]) -> str:
    """The table."""
    head = [f"{n} iterations" for n in ITERATIONS] + [f"{a} aside" for a in ASIDE]
    lines = [
        f"{content['people']} people, seed {content['seed']}. {conditions_line(content)}",
        "",
        "| flow | " + " | ".join(head) + " |",
        "| --- " * (len(head) + 1) + "|",
    ]
    for name, of_prior in content["priors"].items():
        promised = [f"{v:.1g} %" for v in of_prior["promised_percent_median"].values()]
        elsewhere = [f"{v:.0f} %" for v in of_prior["elsewhere_percent"].values()]
        lines.append(f"| {name} | " + " | ".join(promised + elsewhere) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
