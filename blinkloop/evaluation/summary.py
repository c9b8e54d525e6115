"""The few numbers of an evaluation that go into the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["card_entry"]

_LEFT_OUT = frozenset(
    {
        "model_sha256",
        "by_z",
        "by_density",
        "calibration",
        "condition",
        "density",
        "isolated",
        "across_range",
        "subpixel",
        "sigma_over_repeats",
        "density_pooled",
    }
)
"""Keys that are too long for a card, or would become false when it is rewritten."""
_ROW = ("jaccard", "rmse_lateral_nm", "rmse_axial_nm", "efficiency_volume")


def card_entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `--write-card` writes.

    Parameters
    ----------
    record
        The JSON of `evaluate`.

    Returns
    -------
    dict
        The keys of the record that are short, and `z_score_sd`, `sigma_correlation`,
        `score_ece`, `density_bias`, `density_coverage_95`, `by_density`,
        `crlb_ratio`, `across_range` of the parts that were measured.
    """
    entry = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in record.items()
        if key not in _LEFT_OUT
    }
    if "calibration" in record:
        entry |= _calibration(record)
    if "sigma_over_repeats" in record:
        entry["sigma_correlation_repeats"] = record["sigma_over_repeats"]["correlation"]
    if "by_density" in record:
        entry["by_density"] = [
            {
                "density_per_um2": row["settings"]["density_per_um2"],
                **{key: row[key] for key in _ROW},
                **_calibration(row),
            }
            for row in record["by_density"]
        ]
        entry["density_pooled"] = record["density_pooled"]
    if "isolated" in record:
        entry["crlb_ratio"] = _isolated(record["isolated"])
    if "across_range" in record:
        part = record["across_range"]
        entry["across_range"] = {
            key: part[key] for key in ("conditions", "frames", "percentiles")
        }
    return entry


def _calibration(record: Mapping[str, Any]) -> dict[str, Any]:
    found = record["calibration"]
    return {
        "z_score_sd": {axis: row["sd"] for axis, row in found["z_scores"].items()},
        "z_score_robust_sd": {
            axis: row["robust_sd"] for axis, row in found["z_scores"].items()
        },
        "sigma_correlation": found["sigma_correlation"]["per_emitter"],
        "sigma_correlation_binned": found["sigma_correlation"]["binned"],
        "score_ece": found["scores"]["ece"],
        "density_bias": record["density"]["bias"],
        "density_coverage_95": record["density"]["coverage"],
        "density_sd_scale": record["density"]["sd_scale"],
    }


def _isolated(part: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"settings": part["settings"]}
    for mode in ("single", "persistent"):
        found = part[mode]
        axes = [axis for axis in "xyz" if axis in found]
        entry[mode] = {
            **{axis: found[axis]["ratio"] for axis in axes},
            "interval_95": {axis: list(found[axis]["interval_95"]) for axis in axes},
            "detection_rate": found["detection_rate"],
        }
    return entry
