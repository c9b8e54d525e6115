"""Scores with intervals of localizations against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.metrics import (
    Field,
    PairedTables,
    Rules,
    bootstrap_intervals,
    pair_by_rules,
    paired_accuracy,
)
from blinkloop.schema import ModelCard

__all__ = ["Score", "score", "score_pairs"]

_BOOTSTRAP_STREAM = 1


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy by name, and 95 % bootstrap intervals by the same names."""

    values: dict[str, float | int]
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """One mapping: values, and their intervals under `intervals_95`."""
        return {**self.values, "intervals_95": self.intervals}


def score_pairs(
    paired: PairedTables, frames: int, *, seed: int = 0, block_frames: int = 10
) -> Score:
    """Scores of tables that are already paired; parameters as for `score`."""
    intervals = bootstrap_intervals(
        paired,
        range(frames),
        np.random.default_rng([seed, _BOOTSTRAP_STREAM]),
        block_frames=min(block_frames, frames),
    )
    return Score(paired_accuracy(paired).as_dict(), intervals)


def score(
    truth: npt.NDArray[np.void],
    predicted: npt.NDArray[np.void],
    *,
    card: ModelCard,
    frames: int,
    height_px: int,
    width_px: int,
    seed: int = 0,
    min_photons: float = 50.0,
    border_nm: float = 0.0,
    block_frames: int = 10,
    rules: Rules | None = None,
    pixel_size_nm: float | None = None,
) -> Score:
    """Compare localizations with the truth (REFERENCE section 8).

    Parameters
    ----------
    truth, predicted
        `EMITTER_DTYPE` and `LOCALIZATION_DTYPE`, frames 0 .. `frames` - 1.
    card
        Pixel size, and whether z counts.
    frames, height_px, width_px
        Of the movie; truth counts when its centre is in the field.
    seed
        Of the bootstrap, which draws runs of `block_frames` frames because emitters
        live for several.
    min_photons, border_nm
        Dimmer truth does not count; exclusion of the border for both sets.
    rules
        In place of `min_photons` and `border_nm`: all rules of selection and pairing.
    pixel_size_nm
        In place of the card's, for a model that serves several.
    """
    paired = pair_by_rules(
        truth,
        predicted,
        pixel_size_nm or card.pixel_size_nm,
        rules or Rules(min_photons=min_photons, border_nm=border_nm),
        field=Field(width_px, height_px),
        three_dimensional=card.three_dimensional,
    )
    return score_pairs(paired, frames, seed=seed, block_frames=block_frames)
