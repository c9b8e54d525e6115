"""Accuracy against cost of several networks: one figure and one table (docs/lite.md).

Every model is evaluated on the same simulated movies (`blinkloop evaluate`, the same
seed, the condition of each model's card) at several densities; its cost comes from
lite_cost.py. The first model is the one the others are compared with.

    python benchmarks/lite_cost.py --models astigmatic lite.onnx --out cost.json
    python benchmarks/frontier.py astigmatic lite.onnx --costs cost.json --out frontier
    python benchmarks/frontier.py --dry --out frontier   # few frames, no costs

Writes OUT.png, OUT.md and OUT.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Of the Okabe-Ito set, one for each density."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one density.

    Parameters
    ----------
    model
        As given.
    density_per_um2
        That was asked for.
    jaccard, rmse_lateral_nm, rmse_axial_nm
        With their 95 % intervals; axial: None for a 2D network.
    sigma_x, sigma_z
        SD of error / sigma without tails (1 is right); z: None for a 2D network.
    score_error
        Calibration error of the scores.
    density_bias
        Relative.
    """

    model: str
    density_per_um2: float
    jaccard: float
    jaccard_95: tuple[float, float]
    rmse_lateral_nm: float
    rmse_lateral_nm_95: tuple[float, float]
    rmse_axial_nm: float | None
    rmse_axial_nm_95: tuple[float, float] | None
    sigma_x: float
    sigma_z: float | None
    score_error: float
    density_bias: float


def evaluated(model: str, densities: list[float], options: list[str]) -> list[Row]:
    """Rows of one model."""
    words = [model, "--density", f"{densities[0]:g}"]
    words += ["--densities", ",".join(f"{d:g}" for d in densities), "--json"]
    command = [sys.executable, "-m", "blinkloop.cli", "evaluate", *words, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr.strip().splitlines()[-1]}")
    record = json.loads(done.stdout)
    return [
        row_of(model, density, found)
        for density, found in zip(densities, record["by_density"], strict=True)
    ]


def row_of(model: str, density: float, found: dict[str, Any]) -> Row:
    """One entry of `by_density`."""
    scores = found["calibration"]["z_scores"]
    interval = found["intervals_95"]
    axial = found["rmse_axial_nm"] if "z" in scores else None
    return Row(
        model=model,
        density_per_um2=density,
        jaccard=found["jaccard"],
        jaccard_95=tuple(interval["jaccard"]),
        rmse_lateral_nm=found["rmse_lateral_nm"],
        rmse_lateral_nm_95=tuple(interval["rmse_lateral_nm"]),
        rmse_axial_nm=axial,
        rmse_axial_nm_95=None if axial is None else tuple(interval["rmse_axial_nm"]),
        sigma_x=scores["x"]["robust_sd"],
        sigma_z=None if axial is None else scores["z"]["robust_sd"],
        score_error=found["calibration"]["scores"]["ece"],
        density_bias=found["density"]["bias"],
    )


def fastest(costs: list[dict[str, Any]], model: str) -> dict[str, Any] | None:
    """The cost of a model with its fastest backend."""
    rows = [row for row in costs if row["network"] == model]
    return max(rows, key=lambda row: float(row["times_as_fast"]), default=None)


