"""Tables of an evaluation for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blinkloop.cli._output import print_table

__all__ = ["show_evaluation"]

_Record = Mapping[str, Any]


def show_evaluation(result: _Record) -> None:
    """Print the tables of the parts that were measured."""
    _accuracy(result)
    _calibration(result)
    if "by_z" in result:
        _by_z(result["by_z"])
    if "by_density" in result:
        _by_density(result)
    if "isolated" in result:
        _isolated(result["isolated"])
    if "across_range" in result:
        _across(result["across_range"])


def _accuracy(result: _Record) -> None:
    rows = []
    for key, (low, high) in result["intervals_95"].items():
        known = math.isfinite(low) and math.isfinite(high)
        rows.append([key, result[key], f"{low:.4g} to {high:.4g}" if known else None])
    for key in (
        "n_truth",
        "n_predicted",
        "density_true_per_um2",
        "density_estimated_per_um2",
        "threshold",
    ):
        if key in result:
            rows.append([key, result[key], None])
    print_table(
        f"Accuracy of {result['model']} ({result['rules']['name']} rules)",
        ["measure", "value", "95 % interval"],
        rows,
    )


def _calibration(result: _Record) -> None:
    found, density = result["calibration"], result["density"]
    rows: list[list[Any]] = [
        [f"SD of error / sigma, {axis} (robust)", scores["sd"], scores["robust_sd"]]
        for axis, scores in found["z_scores"].items()
    ]
    with_error = found["sigma_correlation"]
    rows.append(
        [
            "correlation of sigma with the error (at most)",
            with_error["per_emitter"],
            with_error["ceiling"],
        ]
    )
    if "sigma_over_repeats" in result:
        repeats = result["sigma_over_repeats"]
        rows.append(
            [
                "correlation of sigma with the RMSE over draws, at "
                f"{repeats['density_per_um2']:g} per um^2 (at most)",
                repeats["correlation"],
                repeats["ceiling"],
            ]
        )
        low, high = repeats["correlation_95"]
        rows.append(["its 95 % interval", f"{low:.3f} to {high:.3f}", None])
        rows.append(["the same of their ranks", repeats["rank"], None])
    rows += [
        ["correlation in bins of sigma", with_error["binned"], None],
        ["calibration error of scores", found["scores"]["ece"], None],
        ["calibration error of p in 8 x 8 px", found["blocks"]["ece"], None],
        ["bias of the density", density["bias"], None],
        ["coverage of its 95 % interval", density["coverage"], None],
        ["factor its SD lacks", density["sd_scale"], None],
        [
            "swing within the pixel, x and y",
            result["subpixel"]["x"]["harmonic_excess"],
            result["subpixel"]["y"]["harmonic_excess"],
        ],
    ]
    print_table("Calibration", ["measure", "value", ""], rows)


def _by_z(slices: list[_Record]) -> None:
    rows = [
        [
            f"{row['z_low_nm']:g} to {row['z_high_nm']:g}",
            row["n_truth"],
            row["jaccard"],
            row["rmse_lateral_nm"],
            row["rmse_axial_nm"],
        ]
        for row in slices
    ]
    columns = ["z, nm", "truth", "Jaccard", "lateral RMSE, nm", "axial RMSE, nm"]
    print_table("By z", columns, rows)


def _by_density(result: _Record) -> None:
    rows = []
    for row in result["by_density"]:
        density, found = row["density"], row["calibration"]
        rows.append(
            [
                row["settings"]["density_per_um2"],
                row["jaccard"],
                row["rmse_lateral_nm"],
                row["rmse_axial_nm"],
                row["efficiency_volume"],
                density["true_per_um2"],
                density["estimated_per_um2"],
                density["coverage"],
                found["sigma_correlation"]["per_emitter"],
            ]
        )
    columns = ["per um^2", "Jaccard", "lateral, nm", "axial, nm", "efficiency"]
    columns += ["true", "estimated", "coverage", "sigma r"]
    print_table("By density", columns, rows)
    pooled = result["density_pooled"]
    print_table(
        "Density over all of these",
        ["measure", "value"],
        [
            ["coverage of the 95 % interval", pooled["coverage"]],
            ["largest relative bias", pooled["bias_worst"]],
            ["estimate without emitters, per um^2", pooled["empty_per_um2"]],
        ],
    )


def _isolated(part: _Record) -> None:
    rows = []
    for mode in ("single", "persistent"):
        found = part[mode]
        for axis in "xyz":
            if axis not in found:
                continue
            row = found[axis]
            rows.append(
                [
                    mode,
                    axis,
                    row["rmse"],
                    row["bound"],
                    row["ratio"],
                    list(row["interval_95"]),
                    row["ratio_each"],
                    row["bias"],
                    found["detection_rate"],
                ]
            )
    settings = part["settings"]
    columns = ["frames", "axis", "RMSE, nm", "bound, nm", "ratio", "95 % interval"]
    columns += ["per emitter", "bias, nm", "found"]
    print_table(
        f"{settings['emitters']} isolated emitters, {settings['photons']:g} photons, "
        f"background {settings['background_photons']:g}",
        columns,
        rows,
    )


def _across(part: _Record) -> None:
    percentiles = part["percentiles"]
    columns = list(next(iter(percentiles.values())))
    rows = [[name, *values.values()] for name, values in percentiles.items()]
    print_table(
        f"Across the range of the card, {part['conditions']} conditions",
        ["measure", *columns],
        rows,
    )
