"""Everything that a movie with known emitters tells of a network.

Design notes: knows tables, sums of p and a condition; where the movie came from and who
localized it is decided outside. Every number is plain data for one JSON; figures are
drawn from that alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.evaluation.bounds import bounds_nm2
from blinkloop.evaluation.condition import Condition
from blinkloop.evaluation.movie import Localized
from blinkloop.evaluation.scoring import score_pairs
from blinkloop.metrics import (
    Field,
    PairedTables,
    Rules,
    accuracy_by_z,
    correlation,
    count_estimate,
    count_reliability,
    density_calibration,
    errors_and_sigmas_nm,
    pair_by_rules,
    score_reliability,
    select_truth,
    sigma_correlation,
    subpixel,
    z_scores,
)

__all__ = ["Measurement", "measure", "pooled_density", "z_edges"]

Table = npt.NDArray[np.void]

_CEILING_STREAM = 2
_HISTOGRAM_EDGES = np.linspace(-5.0, 5.0, 41)
_FLOOR_PHOTONS = 50.0
"""Dimmer emitters are light, but no targets of the networks; see the recipes."""
_MOST_BOUNDS = 20_000
"""Pairs whose bounds are computed; more tell nothing new."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured, and how.

    Parameters
    ----------
    frames, height_px, width_px
        Of the movie.
    pixel_size_nm
        In the sample.
    three_dimensional
        Whether z counts.
    threshold
        Score that a localization must reach.
    rules
        Of selection and pairing.
    z_edges_nm
        Slices of z; None: no table by z.
    seed
        Of the bootstrap.
    photons_floor
        Emitters dimmer than this do not count for the density.
    """

    frames: int
    height_px: int
    width_px: int
    pixel_size_nm: float
    three_dimensional: bool
    threshold: float
    rules: Rules = field(default_factory=Rules)
    z_edges_nm: tuple[float, ...] | None = None
    seed: int = 0
    photons_floor: float = _FLOOR_PHOTONS

    @property
    def field_of_view(self) -> Field:
        """Pixels of the movie."""
        return Field(self.width_px, self.height_px)

    @property
    def frame_um2(self) -> float:
        """Area of a frame."""
        return self.height_px * self.width_px * (self.pixel_size_nm / 1000.0) ** 2


def z_edges(z_range_nm: tuple[float, float], bins: int) -> tuple[float, ...] | None:
    """Edges of `bins` equal slices of a range of z; None when the range is empty."""
    if bins < 1:
        raise InputError(f"evaluate: there must be at least 1 slice of z, got {bins}")
    low, high = z_range_nm
    if high <= low:
        return None
    return tuple(np.linspace(low, high, bins + 1).tolist())


def measure(
    truth: Table,
    localized: Localized,
    how: Measurement,
    condition: Condition | None = None,
) -> dict[str, Any]:
    """Accuracy, calibration and density of one movie, as plain data.

    Parameters
    ----------
    truth
        `EMITTER_DTYPE`, frames 0 .. T - 1; also emitters outside the field.
    localized
        With localizations below the threshold, if the reliability of their scores is to
        be known.
    how
        What is measured.
    condition
        For the single-emitter bounds; None: unknown (a recorded movie).

    Returns
    -------
    dict
        Keys of `Score.as_dict`, `by_z`, `calibration`, `density` and `subpixel`; see
        docs/evaluation.md.
    """

    def pair(rows: Table) -> PairedTables:
        return pair_by_rules(
            truth,
            rows,
            how.pixel_size_nm,
            how.rules,
            field=how.field_of_view,
            three_dimensional=how.three_dimensional,
        )

    paired = pair(localized.above(how.threshold).table)
    everything = pair(localized.table)
    real = np.zeros(len(everything.predicted), np.bool_)
    real[everything.matching.predicted_index] = True
    counted = truth[
        select_truth(truth, how.field_of_view, min_photons=how.photons_floor)
    ]
    result = score_pairs(paired, how.frames, seed=how.seed).as_dict()
    if how.z_edges_nm is not None and how.three_dimensional:
        result["by_z"] = accuracy_by_z(paired, how.z_edges_nm)
    result["calibration"] = {
        **_sigmas(paired, how, condition),
        "scores": score_reliability(everything.predicted["prob"], real),
        "blocks": _blocks(counted, localized, how),
    }
    result["density"] = _density(counted, localized, how)
    found = paired.matching
    result["subpixel"] = {
        axis: subpixel(
            paired.predicted[name],
            paired_px=paired.predicted[name][found.predicted_index],
            paired_true_px=paired.truth[name][found.truth_index],
        ).as_dict()
        for axis, name in (("x", "x_px"), ("y", "y_px"))
    }
    return result


def pooled_density(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Density calibrations of several movies in one.

    Returns
    -------
    dict
        `coverage` over all frames; `bias_worst`, the relative bias farthest from 0 of
        the movies that hold emitters; `empty_per_um2`, what is estimated where there is
        none (None without such a movie).
    """
    frames = np.array([part["frames"] for part in parts], np.float64)
    coverage = np.array([part["coverage"] for part in parts], np.float64)
    biases = [part["bias"] for part in parts if part["true_per_um2"] > 0]
    empty = [p["estimated_per_um2"] for p in parts if p["true_per_um2"] == 0]
    return {
        "coverage": float(np.sum(coverage * frames) / np.sum(frames)),
        "bias_worst": max(biases, key=abs) if biases else None,
        "empty_per_um2": max(empty) if empty else None,
    }