def table(rows: list[Row], costs: list[dict[str, Any]]) -> str:
    """Markdown; differences in brackets are to the first model."""
    models = list(dict.fromkeys(row.model for row in rows))
    first = {row.density_per_um2: row for row in rows if row.model == models[0]}
    lines = [
        "| network | times as fast | ms per frame | per um^2 | Jaccard, % "
        "| lateral, nm | axial, nm | error / sigma: x, z | score error "
        "| density bias |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cost, other = fastest(costs, row.model), first[row.density_per_um2]
        speed = "- | -"
        if cost is not None:
            speed = f"{cost['times_as_fast']:.1f} ({cost['backend']}) | "
            speed += f"{cost['ms_per_frame']:.2f}"
        points = 100 * (row.jaccard - other.jaccard)
        axial, sigma = "-", f"{row.sigma_x:.2f}"
        if row.rmse_axial_nm is not None:
            axial = nanometres(row.rmse_axial_nm, other.rmse_axial_nm)
            sigma += f", {row.sigma_z:.2f}"
        lateral = nanometres(row.rmse_lateral_nm, other.rmse_lateral_nm)
        lines.append(
            f"| {Path(row.model).stem} | {speed} | {row.density_per_um2:g} "
            f"| {100 * row.jaccard:.1f} ({points:+.1f}) | {lateral} | {axial} "
            f"| {sigma} | {row.score_error:.3f} | {100 * row.density_bias:+.1f} % |"
        )
    return "\n".join(lines) + "\n"


def nanometres(value: float, other: float | None) -> str:
    """A value and its change against another."""
    if other is None or not math.isfinite(value) or not other:
        return f"{value:.1f}"
    return f"{value:.1f} ({100 * (value / other - 1):+.1f} %)"


def figure(rows: list[Row], costs: list[dict[str, Any]]) -> Figure:
    """Jaccard, lateral and axial RMSE over cost, a line for each density."""
    panels = [
        ("jaccard", "Jaccard index"),
        ("rmse_lateral_nm", "lateral RMSE, nm"),
        ("rmse_axial_nm", "axial RMSE, nm"),
    ]
    if all(row.rmse_axial_nm is None for row in rows):
        panels.pop()
    models = list(dict.fromkeys(row.model for row in rows))
    costed = {model: fastest(costs, model) for model in models}
    known = all(cost is not None for cost in costed.values())
    at = {
        model: float(cost["times_as_fast"]) if known and cost is not None else number
        for number, (model, cost) in enumerate(costed.items())
    }
    drawn = Figure(figsize=(3.6 * len(panels), 3.8), dpi=130, layout="constrained")
    for axes, (name, label) in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        densities = dict.fromkeys(row.density_per_um2 for row in rows)
        for colour, density in zip(COLOURS, densities, strict=False):
            mine = [
                row
                for row in rows
                if row.density_per_um2 == density and getattr(row, name) is not None
            ]
            mine.sort(key=lambda row: at[row.model])
            values = [getattr(row, name) for row in mine]
            limits = [getattr(row, f"{name}_95") for row in mine]
            spread = [
                [max(v - low, 0.0) for v, (low, _) in zip(values, limits, strict=True)],
                [max(up - v, 0.0) for v, (_, up) in zip(values, limits, strict=True)],
            ]
            axes.errorbar(
                [at[row.model] for row in mine],
                values,
                yerr=spread,
                color=colour,
                marker="o",
                ms=4,
                lw=1.2,
                capsize=2,
                label=f"{density:g} per µm²",
            )
        axes.set_ylabel(label)
        if known:
            axes.set_xscale("log")
            axes.set_xlabel("times as fast as three frames\nin PyTorch, DECODE size")
        axes.set_xticks(list(at.values()), [Path(m).stem for m in at], rotation=35)
        axes.minorticks_off()
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
            tick.set_fontsize(7)
        if known:
            twin = axes.secondary_xaxis("top")
            twin.set_xticks(list(at.values()), [f"{v:.0f}" for v in at.values()])
            twin.minorticks_off()
            twin.tick_params(labelsize=7)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#DDDDDD", lw=0.6)
        axes.set_axisbelow(True)
    drawn.axes[0].legend(frameon=False, fontsize=8)
    return drawn


def main() -> None:
    """Evaluate, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="bundled names or model files")
    parser.add_argument("--costs", type=Path, help="JSON of lite_cost.py")
    parser.add_argument("--densities", default="0.2,1,2")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="without suffix")
    parser.add_argument("--dry", action="store_true", help="bundled models, 20 frames")
    given = parser.parse_args()
    models, frames = given.models, given.frames
    if given.dry:
        models, frames = models or ["astigmatic", "astigmatic-small"], 20
    if not models:
        parser.error("give at least one model")
    densities = [float(part) for part in given.densities.split(",")]
    costs = json.loads(given.costs.read_text()) if given.costs else []
    options = ["--frames", str(frames), "--seed", str(given.seed)]
    rows = [row for model in models for row in evaluated(model, densities, options)]
    text = table(rows, costs)
    print(text, end="")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    base = str(given.out)
    Path(f"{base}.md").write_text(text, encoding="utf-8")
    figure(rows, costs).savefig(f"{base}.png")
    record = {"command": sys.argv[1:], "costs": costs, "rows": [*map(asdict, rows)]}
    Path(f"{base}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
