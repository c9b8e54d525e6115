"""Bias and coverage of the number of emitters that a network estimates.

The number in a frame is estimated as sum p with variance sum p (1 - score); the
background of p, which a network with clamped logits never falls below, is subtracted
(as `blinkloop.runtime.DensityEstimator` does at the microscope).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.scores import ratio

__all__ = ["count_estimate", "density_calibration"]

Floats = npt.NDArray[np.float64]


def count_estimate(
    count_mean: npt.ArrayLike,
    count_variance: npt.ArrayLike,
    pixels: int,
    p_floor: float = 0.0,
) -> tuple[Floats, Floats]:
    """Number of emitters per frame and its variance, background of p subtracted.

    Parameters
    ----------
    count_mean, count_variance
        (T,) sum p and sum p (1 - score) of each frame, as the graph gives them.
    pixels
        Of a frame.
    p_floor
        Smallest p of the network.

    Returns
    -------
    tuple
        Two (T,), neither below 0.
    """
    mean = np.asarray(count_mean, np.float64) - p_floor * pixels
    variance = np.asarray(count_variance, np.float64)
    variance = variance - p_floor * (1.0 - p_floor) * pixels
    return np.maximum(mean, 0.0), np.maximum(variance, 0.0)


def density_calibration(
    estimate: npt.ArrayLike,
    variance: npt.ArrayLike,
    true: npt.ArrayLike,
    frame_um2: float,
    *,
    level: float = 0.95,
) -> dict[str, Any]:
    """Bias and coverage of the estimated number of emitters per frame.

    Parameters
    ----------
    estimate, variance
        (T,) from `count_estimate`.
    true
        (T,) emitters that count.
    frame_um2
        Area of a frame.
    level
        Of the interval estimate +- k SD, k from the normal distribution.

    Returns
    -------
    dict
        `true_per_um2`, `estimated_per_um2`, `bias_per_um2`, `bias` (relative; NaN
        without emitters), `coverage` (share of frames whose interval holds the true
        number), `z_sd` (SD of (estimate - true) / SD; frames whose variance is 0 are
        left out), `sd_scale` (what the SD would have to be multiplied by for the share
        `level` of those frames to be covered; below 1 the interval is too wide),
        `rmse_per_um2` (of single frames), `frames`. NaN without frames.

    Raises
    ------
    InputError
        When the lengths differ, or the area or the level cannot be.
    """
    m, v, n = (np.asarray(value, np.float64) for value in (estimate, variance, true))
    if not (m.shape == v.shape == n.shape) or m.ndim != 1:
        raise InputError(
            f"density: estimate, variance and truth must be of one length, got "
            f"{m.shape}, {v.shape} and {n.shape}"
        )
    if not (math.isfinite(frame_um2) and frame_um2 > 0 and 0 < level < 1):
        raise InputError(
            f"density: the area must be positive and the level between 0 and 1, got "
            f"{frame_um2} um^2 and {level}"
        )
    frames = len(m)
    off = m - n
    sd = np.sqrt(v)
    reach = NormalDist().inv_cdf((1.0 + level) / 2.0)
    scores = off[sd > 0] / sd[sd > 0]
    mean_true = float(ratio(n.sum(), frames))
    bias = float(ratio(off.sum(), frames))
    return {
        "true_per_um2": mean_true / frame_um2,
        "estimated_per_um2": (mean_true + bias) / frame_um2,
        "bias_per_um2": bias / frame_um2,
        "bias": float(ratio(bias, mean_true)),
        "coverage": float(ratio(np.sum(np.abs(off) <= reach * sd), frames)),
        "z_sd": float(np.std(scores)) if len(scores) else math.nan,
        "sd_scale": (
            float(np.quantile(np.abs(scores), level) / reach)
            if len(scores)
            else math.nan
        ),
        "rmse_per_um2": math.sqrt(float(ratio(np.sum(off**2), frames))) / frame_um2,
        "frames": frames,
    }
