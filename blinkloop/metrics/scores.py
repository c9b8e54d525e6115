"""Detection and precision scores from counts and squared errors.

Scores are fractions (0.7, not 70 %), errors in nm. What is undefined, such as the
precision of no prediction, is NaN, without a warning.
Source: Sage et al. 2019, doi:10.1038/s41592-019-0364-4; REFERENCE section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALPHA_AXIAL_PER_NM",
    "ALPHA_LATERAL_PER_NM",
    "DetectionScores",
    "Errors",
    "detection_scores",
    "efficiency",
    "errors_nm",
    "ratio",
]

ALPHA_LATERAL_PER_NM = 0.01
"""1 nm of lateral RMSE costs as much as 1 % of Jaccard index."""
ALPHA_AXIAL_PER_NM = 0.005
"""1 nm of axial RMSE costs as much as 0.5 % of Jaccard index."""


def ratio(numerator: Any, denominator: Any) -> Any:
    """Divide the two, NaN where the denominator is 0. Broadcasts."""
    top = np.asarray(numerator, np.float64)
    bottom = np.asarray(denominator, np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    result = np.full(shape, np.nan)
    return np.divide(top, bottom, out=result, where=np.broadcast_to(bottom != 0, shape))


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Fractions; NaN where undefined."""

    precision: float
    recall: float
    jaccard: float
    f1: float


def detection_scores(
    true_positives: int, false_positives: int, false_negatives: int
) -> DetectionScores:
    """Precision, recall, Jaccard index TP / (TP + FP + FN) and F1."""
    tp, fp, fn = true_positives, false_positives, false_negatives
    return DetectionScores(
        precision=float(ratio(tp, tp + fp)),
        recall=float(ratio(tp, tp + fn)),
        jaccard=float(ratio(tp, tp + fp + fn)),
        f1=float(ratio(2 * tp, 2 * tp + fp + fn)),
    )


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of paired localizations in nm; NaN without pairs, or without z.

    RMSE is the challenge's form, sqrt(sum of squares over the axes / pairs); the DECODE
    paper divides by the number of axes as well. MAD is the mean over the pairs of the
    sum over the axes of the absolute error.
    """

    rmse_lateral: float
    rmse_axial: float
    rmse_volume: float
    mad_lateral: float
    mad_axial: float
    mad_volume: float


def errors_nm(truth_nm: npt.ArrayLike, predicted_nm: npt.ArrayLike) -> Errors:
    """Errors of pairs of positions.

    Parameters
    ----------
    truth_nm, predicted_nm
        (M, 3) or (M, 2), row by row the two partners of a pair, in nm.
    """
    delta = np.asarray(predicted_nm, np.float64) - np.asarray(truth_nm, np.float64)
    pairs = len(delta)
    square, absolute = delta**2, np.abs(delta)
    if delta.shape[1] == 2:
        nan = np.full((pairs, 1), np.nan)
        square, absolute = np.hstack([square, nan]), np.hstack([absolute, nan])
        # A sum over no pairs is 0, not NaN: one NaN row says "no z".
    lateral, axial = square[:, :2].sum(), square[:, 2].sum()
    mad_lateral, mad_axial = absolute[:, :2].sum(), absolute[:, 2].sum()
    return Errors(
        rmse_lateral=float(np.sqrt(ratio(lateral, pairs))),
        rmse_axial=float(np.sqrt(ratio(axial, pairs))),
        rmse_volume=float(np.sqrt(ratio(lateral + axial, pairs))),
        mad_lateral=float(ratio(mad_lateral, pairs)),
        mad_axial=float(ratio(mad_axial, pairs)),
        mad_volume=float(ratio(mad_lateral + mad_axial, pairs)),
    )


def efficiency(jaccard: Any, rmse_nm: Any, alpha_per_nm: float) -> Any:
    """1 - sqrt((1 - J)^2 + (alpha RMSE)^2), as a fraction; may be negative."""
    return 1.0 - np.sqrt((1.0 - jaccard) ** 2 + (alpha_per_nm * rmse_nm) ** 2)
