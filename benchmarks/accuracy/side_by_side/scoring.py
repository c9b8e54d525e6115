"""Scores of a table, and the settings a peer's user would find by trying.

A peer is tuned on movies of other seeds for the best volume efficiency (2D: lateral):
its variant (fit method and box) for every density, on the ideal camera at 5000 photons;
its detection threshold and its post-filters for every condition anew. Few users can do
that, for it takes the truth: the peers are given more than they get in practice. Our
network runs with the threshold of its card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.metrics import (
    Field,
    PairedTables,
    bootstrap_intervals,
    pair_tables,
    paired_accuracy,
)
from side_by_side.convert import PeerTable
from side_by_side.design import FRAME_PX, PIXEL_SIZE_NM, RIM_PX, SEED, Condition

__all__ = ["MIN_PHOTONS", "Choice", "apply", "score", "tune"]

MIN_PHOTONS = 50.0
"""Dimmer truth does not count (the paper's floor)."""

LEAST_RECALL = 0.1
"""A tenth of the emitters must be found. One emitter found precisely has an efficiency
of about 0, better than many found badly: tuned without this, a peer in the crowd would
be set to find next to nothing, which nobody wants."""

_THRESHOLDS = 16
_LEVELS = (0.99, 0.97, 0.94, 0.9, 0.82, 0.7, 0.55)
"""Post-filters tried: quantiles of what the threshold leaves."""
_ABS_Z_NM = (520.0, 600.0, 750.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings of a peer.

    Parameters
    ----------
    variant
        Fit method and box, as run.py names them.
    score, threshold
        How candidates are cut, and where.
    limits
        Post-filters that are on: largest value kept.
    objective
        Efficiency reached on the tuning movie.
    """

    variant: str
    score: str
    threshold: float
    limits: dict[str, float] = field(default_factory=dict)
    objective: float = float("-inf")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def apply(table: PeerTable, choice: Choice) -> npt.NDArray[np.void]:
    """The rows that settings keep."""
    keep = table.scores[choice.score] >= choice.threshold
    for name, limit in choice.limits.items():
        # A filter drops what it cannot judge.
        keep &= table.limits[name] <= limit
    return table.rows[keep]


def tune(
    condition: Condition,
    truth: npt.NDArray[np.void],
    tables: Mapping[str, PeerTable],
) -> Choice | None:
    """The best settings on a tuning movie; None when there is no table at all.

    Coordinate by coordinate: threshold, then every post-filter; then once more, with
    thresholds between the neighbours of the best one.
    """
    best: Choice | None = None
    for variant, table in tables.items():
        for name, values in table.scores.items():
            start = Choice(variant, name, float(values.min(initial=0.0)))
            found = _climb(condition, truth, table, values, start)
            if best is None or found.objective > best.objective:
                best = found
    return best


def _climb(
    condition: Condition,
    truth: npt.NDArray[np.void],
    table: PeerTable,
    values: npt.NDArray[np.float64],
    start: Choice,
) -> Choice:
    best = replace(start, objective=_objective(condition, truth, apply(table, start)))
    if not len(table.rows):
        return best
    coarse = np.linspace(0, 0.98, _THRESHOLDS)
    for places in (coarse, np.linspace(-1, 1, _THRESHOLDS) * coarse[1]):
        if places is not coarse:
            places = places + np.mean(values < best.threshold)
        options = [
            replace(best, threshold=float(t))
            for t in np.unique(np.quantile(values, places.clip(0, 1)))
        ]
        best = _best(condition, truth, table, best, options)
        kept = values >= best.threshold
        for name, column in table.limits.items():
            finite = column[kept & np.isfinite(column)]
            if not finite.size:
                continue
            levels = np.quantile(finite, _LEVELS)
            if name == "abs_z":
                levels = np.array(_ABS_Z_NM)
            without = {k: v for k, v in best.limits.items() if k != name}
            options = [replace(best, limits=without)]
            options += [
                replace(best, limits={**without, name: float(level)})
                for level in levels
            ]
            best = _best(condition, truth, table, best, options)
    return best


def _best(
    condition: Condition,
    truth: npt.NDArray[np.void],
    table: PeerTable,
    best: Choice,
    options: list[Choice],
) -> Choice:
    for option in options:
        value = _objective(condition, truth, apply(table, option))
        if value > best.objective:
            best = replace(option, objective=value)
    return best


def _objective(
    condition: Condition, truth: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> float:
    found = paired_accuracy(_pair(condition, truth, rows))
    three = condition.three_dimensional
    value = found.efficiency_volume if three else found.efficiency_lateral
    if found.recall < LEAST_RECALL:
        # Below all that counts, and better the more is found.
        return -100.0 + found.recall
    return value if np.isfinite(value) else float("-inf")


def score(
    condition: Condition, truth: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> dict[str, Any]:
    """Numbers of a table, with 95 % intervals from blocks of frames."""
    paired = _pair(condition, truth, rows)
    intervals = bootstrap_intervals(
        paired,
        range(condition.frames),
        np.random.default_rng([SEED, 300]),
        block_frames=min(10, max(1, condition.frames // 10)),
    )
    return {**paired_accuracy(paired).as_dict(), "intervals_95": intervals}


def _pair(
    condition: Condition, truth: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> PairedTables:
    return pair_tables(
        truth,
        rows,
        PIXEL_SIZE_NM,
        field=Field(FRAME_PX, FRAME_PX),
        border_nm=RIM_PX * PIXEL_SIZE_NM,
        min_photons=MIN_PHOTONS,
        three_dimensional=condition.three_dimensional,
    )
