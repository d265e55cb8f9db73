"""What `benchmarks.lifting.lifting` found, as tables and as ProHMR's Figure 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_COLORS = {
    "posterior": "#3a9a5b",
    "training set": "#c2553c",
    "Gaussian, 1 cm": "#4a6fae",
    "Gaussian, 10 cm": "#7f98c4",
    "Gaussian, 20 cm": "#b3c1dc",
}


def markdown(content: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        f"{content['people_a_set']} people in each set; mean over 17 joints, the pelvis brought "
        "together; mm.",
        "",
    ]
    methods = list(dict.fromkeys(m for s in content["sets"].values() for m in s))
    lines += [
        "| told | " + " | ".join(f"{m}: MPJPE / PA-MPJPE" for m in methods) + " |",
        "| --- " * (len(methods) + 1) + "|",
    ]
    for name, of_set in content["sets"].items():
        cells = [
            f"{of_set[m]['mpjpe_mm']:.1f} / {of_set[m]['pa_mpjpe_mm']:.1f}" if m in of_set else ""
            for m in methods
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    counts = list(content["curves"]["posterior"])[::2]
    lines += [
        "",
        f"Least PA-MPJPE of n skeletons, mm, {content['sampled']} people. The mode is the first of "
        "the posterior's and of the Gaussians'.",
        "",
        "| drawn from | " + " | ".join(f"n = {n}" for n in counts) + " | mm a doubling | R² |",
        "| --- " * (len(counts) + 3) + "|",
    ]
    for name, curve in content["curves"].items():
        line = content["slopes"][name]
        lines.append(
            f"| {name} | "
            + " | ".join(f"{curve[n]:.1f}" for n in counts)
            + f" | {line['mm_a_doubling']:.2f} | {line['r_squared']:.3f} |"
        )
    lines += ["", "| samples' intervals of | 50 % | 80 % | 95 % |", "| --- | --- | --- | --- |"]
    for name, levels in content["coverage"].items():
        cells = " | ".join(f"{100 * share:.0f} %" for share in levels.values())
        lines.append(f"| {name} | {cells} |")
    speed = content["speed"]
    lines += [
        "",
        f"In a batch of {speed['people']:,} people, by CPU time of one thread, float32: "
        f"{speed['modes_a_second']:,.0f} skeletons a second from pixels. With "
        f"{speed['samples_each']} samples each: {speed['samples_a_second']:,.0f} skeletons a "
        f"second, which is {speed['people_with_samples_a_second']:,.0f} people.",
    ]
    return "\n".join(lines) + "\n"


def plot(content: dict[str, Any], path: Path) -> None:
    """Figure 4 of ProHMR's supplementary: the posterior alone, and beside the others."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, names in zip(axes, (["posterior"], list(content["curves"])), strict=True):
        for name in names:
            curve = content["curves"][name]
            axis.plot(
                [int(n) for n in curve],
                list(curve.values()),
                marker=".",
                color=_COLORS.get(name),
                label=name,
            )
        axis.set_xscale("log", base=2)
        axis.set_xlabel("samples")
        axis.set_ylabel("least PA-MPJPE, mm")
        axis.grid(alpha=0.3)
        axis.legend()
    line = content["slopes"]["posterior"]
    axes[0].set_title(f"posterior: {line['mm_a_doubling']:.2f} mm a doubling", fontsize=10)
    axes[1].set_title("beside draws from the training set and around the mode", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
