"""Which noise and outlier scales give the lowest 3D error: how a recipe's numbers were found.

    python -m benchmarks.one_view.tune --mocap MOCAP/val --recipe flow

Fits made-up people from validation recordings (never test) with every pair of scales of a grid, and
a recipe's other numbers as they are; all fits start at the posterior's mode. Writes
`tune_NAME.json` and `tune_NAME.md`. The score is the mean PA-MPJPE over the sets, each counting the
same.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.hardware import conditions, conditions_line, put_between_marks, write_json
from benchmarks.posterior.posterior import SETS, UP
from flowfit.fitting.energy.problem import FitProblem
from flowfit.fitting.energy.recipes import RECIPES, Recipe
from flowfit.fitting.one_view.fit_people import fit_people
from flowfit.fitting.one_view.fit_seen import fit_seen, tell
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.metrics import JOINTS, pa_mpjpe
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.base import Pose, PriorModel
from flowfit.priors.data.people.mocap import read_mocap
from flowfit.priors.data.people.synthetic import People, PeopleMaker
from flowfit.priors.load import load

SIGMAS = (0.010, 0.014, 0.020, 0.028)
SCALES = (0.05, 0.08, 0.13)
DOUBTS = (None, 0.08, 0.12, 0.18)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], prog="python -m benchmarks.one_view.tune"
    )
    parser.add_argument("--mocap", type=Path, required=True, help="folder of AMASS files (val)")
    parser.add_argument("--recipe", choices=list(RECIPES), default="flow")
    parser.add_argument("--people", type=int, default=150, help="in each set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--page", type=Path, help="put the table into this page, too")
    args = parser.parse_args()
    body = find_body("open")
    recipe = RECIPES[args.recipe]
    posterior = load("keypoint-flow")
    prior = load(recipe.prior, up=UP if recipe.prior == "gmm" else None)
    mocap = read_mocap(args.mocap)
    poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
    weights = torch.from_numpy(mocap.balanced_weights()).float()
    sets = {}
    for name, (detector, scenery) in SETS.items():
        maker = PeopleMaker(body, poses, weights, BODY25, detector, scenery)
        people = maker.draw(args.people, torch.Generator().manual_seed(args.seed))
        sets[name] = Start.of(people, body, posterior)

    found: list[dict[str, Any]] = []
    for sigma, scale in tqdm(list(itertools.product(SIGMAS, SCALES))):
        tried = with_scales(recipe, sigma, scale)
        errors = {n: s.error(tried, body, prior) for n, s in sets.items()}
        found.append({"sigma": sigma, "scale": scale, "doubt": tried.doubt, **scored(errors)})
    best = min(found, key=lambda f: float(f["mean"]))
    if prior.looks:
        for doubt in tqdm(DOUBTS):
            tried = replace(with_scales(recipe, best["sigma"], best["scale"]), doubt=doubt)
            errors = {n: s.error(tried, body, prior) for n, s in sets.items()}
            found.append({**best, "doubt": doubt, **scored(errors)})
    now = {n: s.error(recipe, body, prior) for n, s in sets.items()}
    fine = recipe.stages[-1].reprojection
    content = {
        "what": "scales of the data term, made-up people from validation motion capture",
        "recipe": recipe.name,
        "prior": prior.name,
        "people_a_set": args.people,
        "seed": args.seed,
        **conditions(),
        "as_it_is": {
            "sigma": fine.sigma, "scale": fine.scale, "doubt": recipe.doubt, **scored(now)
        },
        "tried": sorted(found, key=lambda f: float(f["mean"])),
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / f"tune_{recipe.name}.json", content)
    text = markdown(content)
    (args.out / f"tune_{recipe.name}.md").write_text(text, encoding="utf-8")
    print(text)
    if args.page is not None:
        put_between_marks(args.page, f"tune_{recipe.name}", text)


class Start:
    """People, what was seen of them, and where their fits begin."""

    def __init__(self, people: People, problem: FitProblem, begin: tuple[Pose, Tensor]) -> None:
        self.people, self.problem, self.begin = people, problem, begin

    @classmethod
    def of(cls, people: People, body: Body, posterior: PriorModel) -> Start:
        """Begin at the posterior's mode."""
        problem = FitProblem.build(BODY25, people.keypoints, people.confidence, people.camera)
        given = tell(posterior, problem, body)
        start = given.start()
        assert start is not None
        return cls(people, problem, (given.decode(start.latent), start.transl))

    def error(self, recipe: Recipe, body: Body, prior: PriorModel) -> float:
        """Mean PA-MPJPE over 14 joints, mm."""
        if prior.looks:
            result = fit_seen(self.problem, body, prior, recipe)
        else:
            told = tell(prior, self.problem, body)
            short = replace(recipe, stages=recipe.stages[-1:])
            result = fit_people(self.problem, body, told, short, start=self.begin)
        truth = body.joints(self.people.betas, self.people.rotations)
        found = body.joints(result.betas, result.rotations)
        return 1000 * pa_mpjpe(found[:, JOINTS], truth[:, JOINTS]).mean().item()


def with_scales(recipe: Recipe, sigma: float, scale: float) -> Recipe:
    """The recipe with other scales in its last stage."""
    last = recipe.stages[-1]
    fine = replace(last.reprojection, sigma=sigma, scale=scale)
    return replace(recipe, stages=(*recipe.stages[:-1], replace(last, reprojection=fine)))


def scored(errors: dict[str, float]) -> dict[str, Any]:
    """Errors of the sets and their mean."""
    return {"mean": sum(errors.values()) / len(errors), "pa_mpjpe_mm": errors}


def markdown(content: dict[str, Any]) -> str:
    """The best and the recipe's own, as a table."""
    names = list(content["as_it_is"]["pa_mpjpe_mm"])
    lines = [
        f"Recipe `{content['recipe']}`, PA-MPJPE in mm, {content['people_a_set']} validation "
        f"people a set, seed {content['seed']}. {conditions_line(content)}",
        "",
        "| sigma | scale | doubt | mean | " + " | ".join(names) + " |",
        "| --- " * (4 + len(names)) + "|",
    ]
    rows = [("as it is", content["as_it_is"]), *(("", f) for f in content["tried"][:8])]
    for label, one in rows:
        values = " | ".join(f"{v:.1f}" for v in one["pa_mpjpe_mm"].values())
        lines.append(
            f"| {one['sigma']} {label}| {one['scale']} | {one['doubt'] or 'never'} | "
            f"{one['mean']:.2f} | {values} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
