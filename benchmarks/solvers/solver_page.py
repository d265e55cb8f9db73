"""What `benchmarks.solvers.solver` found, as a picture and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.hardware import conditions_line

BASELINE_BATCHES = (1, 64)  # on which ProHMR's optimizer runs, too


def plot(content: dict[str, Any], path: Path) -> None:
    """Energy against time, for the batches that ProHMR's optimizer ran on."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    flows = content["flows"]
    figure, axes = plt.subplots(len(flows), 2, figsize=(10, 3.6 * len(flows)), squeeze=False)
    for row, (name, of_flow) in zip(axes, flows.items(), strict=True):
        for axis, batch in zip(row, BASELINE_BATCHES, strict=True):
            curves = of_flow["batches"][batch]["curves"]
            people = 1 if batch == 1 else batch
            for label, color in (("prohmr", "#999999"), ("ours", "#3a9a5b")):
                seconds = [max(point[0], 1e-4) / people for point in curves[label]]
                energies = [point[1] / people for point in curves[label]]
                axis.plot(seconds, energies, color=color, label=label, marker=".", markersize=3)
            axis.axhline(curves["goal"] / people, color="#cc4444", linewidth=0.8, linestyle="--")
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_title(f"{name}, batch {batch}", fontsize=10)
            axis.set_xlabel("CPU seconds a person")
            axis.set_ylabel("energy a person")
            axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def markdown(content: dict[str, Any]) -> str:
    """The tables."""
    lines = [f"Body {content['body']}. {conditions_line(content)}", ""]
    lines += [
        "| flow | batch | seed: evaluations, ms | ours to its energy: iterations, ms | "
        "sooner: in sum, median | reached | ours to the end: ms, sooner | "
        "at or below ProHMR | within 0.1 % of the best | "
        "seed above the best |",
        "| --- " * 10 + "|",
    ]
    for name, of_flow in content["flows"].items():
        for batch, b in of_flow["batches"].items():
            if "sooner" not in b:
                continue
            lines.append(
                f"| {name} | {batch} | "
                f"{b['prohmr_evaluations']:.0f}, {b['prohmr_ms_a_person']:.0f} | "
                f"{b['ours_iterations_to_it']:.1f}, {b['ours_ms_a_person_to_it']:.1f} | "
                f"{b['sooner']:.0f}, {b['sooner_median']:.0f} | {100 * b['reached_share']:.0f} % | "
                f"{b['converged_ms_a_person']:.0f}, "
                f"{b['converged_sooner']:.0f} | {100 * b['converged_below_prohmr_share']:.1f} % | "
                f"{100 * b['converged_within_0.1_percent_share']:.1f} % | "
                f"{b['prohmr_above_best_percent']:.1f} % |"
            )
    lines += ["", "| flow | batch | 8 iterations: CPU ms a person | by the clock: 1, 2 threads |"]
    lines += ["| --- " * 4 + "|"]
    for name, of_flow in content["flows"].items():
        for batch, b in of_flow["batches"].items():
            if "ours" in b:
                walls = ", ".join(
                    f"{v:.2f}" for v in b["ours"]["wall_ms_a_person_by_threads"].values()
                )
                lines.append(f"| {name} | {batch} | {b['ours']['ms_a_person']:.2f} | {walls} |")
    lines += ["", "PA-MPJPE on these people, mm (a lower energy is not yet a better body):", ""]
    for name, of_flow in content["flows"].items():
        for batch, b in of_flow["batches"].items():
            if "sooner" in b:
                values = ", ".join(f"{k} {v:.1f}" for k, v in b["pa_mpjpe_mm"].items())
                lines.append(f"- {name}, batch {batch}: {values}")
    lines += ["", "Within 0.1 % of the lowest energy that a search from three places finds:", ""]
    for name, of_flow in content["flows"].items():
        v = of_flow.get("valleys")
        if v is None:
            continue
        lines.append(
            f"- {name}, {v['people']} other people: {100 * v['ours']:.1f} %; "
            f"with exact derivatives from the same start: {100 * v['exact']:.1f} %"
        )
    lines += ["", "Where the solver's time goes, 64 people:", ""]
    for name, of_flow in content["flows"].items():
        shares = ", ".join(f"{k} {100 * v:.0f} %" for k, v in of_flow["where_time_goes"].items())
        lines.append(f"- {name}: {shares}")
    return "\n".join(lines) + "\n"
