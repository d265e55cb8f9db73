"""The field's tables for a posterior: on made-up pictures, or on a dataset that you have.

What it is told, alone and together: the mode; the best of n samples; fits with detected and with
true keypoints, beside SMPLify from the same mode; several views. A set is evaluated in parts, each
saved when it is done, so a run that was stopped goes on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowfit.fitting.energy.recipes import EVALUATED, check_recipes
from flowfit.fitting.evaluation.dataset import DatasetPeople
from flowfit.fitting.evaluation.parts import check_settings, fingerprint, part_file, read_part
from flowfit.fitting.evaluation.people import PeopleSource
from flowfit.fitting.evaluation.synthetic import (
    SETS,
    VIEWS,
    SyntheticPeople,
    drawn_poses,
    mocap_poses,
)
from flowfit.fitting.evaluation.table import markdown, summarise
from flowfit.fitting.evaluation.views import judge_views
from flowfit.fitting.evaluation.ways import (
    ANNOTATED,
    BOTH,
    DETECTED,
    IMAGE,
    MEAN,
    REGRESSION,
    Priors,
    Way,
    best_of,
    judge,
    load_priors,
    surprise,
    ways_of,
)
from flowfit.fitting.reading.inputs import check_device, version
from flowfit.fitting.writing import files as results
from flowfit.models.body import Body
from flowfit.models.body_files import find_body
from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.priors.data.datasets.registry import SYNTHETIC, find_dataset

DEFAULT_SAMPLES = (1, 5, 10, 25)
_SMALL_CROP = 64  # pixels, where nothing looks at them
QUICK_PEOPLE = 64
_TOGETHER = 32  # people of a part
# what `quick` tells, and the rows that it is from
_QUICK = {
    "mean_pose": Way("", MEAN),
    "image_mode": Way(IMAGE, REGRESSION),
    "image_keypoints_mode": Way(BOTH, REGRESSION),
    "image_smplify": Way(IMAGE, "smplify"),
    "image_fit": Way(BOTH, "flow"),
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` gives back.

    Attributes:
        content: what `evaluation.json` holds: settings, and for each set its rows, best of n
            samples, several views, and who was passed over. markdown: the tables.
        files: what was written.
    """

    content: dict[str, Any]
    markdown: str
    files: tuple[Path, ...]

    @property
    def headline(self) -> dict[str, float | None]:
        """PA-MPJPE in mm of the rows that `--quick` prints, of the first set."""
        first = next(iter(self.content["sets"].values()))
        errors = {row["way"]: row["pa_mpjpe_mm"] for row in first["rows"]}
        found = {name: errors.get(way.key) for name, way in _QUICK.items()}
        return {name: None if e is None else round(e, 1) for name, e in found.items()}


def evaluate(
    dataset: str = SYNTHETIC,
    out: str | os.PathLike[str] | None = None,
    *,
    prior: str = "image-small",
    recipes: Sequence[str] = EVALUATED,
    mixture: str = "smplify",
    keypoints: Sequence[str] = (DETECTED, ANNOTATED),
    samples: Sequence[int] = DEFAULT_SAMPLES,
    people: int | None = None,
    sets: Sequence[str] = tuple(SETS),
    mocap: str | os.PathLike[str] | None = None,
    files: str | os.PathLike[str] | None = None,
    pictures: str | os.PathLike[str] | None = None,
    body: str | os.PathLike[str] | None = None,
    gender: str = "neutral",
    quick: bool = False,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a posterior on a dataset.

    Args:
        dataset: "synthetic", a registered name ("3dpw-test", ...), or a dataset file.
        out: folder for the results and their parts; None writes none.
        prior: name or file of an image posterior (or of a keypoint posterior).
        recipes: what is fitted, names in `RECIPES`. mixture: of the classical ones.
        keypoints: "detected", "annotated" (the true ones) or both.
        samples: the n of best of n; () for none, and no density either.
        people: at most so many (of the made-up ones: so many a set; 200 where not given).
        sets: of the made-up people: "plain", "truncated", "views". mocap: folder of AMASS files
            with their poses. files, pictures: folders of annotation files and of pictures.
        body, gender, device, dtype: as in `fit`. seed: of everything random.
        quick: fewer people and rows, for a look; without `mocap`, poses that the built-in pose
            prior draws. progress: show a bar.

    Raises:
        InputError: something given cannot be used; nothing has been written then.
    """
    check_device(device)
    target = None if out is None else Path(out)
    results.check_writable(out)
    check_recipes(recipes)
    for kind in keypoints:
        if kind not in (DETECTED, ANNOTATED):
            raise InputError(f"keypoints {kind!r}: choose from {DETECTED}, {ANNOTATED}")
    for name in sets:
        if name not in SETS:
            raise InputError(f"set {name!r}: choose from {', '.join(SETS)}")
    if any(n < 1 for n in samples) or (people is not None and people < 1):
        raise InputError("numbers of people and of samples must be 1 or more")
    model = find_body(body, gender=gender).to(dtype=dtype, device=device)
    priors = load_priors(prior, mixture, model, device)
    if quick:
        people, samples = people or QUICK_PEOPLE, ()
        known = ways_of(priors, EVALUATED, (DETECTED,))
        ways = tuple(way for way in known if way in _QUICK.values())
        sets = tuple(sets)[:1]
    else:
        ways = ways_of(priors, recipes, keypoints)
    size = priors.image_size or _SMALL_CROP
    how: dict[str, Any] = {"together": _TOGETHER, "size": size, "dtype": dtype, "device": device}
    source: PeopleSource
    missing: tuple[str, ...] = ()
    if dataset == SYNTHETIC:
        how |= {"sets": tuple(sets), "count": people or 200, "seed": seed}
        source = _synthetic(model, mocap, quick, how)
    else:
        found = find_dataset(
            dataset,
            None if files is None else Path(files),
            None if pictures is None else Path(pictures),
        )
        missing = found.missing
        of_gender = _bodies_of_gender(found.people.gender, body, model)
        source = DatasetPeople(found, model, of_gender=of_gender, count=people, **how)
    settings = {
        "dataset": dataset,
        "prior": prior,
        "weights": fingerprint(priors),
        "mixture": mixture,
        "ways": [way.key for way in ways],
        "samples": list(samples),
        "people": people,
        "parts": {name: source.parts(name) for name in source.sets},
        "poses": _poses_word(dataset, mocap),
        "joints": list(source.joints.names),
        "body": model.name,
        "dtype": str(dtype).removeprefix("torch."),
        "seed": seed,
    }
    if target is not None:
        check_settings(target, settings)
        results.make_folder(target / "parts")
        results.write_json(target / "settings.json", settings)
    evaluated = _run(source, ways, samples, model, priors, target, seed, progress)
    content: dict[str, Any] = {
        "what": "PA-MPJPE and MPJPE in mm, means over everybody",
        **settings,
        "version": version(),
        "missing_pictures": list(missing),
        "sets": {name: summarise(parts, ways) for name, parts in evaluated.items()},
    }
    text = markdown(content)
    written: list[Path] = []
    if target is not None:
        results.write_json(target / "evaluation.json", content)
        write_whole(target / "evaluation.md", text.encode())
        written = [target / "evaluation.json", target / "evaluation.md"]
    return Evaluation(content, text, tuple(written))


def _run(
    source: PeopleSource,
    ways: Sequence[Way],
    samples: Sequence[int],
    body: Body,
    priors: Priors,
    target: Path | None,
    seed: int,
    progress: bool,
) -> dict[str, list[dict[str, Any]]]:
    """Every set's parts, those that are there already from their files."""
    from tqdm import tqdm

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in source.sets}
    total = sum(source.parts(name) for name in source.sets)
    with tqdm(total=total, unit="part", desc="evaluating", disable=not progress) as bar:
        for name in source.sets:
            for number in range(source.parts(name)):
                bar.set_postfix_str(name)
                path = None if target is None else part_file(target, name, number)
                part = None if path is None else read_part(path)
                if part is None:
                    part = _evaluate_part(source, name, number, ways, samples, body, priors, seed)
                    if path is not None:
                        results.write_json(path, part)
                found[name].append(part)
                bar.update()
    return found


