"""What an evaluation writes: means over everybody, as numbers and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowfit.fitting.evaluation.ways import ANNOTATED, BOTH, IMAGE, KEYPOINTS, MEAN, REGRESSION, Way
from flowfit.models.metrics import TURNED

_TOLD = {"": "nothing", IMAGE: "picture", BOTH: "picture and keypoints", KEYPOINTS: "keypoints"}
Part = Mapping[str, Any]


def summarise(parts: Sequence[Part], ways: Sequence[Way]) -> dict[str, Any]:
    """One set's rows from its parts; every number is a mean over the people who have it."""
    rows = []
    for way in ways:
        of_way = [part["ways"][way.key] for part in parts if way.key in part["ways"]]
        if not of_way:
            continue
        joined = {
            name: _numbers(value for one in of_way for value in one[name])
            for name in ("pa_mpjpe", "mpjpe", "turned", "failed")
        }
        people = int(np.isfinite(joined["failed"]).sum())
        turned = joined["turned"][np.isfinite(joined["turned"])]
        rows.append(
            {
                "way": way.key,
                "told": way.told,
                "recipe": way.recipe,
                "keypoints": way.keypoints,
                "people": people,
                "failed": int(np.nansum(joined["failed"])),
                "pa_mpjpe_mm": _mean(joined["pa_mpjpe"]),
                "pa_mpjpe_median_mm": _median(joined["pa_mpjpe"]),
                "mpjpe_mm": _mean(joined["mpjpe"]),
                "orientation_deg": _mean(turned),
                "turned_share": _mean((turned > TURNED).astype(float)),
                "cpu_ms": 1000 * sum(one["seconds"] for one in of_way) / max(1, people),
            }
        )
    best: dict[str, dict[str, Any]] = {}
    for told in dict.fromkeys(t for part in parts for t in part["best_of"]):
        counts = next(part["best_of"][told] for part in parts if told in part["best_of"])
        best[told] = {
            count: _mean(
                _numbers(v for part in parts for v in part["best_of"].get(told, {}).get(count, []))
            )
            for count in counts
        }
    views = _views(parts)
    passed_over = [entry for part in parts for entry in part["passed_over"]]
    return {
        "people": sum(len(part["names"]) for part in parts),
        "rows": rows,
        "best_of_pa_mpjpe_mm": best,
        "nll_nats": {
            told: _mean(_numbers(v for part in parts for v in part["nll"].get(told, [])))
            for told in best
        },
        "views": views,
        "passed_over": passed_over,
    }


def _views(parts: Sequence[Part]) -> list[dict[str, Any]]:
    found = []
    for key in dict.fromkeys(k for part in parts for k in part.get("views", {})):
        of_key = [part["views"][key] for part in parts if key in part.get("views", {})]
        joined = {
            name: _numbers(value for one in of_key for value in one[name])
            for name in ("pa_mpjpe", "mpjpe")
        }
        told, _, how = key.partition("/")
        found.append(
            {
                "told": told,
                "how": how,
                "people": int(np.isfinite(joined["pa_mpjpe"]).sum()),
                "pa_mpjpe_mm": _mean(joined["pa_mpjpe"]),
                "mpjpe_mm": _mean(joined["mpjpe"]),
            }
        )
    return found


def _numbers(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: np.ndarray) -> float | None:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else None


def _median(values: np.ndarray) -> float | None:
    good = values[np.isfinite(values)]
    return float(np.median(good)) if len(good) else None


def markdown(content: Mapping[str, Any]) -> str:
    """All tables as a page's part; the least of a column is bold."""
    lines: list[str] = []
    for name, one in content["sets"].items():
        lines += [f"**{name}** ({one['people']} people)", ""]
        lines += [*_rows_table(one["rows"]), ""] if one["rows"] else []
        if one["best_of_pa_mpjpe_mm"]:
            counts = list(next(iter(one["best_of_pa_mpjpe_mm"].values())))
            lines += [
                f"| {name}: told | NLL nats | " + " | ".join(f"best of {n}" for n in counts) + " |",
                "| --- | --- |" + " --- |" * len(counts),
            ]
            for told, values in one["best_of_pa_mpjpe_mm"].items():
                texts = " | ".join(_text(v) for v in values.values())
                lines.append(f"| {_TOLD[told]} | {_text(one['nll_nats'][told])} | {texts} |")
            lines += [""]
        if one["views"]:
            lines += [
                f"| {name}: told | several views | PA-MPJPE mm | MPJPE mm |",
                "| --- | --- | --- | --- |",
            ]
            lines += [
                f"| {_TOLD[v['told']]} | {v['how']} | {_text(v['pa_mpjpe_mm'])} | "
                f"{_text(v['mpjpe_mm'])} |"
                for v in one["views"]
            ]
            lines += [""]
        if one["passed_over"]:
            lines += [f"Passed over in {name}: {len(one['passed_over'])} pictures.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    turned = any(row["orientation_deg"] is not None for row in rows)
    failed = any(row["failed"] for row in rows)
    head = ["told", "then", "keypoints", "PA-MPJPE mm", "MPJPE mm"]
    head += ["orientation", "turned > 45°"] if turned else []
    head += ["failed"] if failed else []
    head += ["CPU"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    least = {
        key: min((row[key] for row in rows if row[key] is not None), default=None)
        for key in ("pa_mpjpe_mm", "mpjpe_mm")
    }
    for row in rows:
        cells = [_TOLD[row["told"]], _then(row), _which(row)]
        cells += [
            f"**{_text(row[key])}**" if row[key] == least[key] else _text(row[key])
            for key in ("pa_mpjpe_mm", "mpjpe_mm")
        ]
        if turned:
            share = row["turned_share"]
            cells += [
                _text(row["orientation_deg"], "°"),
                "" if share is None else f"{100 * share:.1f} %",
            ]
        cells += [str(row["failed"])] if failed else []
        cells.append(f"{row['cpu_ms']:.0f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _then(row: Mapping[str, Any]) -> str:
    names = {MEAN: "mean pose", REGRESSION: "mode"}
    return names.get(row["recipe"], f"fit: {row['recipe']}")


def _which(row: Mapping[str, Any]) -> str:
    if row["recipe"] == MEAN or (row["told"] == IMAGE and row["recipe"] == REGRESSION):
        return ""
    return "true" if row["keypoints"] == ANNOTATED else "detected"


def _text(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.1f}{unit}"
