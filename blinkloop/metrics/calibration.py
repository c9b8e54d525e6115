"""Calibration: do sigmas and probabilities mean what they say.

sigma: the error divided by sigma (z-score) must have the SD 1, and emitters with larger
sigma must have larger errors. p: of the localizations with score q the share q must be
real, and sum p over a region must be the number of emitters in it.

Design notes: knows pairs and plain numbers; nothing of networks, movies or the Cramer-
Rao bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.metrics.accuracy import PairedTables
from blinkloop.metrics.scores import ratio

__all__ = [
    "correlation",
    "count_reliability",
    "errors_and_sigmas_nm",
    "rank_correlation",
    "ranks",
    "score_reliability",
    "sigma_correlation",
    "z_scores",
]

Floats = npt.NDArray[np.float64]

_MAD_TO_SD = 1.4826
"""SD of a normal distribution divided by its median absolute deviation."""
_INTERVAL = 1.959964
"""Half the 95 % interval of a normal distribution, in SD."""
_AXES = ("x", "y", "z")


def errors_and_sigmas_nm(
    paired: PairedTables, pixel_size_nm: float
) -> tuple[Floats, Floats]:
    """Errors of the pairs and the sigmas that were predicted for them.

    Returns
    -------
    tuple
        Two (M, D) in nm, D = 3, or 2 when z was not compared; pairs whose sigmas are
        not positive numbers are left out.
    """
    found = paired.matching
    rows = paired.predicted[found.predicted_index]
    error = (
        paired.predicted_nm[found.predicted_index] - paired.truth_nm[found.truth_index]
    )
    columns = [rows["x_sigma_px"] * pixel_size_nm, rows["y_sigma_px"] * pixel_size_nm]
    if error.shape[1] == 3:
        columns.append(rows["z_sigma_nm"])
    sigma = np.stack(columns, axis=1).astype(np.float64)
    known = (np.isfinite(sigma) & (sigma > 0)).all(axis=1)
    return error[known], sigma[known]


def z_scores(error: npt.ArrayLike, sigma: npt.ArrayLike) -> dict[str, dict[str, float]]:
    """Distribution of error / sigma along each axis.

    Parameters
    ----------
    error, sigma
        (M, D) in the same unit, D = 2 or 3.

    Returns
    -------
    dict
        For `x`, `y` and, in 3D, `z`: `mean`, `sd`, `robust_sd` (from the median
        absolute deviation, blind to outliers), and `within_95`, the share of errors
        within 1.96 sigma. NaN without pairs. 1 is right; above 1 sigma is too small.
    """
    scores = np.asarray(error, np.float64) / np.asarray(sigma, np.float64)
    result = {}
    for axis, score in zip(_AXES, scores.T, strict=False):
        if not len(score):
            result[axis] = dict.fromkeys(
                ("mean", "sd", "robust_sd", "within_95"), math.nan
            )
            continue
        deviation = np.abs(score - np.median(score))
        result[axis] = {
            "mean": float(np.mean(score)),
            "sd": float(np.std(score)),
            "robust_sd": float(_MAD_TO_SD * np.median(deviation)),
            "within_95": float(np.mean(np.abs(score) <= _INTERVAL)),
        }
    return result


def correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Pearson's correlation of two (N,); NaN when one of them does not vary."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def sigma_correlation(
    error: npt.ArrayLike,
    sigma: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    bins: int = 20,
) -> dict[str, Any]:
    """Correlation of predicted sigma with the error.

    s = sqrt(sum over the axes of sigma^2), e = length of the error vector.

    Parameters
    ----------
    error, sigma
        (M, D) in nm.
    rng
        Draws the errors of `ceiling`.
    bins
        Groups of equal size along s.

    Returns
    -------
    dict
        `per_emitter`: Pearson's r of s and e over all pairs. Even exact sigmas do not
        give 1, because an error is one draw of its distribution: `ceiling` is the r of
        s with errors drawn from normal distributions of those sigmas.
        `rank`: Spearman's r, which a few wild errors do not rule.
        `binned`: Pearson's r of rms s and rms e over groups of equal size along s, in
        which the chance of single draws averages out.
        `curve`: the groups, `sigma_nm`, `rmse_nm`, `n`.
    """
    errors = np.asarray(error, np.float64)
    sigmas = np.asarray(sigma, np.float64)
    s = np.sqrt(np.sum(sigmas**2, axis=1))
    e = np.sqrt(np.sum(errors**2, axis=1))
    drawn = np.sqrt(np.sum((sigmas * rng.standard_normal(sigmas.shape)) ** 2, axis=1))
    groups = [
        part
        for part in np.array_split(np.argsort(s, kind="stable"), bins)
        if len(part) > 0
    ]
    rms_s = [float(np.sqrt(np.mean(s[part] ** 2))) for part in groups]
    rms_e = [float(np.sqrt(np.mean(e[part] ** 2))) for part in groups]
    return {
        "n": len(s),
        "per_emitter": correlation(s, e),
        "ceiling": correlation(s, drawn),
        "rank": rank_correlation(s, e),
        "binned": correlation(rms_s, rms_e),
        "curve": {
            "sigma_nm": rms_s,
            "rmse_nm": rms_e,
            "n": [len(part) for part in groups],
        },
    }


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's correlation of two (N,), which a few wild values do not rule."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return correlation(ranks(first), ranks(second))


def ranks(values: Floats) -> Floats:
    """Ranks (N,) from 0; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count + 1) / 2)[place], np.float64)


