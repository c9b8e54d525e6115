"""Tables, verdict and figures of what was measured."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side.design import SETS, Condition

__all__ = ["gather", "margins", "markdown_table", "verdict", "write_report"]

NUMBERS = (
    "efficiency_volume",
    "efficiency_lateral",
    "efficiency_axial",
    "jaccard",
    "precision",
    "recall",
    "rmse_lateral_nm",
    "rmse_axial_nm",
    "n_truth",
    "n_predicted",
)
DENSE_PER_UM2, SPARSE_PER_UM2 = 1.0, 0.1
WANTED_DENSE, WANTED_SPARSE = 20.0, -2.0

_STYLES = {
    "ours": ("#0072b2", "o", "-"),
    "smappy": ("#d55e00", "s", "--"),
    "picasso": ("#009e73", "^", "-."),
}
"""Okabe and Ito's colours, and a mark and a dash for each, for those who see none."""
_NAMES = {"ours": "blinkloop", "smappy": "SMAPpy", "picasso": "Picasso"}

Row = dict[str, Any]


def gather(
    out: Path, tools: Sequence[str], conditions: Sequence[Condition]
) -> list[Row]:
    """One row per condition and tool; a tool that failed has its `error`."""
    rows = []
    for condition in conditions:
        for tool in tools:
            path = out / "results" / tool / f"{condition.name}.json"
            if not path.exists():
                continue
            record = json.loads(path.read_text())
            found = record.get("score", {})
            choice = record.get("choice") or {}
            interval = found.get("intervals_95", {})
            goal = headline(condition.dimensions)
            row = {
                "set": condition.dimensions,
                "camera": condition.camera,
                "photons": condition.photons,
                "background": condition.background_photons,
                "density_per_um2": condition.density_per_um2,
                "frames": condition.frames,
                "tool": tool.split("-")[0],
                "version": record["version"],
                "model": record.get("model"),
                "model_sha256": record.get("model_sha256"),
                **{name: found.get(name) for name in NUMBERS},
                f"{goal}_95": interval.get(goal),
                "seconds": record.get("seconds"),
                "settings": choice.get("variant", record.get("threshold")),
                "cut": choice.get("threshold"),
                "filters": choice.get("limits"),
                "outside_training": record.get("outside_training"),
                "error": record["error"],
            }
            rows.append(row)
    return rows


def headline(dimensions: str) -> str:
    """The number a set is judged by."""
    return "efficiency_volume" if dimensions == "3d" else "efficiency_lateral"


def markdown_table(rows: Sequence[Row], dimensions: str) -> str:
    """All conditions of a set; in a cell blinkloop / SMAPpy / Picasso."""
    order = [tool for tool in _NAMES if any(r["tool"] == tool for r in rows)]
    names = " / ".join(_NAMES[tool] for tool in order)
    columns = [
        ("E_vol, %", "efficiency_volume", 100),
        ("E_lat, %", "efficiency_lateral", 100),
        ("Jaccard", "jaccard", 1),
        ("lateral, nm", "rmse_lateral_nm", 1),
        ("axial, nm", "rmse_axial_nm", 1),
    ]
    if dimensions == "2d":
        columns = columns[1:-1]
    lines = [f"Cells: {names}.", ""]
    heads = ["camera", "photons", "per um^2", *(c[0] for c in columns)]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, group in _grouped(rows, dimensions).items():
        camera, photons, density = key
        star = " *" if (group.get("ours") or {}).get("outside_training") else ""
        cells = [camera, str(photons), f"{density:g}{star}"]
        for _, name, scale in columns:
            values = [_cell(group.get(tool), name, scale) for tool in order]
            cells.append(" / ".join(values))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row | None, name: str, scale: float) -> str:
    if row is None:
        return "-"
    if row["error"]:
        return "failed"
    value = row[name]
    if value is None or not np.isfinite(value):
        return "n/a"
    return f"{scale * value:.2f}" if name == "jaccard" else f"{scale * value:.0f}"


def _grouped(
    rows: Sequence[Row], dimensions: str
) -> dict[tuple[str, int, float], dict[str, Row]]:
    groups: dict[tuple[str, int, float], dict[str, Row]] = {}
    for row in rows:
        if row["set"] == dimensions:
            key = (row["camera"], row["photons"], row["density_per_um2"])
            groups.setdefault(key, {})[row["tool"]] = row
    return groups


def margins(rows: Sequence[Row], dimensions: str = "3d") -> list[Row]:
    """Ours less the better peer, in points of efficiency, per condition."""
    goal, found = headline(dimensions), []
    for (camera, photons, density), group in _grouped(rows, dimensions).items():
        ours = group.get("ours")
        peers = {
            tool: row[goal]
            for tool, row in group.items()
            if tool != "ours" and row[goal] is not None and np.isfinite(row[goal])
        }
        if ours is None or ours[goal] is None or not peers:
            continue
        better = max(peers, key=lambda tool: float(peers[tool]))
        found.append(
            {
                "camera": camera,
                "photons": photons,
                "density_per_um2": density,
                "margin": 100 * (ours[goal] - peers[better]),
                "better_peer": better,
                "outside_training": ours["outside_training"],
            }
        )
    return found


