"""The tables and plots of `benchmarks.trust.uncertainty`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.hardware import conditions_line
from benchmarks.trust.best_of_n import QUANTISED
from benchmarks.trust.coverage import KINDS, LEVELS

_SHOWN = (1, 4, 16, 64, 256, 1024, 4096)
_EVENTS = {
    "bad": "PA-MPJPE above 100 mm",
    "turned": "orientation off by more than 45 degrees",
    "good": "PA-MPJPE below 70 mm",
}
_WRONG = {"quality": "above 70 mm", "facing": "turned further away"}
_AREAS = ("auc_above_100_mm", "auc_turned")
_CHANCES = {
    "quality": ("quality: chance that PA-MPJPE is below 70 mm", "share below 70 mm"),
    "facing": ("facing: chance that it is within 45 degrees", "share within 45 degrees"),
}


def markdown(found: dict[str, Any]) -> str:
    """Everything that was measured."""
    parts = {
        "best_of_n": _best_of_n,
        "coverage": _coverage,
        "quality": _quality,
        "judging": _judging,
        "time": _time,
    }
    return "\n\n".join(parts[name](content) for name, content in found.items()) + "\n"


def _head(title: str, content: dict[str, Any]) -> list[str]:
    return [
        f"### {title}",
        "",
        f"{content['people_a_set']} people a set, seed {content['seed']}. "
        + conditions_line(content),
        "",
    ]


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _percent(shares: list[float]) -> str:
    return " / ".join(f"{100 * v:.0f}" for v in shares)


def _rule(columns: int) -> str:
    return "| --- " * columns + "|"


def _best_of_n(content: dict[str, Any]) -> str:
    lines = _head("The best of n", content)
    lines += ["PA-MPJPE in mm of the best of n bodies. The mode counts as the first sample.", ""]
    for name, of_set in content["sets"].items():
        places = [of_set["best_of"].index(n) for n in _SHOWN]
        lines += [
            f"**{name}**",
            "",
            _row("way to draw", *(f"n = {n}" for n in _SHOWN), "mm a doubling", "line explains"),
            _rule(len(_SHOWN) + 3),
        ]
        for way, errors in of_set["pa_mpjpe_mm"].items():
            line = of_set["mm_a_doubling"][way]
            lines.append(
                _row(
                    way,
                    *(f"{errors[p]:.1f}" for p in places),
                    f"{line['mm']:.2f}",
                    f"{100 * line['explained']:.0f} %",
                )
            )
        lines.append("")
    lines += [
        "K-Means of the 4,096 samples into n bodies (medoids; the mode stands for its cluster):",
        "",
        _row(
            "set",
            "n = 1, the mode",
            *(f"n = {m}" for m in QUANTISED),
            *(f"the first {m} drawn" for m in QUANTISED),
        ),
        _rule(2 * len(QUANTISED) + 2),
    ]
    for name, of_set in content["sets"].items():
        drawn = of_set["pa_mpjpe_mm"]["posterior"]
        lines.append(
            _row(
                name,
                f"{drawn[0]:.1f}",
                *(f"{of_set['quantised_pa_mpjpe_mm'][str(m)]:.1f}" for m in QUANTISED),
                *(f"{drawn[of_set['best_of'].index(m)]:.1f}" for m in QUANTISED),
            )
        )
    lines += [
        "",
        "Bones of the drawn bodies: shoulder to elbow to wrist, hip to knee to ankle.",
        "",
        _row("set", "drawn from", "length error mm", "per cent", "left and right differ, mm"),
        _rule(5),
    ]
    for name, of_set in content["sets"].items():
        for way, bones in of_set["bones"].items():
            lines.append(
                _row(
                    name,
                    way,
                    f"{bones['length_error_mm']:.1f}",
                    f"{bones['length_error_percent']:.1f}",
                    f"{bones['left_right_mm']:.1f}",
                )
            )
    return "\n".join(lines)


def _coverage(content: dict[str, Any]) -> str:
    lines = _head("Coverage after a fit", content)
    lines += [
        f"How often intervals of 50 / 80 / 95 % hold the truth, in per cent; {content['samples']} "
        "draws of each person. Joints relative to the pelvis; the distance is the pelvis' from the "
        "camera. Deviation and CRPS (continuous ranked probability score, lower is better) in mm, "
        "sideways / up and down / depth.",
        "",
        _row("set", "posterior", "all three axes", *KINDS, "deviation", "CRPS"),
        _rule(len(KINDS) + 5),
    ]
    for name, of_set in content["sets"].items():
        for way in ("laplace", "corrected"):
            one = of_set[way]
            axes = [one["inside"][k] for k in KINDS[:3]]
            lines.append(
                _row(
                    name,
                    way,
                    _percent([sum(v) / 3 for v in zip(*axes, strict=True)]),
                    *(_percent(one["inside"][k]) for k in KINDS),
                    " / ".join(f"{v:.0f}" for v in one["sd_mm"]),
                    " / ".join(f"{v:.1f}" for v in one["crps_mm"]),
                )
            )
    lines += [
        "",
        _row("set", "k of the weights, median", "k above 0.7", "effective draws", "CPU"),
        _rule(5),
    ]
    for name, one in content["sets"].items():
        lines.append(
            _row(
                name,
                f"{one['k_hat_median']:.2f}",
                f"{100 * one['not_trusted']:.0f} %",
                f"{100 * one['effective_share']:.0f} %",
                f"{one['cpu_seconds_a_person']:.1f} s a person",
            )
        )
    return "\n".join(lines)


def _quality(content: dict[str, Any]) -> str:
    lines = _head("The two scores", content)
    lines += [
        f"{content['people']} people with corrupted keypoints, recipe `{content['recipe']}`. Areas "
        "under the ROC curve, once with all sets alike and once with half of the people plain and "
        "the others spread over the nine other sets; ± is what chance makes of it, other bodies "
        "drawn.",
        "",
        _row(
            *("what is told", "by", "area, sets alike", "area, half plain"),
            *("share, sets alike", "share, half plain"),
        ),
        _rule(6),
    ]
    for event, name in _EVENTS.items():
        share = content["shares"][event]
        for by, area in content["areas"][event].items():
            chance = f" ± {area['alike_sd']:.3f}" if "alike_sd" in area else ""
            shares = [f"{100 * share[m]:.1f} %" for m in ("alike", "half_plain")]
            lines.append(
                _row(name, by, f"{area['alike']:.3f}{chance}", f"{area['half_plain']:.3f}", *shares)
            )
    lines.append("")
    for score, brier in content["brier"].items():
        lines.append(
            f"Brier score of `{score}` {brier['score']:.3f}; whoever says everybody's share has "
            f"{brier['of_the_share']:.3f}. {_warned(content['reliability'][score], _WRONG[score])}"
        )
    lines += [
        "",
        _row(
            *("set", "mean quality", "below 70 mm", "mean facing", "within 45°", "PA-MPJPE mm"),
            *("area for 100 mm within the set", "for 45°"),
        ),
        _rule(8),
    ]
    for name, one in content["sets"].items():
        lines.append(
            _row(
                name,
                f"{one['quality']:.2f}",
                f"{100 * one['below_70_mm']:.0f} %",
                f"{one['facing']:.2f}",
                f"{100 * one['faces']:.0f} %",
                f"{one['pa_mpjpe_mm']:.1f}",
                *("" if a is None else f"{a:.2f}" for a in map(one.get, _AREAS)),
            )
        )
    if "photos" in content:
        lines += ["", _row("photograph", "keypoints seen", "quality", "facing"), _rule(4)]
        lines += [
            _row(p["picture"], p["seen"], f"{p['quality']:.2f}", f"{p['facing']:.2f}")
            for p in content["photos"]
        ]
    return "\n".join(lines)


def _warned(bins: list[dict[str, float]], what: str) -> str:
    """Of whom a score is below one half, which makes the command line warn."""
    low = [b for b in bins if b["chance"] < 0.5]
    people = sum(b["people"] for b in low)
    wrong = sum(b["people"] * (1 - b["true"]) for b in low) / max(1, people)
    everybody = sum(b["people"] for b in bins)
    return f"It is below 0.5 for {people} of {everybody}; {100 * wrong:.0f} % of these are {what}."


def _judging(content: dict[str, Any]) -> str:
    share, alone = (100 * content[f"scores{k}_ms"] / content[f"fit{k}_ms"] for k in ("", "_alone"))
    return "\n".join(
        [
            "### What the scores cost",
            "",
            conditions_line(content),
            "",
            f"Of {content['fit_ms']:.0f} CPU ms that the fit of a plain person takes among "
            f"{content['judged']}, the scores are {content['scores_ms']:.1f} ({share:.0f} %); "
            f"alone {content['scores_alone_ms']:.0f} of {content['fit_alone_ms']:.0f} "
            f"({alone:.0f} %), median of {content['judged_alone']}.",
        ]
    )


def _time(content: dict[str, Any]) -> str:
    return "\n".join(
        [
            "### Time",
            "",
            conditions_line(content),
            "",
            f"{content['samples']:,} samples of one person and their quantisation to "
            f"{content['modes']}: {content['seconds']:.2f} s on the clock, "
            f"{content['cpu_seconds']:.2f} s of the CPU; 1,000 people "
            f"{content['cpu_minutes_for_1000_people']:.0f} CPU minutes. "
            f"{content['after_fit_samples']:,} corrected draws after a fit: "
            f"{content['after_fit_cpu_seconds']:.1f} CPU seconds a person.",
        ]
    )


def plot(found: dict[str, Any], folder: Path) -> None:
    """`best_of_n.png`, `coverage.png` and `reliability.png`, of what there is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if "best_of_n" in found:
        sets = found["best_of_n"]["sets"]
        figure, axes = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), squeeze=False)
        for axis, (name, of_set) in zip(axes[0], sets.items(), strict=True):
            for way, errors in of_set["pa_mpjpe_mm"].items():
                width = 2.4 if way == "posterior" else 1.2
                axis.plot(of_set["best_of"], errors, label=way, linewidth=width)
            quantised = of_set["quantised_pa_mpjpe_mm"]
            axis.plot(list(map(int, quantised)), list(quantised.values()), "k^", label="K-Means")
            axis.set_xscale("log", base=2)
            axis.set_ylim(20, 1.6 * of_set["pa_mpjpe_mm"]["posterior"][0])
            axis.set_title(name, fontsize=10)
            axis.set_xlabel("n")
        axes[0][0].set_ylabel("PA-MPJPE of the best, mm")
        axes[0][-1].legend(fontsize=7)
        _save(figure, folder / "best_of_n.png")
    if "coverage" in found:
        sets = found["coverage"]["sets"]
        figure, axes = plt.subplots(1, len(sets), figsize=(3.6 * len(sets), 3.6), squeeze=False)
        for axis, (name, of_set) in zip(axes[0], sets.items(), strict=True):
            axis.plot((0, 1), (0, 1), color="#999999", linewidth=0.8)
            for way, style in (("laplace", "--"), ("corrected", "-")):
                for kind, color in zip(KINDS[:3], ("#4a7fb5", "#8a6bbf", "#c0504d"), strict=True):
                    values = of_set[way]["inside"][kind]
                    label = f"{way}, {kind}"
                    axis.plot(LEVELS, values, style, marker="o", ms=3, color=color, label=label)
            axis.set_title(name, fontsize=10)
            axis.set_xlim(0.3, 1)
            axis.set_ylim(0.3, 1)
            axis.set_xlabel("interval")
        axes[0][0].set_ylabel("holds the truth")
        axes[0][-1].legend(fontsize=6)
        _save(figure, folder / "coverage.png")
    if "quality" in found:
        figure, axes = plt.subplots(1, len(_CHANCES), figsize=(4 * len(_CHANCES), 3.8))
        for axis, (score, (x_label, y_label)) in zip(axes, _CHANCES.items(), strict=True):
            bins = found["quality"]["reliability"][score]
            axis.plot((0, 1), (0, 1), color="#999999", linewidth=0.8)
            x, y = ([b[k] for b in bins] for k in ("chance", "true"))
            error = [(b["true"] * (1 - b["true"]) / b["people"]) ** 0.5 for b in bins]
            axis.errorbar(x, y, error, marker="o", capsize=3, color="#3f8f5c")
            for one in bins:
                axis.annotate(one["people"], (one["chance"], one["true"]), fontsize=7)
            axis.set_xlabel(x_label)
            axis.set_ylabel(y_label)
        _save(figure, folder / "reliability.png")


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