def score_reliability(
    score: npt.ArrayLike, real: npt.ArrayLike, *, bins: int = 10
) -> dict[str, Any]:
    """Share of real localizations against their score.

    Parameters
    ----------
    score
        (N,) in 0 .. 1.
    real
        (N,) True where a true emitter belongs to the localization.
    bins
        Of equal width over 0 .. 1.

    Returns
    -------
    dict
        `curve` with `score` (mean), `share`, `n` of the bins that hold any, and `ece`,
        the mean of |score - share| over the bins, weighted by n (expected calibration
        error, Naeini et al. 2015). NaN without localizations.
    """
    scores, hits = np.asarray(score, np.float64), np.asarray(real, np.float64)
    place = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    return _reliability(place, scores, hits, bins, ("score", "share"))


def count_reliability(
    expected: npt.ArrayLike, true: npt.ArrayLike, *, bins: int = 12
) -> dict[str, Any]:
    """Mean true count of regions against their sum of p.

    Parameters
    ----------
    expected, true
        (N,) sum p and number of true emitters of each region.
    bins
        Groups of equal size along `expected`.

    Returns
    -------
    dict
        `curve` with `expected`, `true` (means) and `n` of each group, and `ece`, the
        mean of |expected - true| over the groups, in emitters per region.
    """
    sums, counts = np.asarray(expected, np.float64), np.asarray(true, np.float64)
    place = np.zeros(len(sums), np.int64)
    for number, part in enumerate(
        np.array_split(np.argsort(sums, kind="stable"), bins)
    ):
        place[part] = number
    return _reliability(place, sums, counts, bins, ("expected", "true"))


def _reliability(
    place: npt.NDArray[np.int64],
    said: Floats,
    held: Floats,
    bins: int,
    names: tuple[str, str],
) -> dict[str, Any]:
    n = np.bincount(place, minlength=bins)
    mean_said = ratio(np.bincount(place, said, bins), n)
    mean_held = ratio(np.bincount(place, held, bins), n)
    filled = n > 0
    off = np.abs(mean_said - mean_held)[filled]
    return {
        "ece": float(ratio(np.sum(off * n[filled]), n.sum())),
        "n": int(n.sum()),
        "curve": {
            names[0]: mean_said[filled].tolist(),
            names[1]: mean_held[filled].tolist(),
            "n": n[filled].tolist(),
        },
    }