def verdict(rows: Sequence[Row]) -> str:
    """The two lines of the issue, with the margins that decide them."""
    found = margins(rows)
    lines = [
        "| line | conditions | smallest margin | median | holds in | holds |",
        "|---|---|---|---|---|---|",
    ]
    for label, chosen, wanted in (
        ("dense", lambda d: d >= DENSE_PER_UM2, WANTED_DENSE),
        ("sparse", lambda d: d <= SPARSE_PER_UM2, WANTED_SPARSE),
    ):
        bound = (
            ">= 1 per um^2: at least +20"
            if label == "dense"
            else ("<= 0.1 per um^2: at least -2")
        )
        for scope in ("all", "in the training range"):
            picked = [
                m
                for m in found
                if chosen(m["density_per_um2"])
                and (scope == "all" or not m["outside_training"])
            ]
            if not picked:
                lines.append(f"| {bound} | {scope} (0) | - | - | - | not measured |")
                continue
            values = np.array([m["margin"] for m in picked])
            good = int((values >= wanted).sum())
            worst = picked[int(values.argmin())]
            lines.append(
                f"| {bound} | {scope} ({len(picked)}) | {values.min():+.1f} "
                f"({worst['camera']}, {worst['photons']} photons, "
                f"{worst['density_per_um2']:g} per um^2, "
                f"{_NAMES[worst['better_peer']]})"
                f" | {np.median(values):+.1f} | {good} of {len(picked)} | "
                f"{'yes' if good == len(picked) else 'no'} |"
            )
    return "\n".join(lines)


def figure(rows: Sequence[Row], dimensions: str) -> Any:
    """Efficiency over density: one row of panels per camera, one column per photons."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    goal = headline(dimensions)
    rows = [row for row in rows if row["set"] == dimensions]
    cameras = list(dict.fromkeys(row["camera"] for row in rows))
    photons = sorted({row["photons"] for row in rows})
    drawing, axes = plt.subplots(
        len(cameras),
        len(photons),
        figsize=(3.3 * len(photons) + 0.6, 2.7 * len(cameras) + 0.7),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for i, camera in enumerate(cameras):
        for j, flux in enumerate(photons):
            ax = axes[i][j]
            here = [r for r in rows if r["camera"] == camera and r["photons"] == flux]
            _panel(ax, here, goal)
            background = here[0]["background"] if here else 0
            ax.set_title(f"{camera}, {flux} photons, bg {background:g}", fontsize=9)
            ax.grid(alpha=0.3, linewidth=0.5)
        axes[i][0].set_ylabel(goal.replace("_", " ") + " (%)")
    for ax in axes[-1]:
        ax.set_xlabel("emitters per um² and frame")
    handles, labels = axes[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return drawing


def _panel(ax: Any, rows: Sequence[Row], goal: str) -> None:
    ax.set_xscale("log")
    ax.set_ylim(-40, 100)
    ax.axhline(0, color="0.5", linewidth=0.7)
    for tool, (colour, mark, dash) in _STYLES.items():
        mine = [r for r in rows if r["tool"] == tool and r[goal] is not None]
        if not mine:
            continue
        x = [r["density_per_um2"] for r in mine]
        y = np.array([100 * r[goal] for r in mine])
        spans = [r[f"{goal}_95"] or (r[goal], r[goal]) for r in mine]
        low, high = 100 * np.array(spans, float).T
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(x, y, dash, color=colour, marker=mark, ms=4, label=_NAMES[tool])
        odd = [bool(r["outside_training"]) for r in mine]
        if any(odd):
            ax.plot(
                np.array(x)[odd],
                y[odd],
                mark,
                mfc="white",
                mec=colour,
                ms=4,
                label=f"{_NAMES[tool]}, outside its training",
            )


def write_report(
    out: Path,
    tools: Sequence[str],
    conditions: Sequence[Condition],
    *,
    docs: Path | None = None,
) -> None:
    """accuracy.csv, .json, .md and figures in `out`; and in `docs` what it shows."""
    rows = gather(out, tools, conditions)
    if not rows:
        return
    (out / "accuracy.json").write_text(json.dumps(rows, indent=1))
    with (out / "accuracy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(k for r in rows for k in r)))
        writer.writeheader()
        writer.writerows(rows)
    versions = ", ".join(dict.fromkeys(row["version"] for row in rows))
    networks = {f"{r['model']} ({r['model_sha256'][:12]})" for r in rows if r["model"]}
    said = f"Versions: {versions}. Network: {', '.join(sorted(networks))}."
    parts = {"versions": said, "verdict": verdict(rows)}
    sets = [s for s in SETS if any(row["set"] == s for row in rows)]
    for dimensions in sets:
        parts[f"table-{dimensions}"] = markdown_table(rows, dimensions)
    (out / "accuracy.md").write_text("\n\n".join(parts.values()) + "\n")
    for folder in [out, *([docs / "images"] if docs else [])]:
        for dimensions in sets:
            drawing = figure(rows, dimensions)
            drawing.savefig(folder / f"accuracy-{dimensions}.png", dpi=110)
    if docs:
        page = docs / "accuracy.md"
        page.write_text(fill(page.read_text(), parts))


def fill(page: str, parts: dict[str, str]) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, text in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        page = pattern.sub(lambda found, t=text: f"{found[1]}{t}\n{found[2]}", page)
    return page