def _sigmas(
    paired: PairedTables, how: Measurement, condition: Condition | None
) -> dict[str, Any]:
    error, sigma = errors_and_sigmas_nm(paired, how.pixel_size_nm)
    with_error = sigma_correlation(
        error, sigma, np.random.default_rng([how.seed, _CEILING_STREAM])
    )
    if condition is not None:
        with_error["crlb_per_emitter"] = _bound_correlation(paired, how, condition)
    scores = error / sigma
    histogram = {
        axis: np.histogram(scores[:, number], _HISTOGRAM_EDGES)[0].tolist()
        for number, axis in enumerate("xyz"[: scores.shape[1]])
    }
    return {
        "z_scores": z_scores(error, sigma),
        "z_score_histogram": {"edges": _HISTOGRAM_EDGES.tolist(), **histogram},
        "sigma_correlation": with_error,
    }


def _bound_correlation(
    paired: PairedTables, how: Measurement, condition: Condition
) -> float:
    """Pearson's r of the single-emitter bound with the error, over pairs."""
    found = paired.matching
    some = slice(0, None, max(1, len(found.truth_index) // _MOST_BOUNDS))
    t, p = found.truth_index[some], found.predicted_index[some]
    bounds = bounds_nm2(
        paired.truth[t], condition, three_dimensional=how.three_dimensional
    )
    length = np.sqrt(np.sum((paired.predicted_nm[p] - paired.truth_nm[t]) ** 2, axis=1))
    bound = np.sqrt(np.sum(bounds, axis=1))
    known = np.isfinite(bound)
    return correlation(bound[known], length[known])


def _density(counted: Table, localized: Localized, how: Measurement) -> dict[str, Any]:
    estimate, variance = count_estimate(
        localized.count_mean,
        localized.count_variance,
        how.height_px * how.width_px,
        localized.p_floor,
    )
    true = np.bincount(counted["frame"], minlength=how.frames)
    return density_calibration(estimate, variance, true, how.frame_um2)


def _blocks(counted: Table, localized: Localized, how: Measurement) -> dict[str, Any]:
    """Reliability of sum p in blocks of the image."""
    side = localized.block_px
    _, rows, columns = localized.blocks.shape
    row = np.floor((counted["y_px"] + 0.5) / side).astype(np.int64)
    column = np.floor((counted["x_px"] + 0.5) / side).astype(np.int64)
    place = (counted["frame"] * rows + row) * columns + column
    true = np.bincount(place, minlength=localized.blocks.size)
    pixels = np.outer(_sizes(how.height_px, side), _sizes(how.width_px, side))
    expected = np.maximum(localized.blocks - localized.p_floor * pixels, 0.0)
    return count_reliability(expected.ravel(), true)


def _sizes(length: int, side: int) -> npt.NDArray[np.int64]:
    start = np.arange(0, length, side)
    return np.minimum(side, length - start)
