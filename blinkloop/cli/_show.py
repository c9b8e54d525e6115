"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blinkloop.cli._output import next_step, print_table, warn

__all__ = ["open_next", "show_run"]

_ROWS = (
    ("frames seen", "frames_seen"),
    ("frames localized", "frames_localized"),
    ("frames skipped (analysis behind)", "frames_skipped"),
    ("frames lost (camera)", "frames_lost"),
    ("localizations", "localizations"),
    ("density target, per um^2", "density_target_per_um2"),
    ("density achieved, per um^2", "density_achieved_per_um2"),
    ("true density, per um^2", "density_true_per_um2"),
    ("laser commands", "laser_commands"),
    ("Jaccard index", "jaccard"),
    ("lateral RMSE, nm", "rmse_lateral_nm"),
    ("axial RMSE, nm", "rmse_axial_nm"),
)


def show_run(title: str, record: Mapping[str, Any]) -> None:
    """Print results, files and warnings of a run."""
    rows = [[name, record[key]] for name, key in _ROWS if record.get(key) is not None]
    if "analysed_roi_px" in record:
        x, y, width, height = record["analysed_roi_px"]
        rows.insert(0, ["analysed part, px", f"{width} x {height} from ({x}, {y})"])
    latency = record["latency_ms"]
    if latency.get("p50") is not None:
        rows.append(["latency p50, ms", latency["p50"]])
        rows.append(["latency p99, ms", latency["p99"]])
    print_table(title, ["result", "value"], rows)
    for kind, path in record["files"].items():
        click.echo(f"  {kind}: {path}")
    for line in record["warnings"]:
        warn(line)


def open_next(table: str | Path) -> None:
    """Say what shows a table of localizations."""
    path = Path(table)
    if path.suffix == ".csv":
        next_step(f"open {path} in ThunderSTORM (Import results)")
    elif path.suffix == ".zarr":
        next_step("blinkloop", "convert", path, path.with_suffix(".hdf5"))
    else:
        next_step("blinkloop", "render", path, "-o", path.with_suffix(".png"))
