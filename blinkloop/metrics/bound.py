"""Errors of isolated emitters against the Cramer-Rao lower bound."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = ["bound_ratio"]

Floats = npt.NDArray[np.float64]

_AXES = ("x", "y", "z")


def bound_ratio(
    error: npt.ArrayLike,
    bound: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = 500,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """RMSE divided by the square root of the bound, per axis, with intervals.

    Parameters
    ----------
    error
        (N, D) of emitters that were found, D = 2 or 3.
    bound
        (N, D) lower bounds of the variance at the true parameters, in squared units of
        `error`.
    rng
        Draws emitters with replacement for the intervals.
    resamples, level
        Of the bootstrap.

    Returns
    -------
    dict
        For `x`, `y` and, in 3D, `z`: `ratio` = sqrt(mean e^2 / mean bound), the RMSE
        against the RMS bound; `ratio_each` = sqrt(mean (e^2 / bound)), in which every
        emitter weighs the same; `ratio_robust` = 1.4826 median |e / sqrt bound|, blind
        to outliers; `interval_95`, `interval_95_each` of the first two; `rmse`, `bound`
        (root mean square), `bias` and `bias_se` (its standard error). NaN without
        emitters, or for an axis whose bound is infinite.

    Raises
    ------
    InputError
        When the shapes differ.
    """
    errors, bounds = np.asarray(error, np.float64), np.asarray(bound, np.float64)
    if errors.shape != bounds.shape or errors.ndim != 2:
        raise InputError(
            f"bound: errors and bounds must be (N, axes) both, got {errors.shape} and "
            f"{bounds.shape}"
        )
    n, axes = errors.shape
    square = errors**2
    usable = np.isfinite(bounds) & (bounds > 0)
    known = [bool(usable[:, axis].all()) for axis in range(axes)]
    times = _times(rng, n, resamples)
    tail = (1.0 - level) / 2.0
    result: dict[str, dict[str, Any]] = {}
    for number, axis in enumerate(_AXES[:axes]):
        if not n or not known[number]:
            nan = math.nan
            result[axis] = dict.fromkeys(
                ("ratio", "ratio_each", "ratio_robust", "rmse", "bound", "bias"), nan
            )
            result[axis] |= {"bias_se": nan, "interval_95": (nan, nan)}
            result[axis] |= {"interval_95_each": (nan, nan)}
            continue
        e2, b, e = square[:, number], bounds[:, number], errors[:, number]
        drawn = np.sqrt((times @ e2) / (times @ b))
        drawn_each = np.sqrt((times @ (e2 / b)) / n)
        result[axis] = {
            "ratio": float(np.sqrt(e2.mean() / b.mean())),
            "ratio_each": float(np.sqrt(np.mean(e2 / b))),
            "ratio_robust": float(1.4826 * np.median(np.abs(e) / np.sqrt(b))),
            "interval_95": _interval(drawn, tail),
            "interval_95_each": _interval(drawn_each, tail),
            "rmse": float(np.sqrt(e2.mean())),
            "bound": float(np.sqrt(b.mean())),
            "bias": float(e.mean()),
            "bias_se": float(e.std() / math.sqrt(n)),
        }
    return result


def _times(rng: np.random.Generator, n: int, resamples: int) -> Floats:
    """(resamples, n): how often each emitter is drawn."""
    if not n:
        return np.zeros((resamples, 0))
    rows = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(resamples)]
    return np.asarray(rows, np.float32).astype(np.float64)


def _interval(values: Floats, tail: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
