"""The table of a comparison: one row a recipe, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowfit.fitting.writing.files import write_json
from flowfit.models.files import write_whole

# key of a row, heading, how to write it; those with truth follow where there is truth
_COLUMNS = (
    ("recipe", "recipe", "{}"),
    ("solver", "solver", "{}"),
    ("people", "people", "{}"),
    ("failed", "failed", "{}"),
    ("unfinished", "still falling", "{}"),
    ("reprojection_px", "reprojection px", "{:.1f}"),
    ("reprojection_of_box", "of the box", "{:.2%}"),
    ("quality", "quality", "{:.2f}"),
    ("facing", "facing", "{:.2f}"),
    ("seconds", "s a person", "{:.3f}"),
    ("energy", "energy", "{:.1f}"),
)
_WITH_TRUTH = (
    ("pa_mpjpe_mm", "PA-MPJPE mm", "{:.1f}"),
    ("mpjpe_mm", "MPJPE mm", "{:.1f}"),
    ("orientation_deg", "orientation", "{:.1f}°"),
)
MEASURES = (
    *("reprojection_px", "reprojection_of_box", "quality", "facing"),
    *(k for k, _, _ in _WITH_TRUTH),
)

Row = Mapping[str, Any]


def summarise(recipe: str, solver: str, seconds: float, people: Sequence[Row]) -> dict[str, Any]:
    """A recipe's row: means over those of its people whose fit did not fail.

    Args:
        recipe, solver: names. seconds: of all. people: what `person_report` says of each,
            with the distances from the truth where it is known.
    """
    good = [p for p in people if p["status"] != "invalid"]
    # Adam has no test of convergence, and a regression is no minimisation
    has_an_end = solver not in ("adam", "none")
    falling = sum(p["status"] == "max_iterations" for p in good)
    row: dict[str, Any] = {
        "recipe": recipe,
        "solver": solver,
        "people": len(people),
        "failed": len(people) - len(good),
        "unfinished": falling if has_an_end else None,
        "seconds": seconds / max(1, len(people)),
    }
    for name in MEASURES:
        row[name] = _mean(p.get(name) for p in good)
    names = dict.fromkeys(name for p in good for name in p["energy"])
    terms = {name: _mean(p["energy"].get(name) for p in good) for name in names}
    row["energy"] = terms.pop("total", None)
    row["energy_terms"] = terms
    return row


def _mean(values: Any) -> float | None:
    there = [float(v) for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(there)) if there else None


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and texts; what is not known is empty."""
    columns = [*_COLUMNS]
    columns += [c for c in _WITH_TRUTH if any(row.get(c[0]) is not None for row in rows)]
    texts = [
        ["" if row.get(key) is None else form.format(row[key]) for key, _, form in columns]
        for row in rows
    ]
    return [heading for _, heading, _ in columns], texts


def term_text(row: Row) -> str:
    """The energy's terms in words: `reprojection 12.3, pose 4.5`."""
    terms = row["energy_terms"].items()
    return ", ".join(f"{name} {value:.1f}" for name, value in terms if value is not None)


NOTES = (
    "Means over the people whose fit did not fail. Reprojection: the median error of a person's "
    "seen keypoints. Energies are each recipe's own and do not compare between rows. Time: from "
    "keypoints to result; rows with +mode begin where the regression ends, and its time is not "
    "counted in them."
)


def markdown(rows: Sequence[Row], passed_over: Sequence[tuple[str, str]]) -> str:
    """The table as a page."""
    headings, texts = cells(rows)
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    lines += [f"| {' | '.join(text)} |" for text in texts]
    lines += ["", NOTES, "", "| recipe | mean energy by term |", "| --- | --- |"]
    lines += [f"| {row['recipe']} | {term_text(row)} |" for row in rows]
    if passed_over:
        lines += ["", "Passed over:", "", *(f"- {name}: {why}" for name, why in passed_over)]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """A line a recipe; numbers with all digits, each energy term a column of its own."""
    keys = [key for key, _, _ in (*_COLUMNS, *_WITH_TRUTH)]
    terms = list(dict.fromkeys(name for row in rows for name in row["energy_terms"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *(f"energy_{name}" for name in terms)])
    for row in rows:
        writer.writerow([*(row.get(k) for k in keys), *(row["energy_terms"].get(t) for t in terms)])
    return text.getvalue()


def write_tables(
    folder: Path,
    rows: Sequence[Row],
    people: Sequence[Row],
    passed_over: Sequence[tuple[str, str]],
    about: Mapping[str, Any],
) -> tuple[Path, ...]:
    """`table.md`, `table.csv` and `table.json`; the last one has every person, too."""
    write_whole(folder / "table.md", markdown(rows, passed_over).encode())
    write_whole(folder / "table.csv", as_csv(rows).encode())
    content = {
        **about,
        "recipes": list(rows),
        "people": list(people),
        "passed_over": [{"file": name, "reason": why} for name, why in passed_over],
    }
    write_json(folder / "table.json", content)
    return tuple(folder / f"table.{ending}" for ending in ("md", "csv", "json"))