def _evaluate_part(
    source: PeopleSource,
    name: str,
    number: int,
    ways: Sequence[Way],
    samples: Sequence[int],
    body: Body,
    priors: Priors,
    seed: int,
) -> dict[str, Any]:
    began = time.perf_counter()
    people, bad = source.part(name, number)
    if name == VIEWS:  # what single pictures give is in the other sets
        ways, samples = (), ()
    part: dict[str, Any] = {
        "names": [] if people is None else list(people.names),
        "ways": {},
        "best_of": {},
        "nll": {},
        "views": {},
        "passed_over": [{"picture": picture, "reason": reason} for picture, reason in bad],
    }
    if people is None:
        return part
    for way in ways:
        judged = judge(way, people, body, priors, source.joints)
        if judged is not None:
            errors = {key: value.tolist() for key, value in judged.errors.items()}
            part["ways"][way.key] = {**errors, "seconds": judged.seconds}
    for place, told in enumerate(priors.posteriors if samples else ()):
        generator = torch.Generator().manual_seed((seed * 8 + place) * 100_003 + number)
        nats = surprise(told, people, body, priors, generator)
        if nats is not None:
            part["nll"][told] = nats.tolist()
        least = best_of(told, people, body, priors, source.joints, samples, generator)
        part["best_of"][told] = {str(n): value.tolist() for n, value in least.items()}
    if bool((people.frame >= 0).any()):
        part["views"] = judge_views(people, body, priors, source.joints)
    part["seconds"] = time.perf_counter() - began
    return part


def _synthetic(
    body: Body, mocap: str | os.PathLike[str] | None, quick: bool, how: dict[str, Any]
) -> SyntheticPeople:
    if mocap is not None:
        poses, weights = mocap_poses(Path(mocap))
    elif quick:
        poses, weights = drawn_poses(int(how["seed"])), None
    else:
        raise InputError(
            "synthetic: give a folder of AMASS files whose poses no training saw (--mocap DIR), "
            "or --quick for a look without any"
        )
    drawn = find_body("open-low") if body.name == "open" else body
    return SyntheticPeople(body, drawn, poses, weights, **how)


def _bodies_of_gender(
    genders: Sequence[str], body: str | os.PathLike[str] | None, like: Body
) -> dict[str, Body]:
    """Male and female bodies of the folder that was given, where the people need them.

    The true bodies of some datasets (3DPW) are of the person's gender; results are neutral.
    """
    found = {}
    for kind, gender in (("m", "male"), ("f", "female")):
        if kind in genders:
            with contextlib.suppress(InputError):  # the neutral one then stands for all
                found[kind] = find_body(body, gender=gender).to(
                    dtype=like.dtype, device=like.device
                )
    return found


def _poses_word(dataset: str, mocap: str | os.PathLike[str] | None) -> str:
    if dataset != SYNTHETIC:
        return "the dataset's"
    return "drawn from the built-in pose prior" if mocap is None else "motion capture"
