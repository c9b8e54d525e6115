"""Accuracy of a localization table against the true emitters.

Scores are fractions (0.7, not 70 %), errors in nm in the challenge's form (not divided
by the number of axes). Without pairs an error is NaN; without truth and prediction a
score is NaN; nothing warns.

Design notes: knows tables in px and converts to nm; pairing and formulas live in
`matching` and `scores`, intervals in `intervals`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.matching import Matching, MatchingRule, match
from blinkloop.metrics.scores import (
    ALPHA_AXIAL_PER_NM,
    ALPHA_LATERAL_PER_NM,
    detection_scores,
    efficiency,
    errors_nm,
)

__all__ = [
    "Accuracy",
    "Field",
    "PairedTables",
    "accuracy",
    "pair_tables",
    "paired_accuracy",
    "select_truth",
]

Table = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Field:
    """Field of view in px: pixels x .. x + width - 1 and y .. y + height - 1."""

    width: int
    height: int
    x: int = 0
    y: int = 0

    def contains(
        self, x_px: npt.ArrayLike, y_px: npt.ArrayLike, border_px: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """True where a centre lies on the pixels, `border_px` away from their edge.

        Pixel k covers k - 0.5 <= x < k + 0.5. A position that is NaN is outside.
        """
        u = np.asarray(x_px, np.float64) - (self.x - 0.5)
        v = np.asarray(y_px, np.float64) - (self.y - 0.5)
        inside = (u >= border_px) & (u < self.width - border_px)
        return np.asarray(
            inside & (v >= border_px) & (v < self.height - border_px), np.bool_
        )


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Numbers of `blinkloop evaluate`, named as in its JSON.

    Parameters
    ----------
    jaccard, precision, recall
        Fractions. NaN where 0/0.
    rmse_lateral_nm, rmse_axial_nm, rmse_volume_nm
        Errors of the pairs. NaN without pairs; axial and volume also in 2D.
    efficiency_lateral, efficiency_axial, efficiency_volume
        Fractions, at most 1, may be negative. NaN where their error is.
    n_truth, n_predicted, n_matched
        Counts after the selection.
    """

    jaccard: float
    precision: float
    recall: float
    rmse_lateral_nm: float
    rmse_axial_nm: float
    rmse_volume_nm: float
    efficiency_lateral: float
    efficiency_axial: float
    efficiency_volume: float
    n_truth: int
    n_predicted: int
    n_matched: int

    def as_dict(self) -> dict[str, float | int]:
        """Names and values, in order."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairedTables:
    """Selected rows and how they pair.

    Parameters
    ----------
    truth, predicted
        The rows that count, of `EMITTER_DTYPE` and `LOCALIZATION_DTYPE`.
    matching
        Row numbers refer to these two arrays.
    truth_nm, predicted_nm
        (N, D) positions in nm; D = 3, or 2 when z was not compared.
    """

    truth: Table
    predicted: Table
    matching: Matching
    truth_nm: npt.NDArray[np.float64]
    predicted_nm: npt.NDArray[np.float64]


def select_truth(
    truth: Table,
    field: Field | None = None,
    *,
    min_photons: float = 50.0,
    border_px: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """True for emitters that should be found: bright enough, centre in the field."""
    keep = np.asarray(truth["photons"] >= min_photons, np.bool_)
    if field is not None:
        keep &= field.contains(truth["x_px"], truth["y_px"], border_px)
    return keep


def pair_tables(
    truth: Table,
    predicted: Table,
    pixel_size_nm: float,
    *,
    field: Field | None = None,
    border_nm: float = 0.0,
    min_photons: float = 50.0,
    lateral_nm: float = 250.0,
    axial_nm: float = 500.0,
    three_dimensional: bool = True,
    forgive_dropped: bool = False,
    rule: MatchingRule = "greedy",
) -> PairedTables:
    """Select the rows that count and pair them.

    Parameters
    ----------
    truth, predicted
        Arrays of `EMITTER_DTYPE` and `LOCALIZATION_DTYPE`.
    pixel_size_nm
        Of the camera, in the sample.
    field
        Field of view; None: everything lies in the field.
    border_nm
        Above 0, both sets are limited to the field less this border (challenge: 450).
        At 0, truth beyond the field does not count, but every prediction does.
    min_photons
        Dimmer truth does not count.
    lateral_nm, axial_nm
        Limits of a pair.
    three_dimensional
        False: pair by x and y alone.
    forgive_dropped
        False: a prediction at an emitter that is too dim to count is a false positive.
        True: it is left out (challenge).
    rule
        How pairs are chosen, see `match`.

    Raises
    ------
    InputError
        When the pixel size is not positive, or a border is asked for without a field.
    """
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise InputError(
            f"accuracy: the pixel size must be positive, got {pixel_size_nm} nm"
        )
    if border_nm and field is None:
        raise InputError(
            f"accuracy: a border of {border_nm} nm needs the field of view; give its "
            f"width and height in px"
        )
    border_px = border_nm / pixel_size_nm
    if field is not None:
        truth = truth[field.contains(truth["x_px"], truth["y_px"], border_px)]
        if border_px > 0:
            inside = field.contains(predicted["x_px"], predicted["y_px"], border_px)
            predicted = predicted[inside]
    limits = _Limits(three_dimensional, lateral_nm, axial_nm, rule)
    counted = select_truth(truth, min_photons=min_photons)
    if forgive_dropped:
        everything = _pair(truth, predicted, pixel_size_nm, limits)
        found = everything.matching
        at_dropped = found.predicted_index[~counted[found.truth_index]]
        predicted = np.delete(predicted, at_dropped)
    return _pair(truth[counted], predicted, pixel_size_nm, limits)


def accuracy(
    truth: Table,
    predicted: Table,
    pixel_size_nm: float,
    *,
    field: Field | None = None,
    border_nm: float = 0.0,
    min_photons: float = 50.0,
    lateral_nm: float = 250.0,
    axial_nm: float = 500.0,
    three_dimensional: bool = True,
    forgive_dropped: bool = False,
    rule: MatchingRule = "greedy",
) -> Accuracy:
    """Scores and errors of a table; parameters as for `pair_tables`."""
    paired = pair_tables(
        truth,
        predicted,
        pixel_size_nm,
        field=field,
        border_nm=border_nm,
        min_photons=min_photons,
        lateral_nm=lateral_nm,
        axial_nm=axial_nm,
        three_dimensional=three_dimensional,
        forgive_dropped=forgive_dropped,
        rule=rule,
    )
    return paired_accuracy(paired)


def paired_accuracy(paired: PairedTables) -> Accuracy:
    """Scores and errors of tables that are already paired."""
    found = paired.matching
    scores = detection_scores(
        found.true_positives, found.false_positives, found.false_negatives
    )
    errors = errors_nm(
        paired.truth_nm[found.truth_index], paired.predicted_nm[found.predicted_index]
    )
    lateral = efficiency(scores.jaccard, errors.rmse_lateral, ALPHA_LATERAL_PER_NM)
    axial = efficiency(scores.jaccard, errors.rmse_axial, ALPHA_AXIAL_PER_NM)
    return Accuracy(
        jaccard=scores.jaccard,
        precision=scores.precision,
        recall=scores.recall,
        rmse_lateral_nm=errors.rmse_lateral,
        rmse_axial_nm=errors.rmse_axial,
        rmse_volume_nm=errors.rmse_volume,
        efficiency_lateral=float(lateral),
        efficiency_axial=float(axial),
        efficiency_volume=float((lateral + axial) / 2.0),
        n_truth=found.n_truth,
        n_predicted=found.n_predicted,
        n_matched=found.true_positives,
    )


@dataclass(frozen=True, slots=True)
class _Limits:
    three_dimensional: bool
    lateral_nm: float
    axial_nm: float
    rule: MatchingRule


def _pair(
    truth: Table, predicted: Table, pixel_size_nm: float, limits: _Limits
) -> PairedTables:
    truth_nm = _positions_nm(truth, pixel_size_nm, limits.three_dimensional)
    predicted_nm = _positions_nm(predicted, pixel_size_nm, limits.three_dimensional)
    found = match(
        truth["frame"],
        truth_nm,
        predicted["frame"],
        predicted_nm,
        lateral_nm=limits.lateral_nm,
        axial_nm=limits.axial_nm,
        rule=limits.rule,
    )
    return PairedTables(truth, predicted, found, truth_nm, predicted_nm)


def _positions_nm(
    table: Table, pixel_size_nm: float, three_dimensional: bool
) -> npt.NDArray[np.float64]:
    columns = [table["x_px"] * pixel_size_nm, table["y_px"] * pixel_size_nm]
    if three_dimensional:
        columns.append(table["z_nm"].astype(np.float64))
    return np.stack(columns, axis=1)
