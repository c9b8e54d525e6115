"""Predicted sigma against the error of the same emitters in many noise realisations.

One error is one draw of its distribution, so its correlation with even an exact sigma
is far below 1. Here the emitters stay and the noise is drawn anew: the error of an
emitter becomes an RMSE over the draws, which its sigma can be compared with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.evaluation.bounds import bounds_nm2
from blinkloop.evaluation.condition import Condition
from blinkloop.evaluation.measure import Measurement
from blinkloop.evaluation.movie import Localize
from blinkloop.metrics import (
    bootstrap_correlation,
    correlation,
    errors_and_sigmas_nm,
    pair_by_rules,
    rank_correlation,
    ranks,
)
from blinkloop.metrics.scores import ratio
from blinkloop.optics.scene import Scene

__all__ = ["sigma_over_repeats"]

Floats = npt.NDArray[np.float64]

_STREAM = 4
_SEEN_SHARE = 0.5
_BLOCK_FRAMES = 10
_MOST_BOUNDS = 20_000


def sigma_over_repeats(
    scene: Scene,
    condition: Condition,
    localize: Localize,
    how: Measurement,
    *,
    repeats: int,
    frames: int,
) -> dict[str, Any]:
    """Correlation of sigma with the RMSE of each emitter over draws of the noise.

    Parameters
    ----------
    scene
        One movie; its emitters and background are kept.
    condition
        Microscope.
    localize
        The network.
    how
        Rules, threshold, seed.
    repeats
        Draws of the noise, at least 2.
    frames
        How many of the movie's first frames are used.

    Returns
    -------
    dict
        `correlation`: Pearson's r, over the emitters found in at least half of the
        draws, of the RMS predicted sigma (all axes) with the RMSE over the draws;
        `rank`: Spearman's, which the few emitters that were taken for others do not
        rule; `correlation_95`, `rank_95`: 95 % bootstrap intervals of both, runs of
        10 frames resampled;
        `ceiling`: `correlation` with errors drawn from the predicted sigmas;
        `crlb`: the same with the single-emitter bound in the place of sigma;
        `persistent`: share of the mean square error that is the same in every draw
        (two emitters taken for one, say). It is drawn once per emitter, however many
        draws, so not even an exact sigma reaches `ceiling` where it is large;
        `n`, `repeats`, `frames`.
    """
    if repeats < 2:
        raise InputError(f"evaluate: noise is drawn at least 2 times, got {repeats}")
    height, width = scene.frames_adu.shape[2:]
    frames = min(frames, scene.frames_adu.shape[1])
    truth = scene.emitters[scene.emitters["frame"] < frames]
    expected = condition.psf.render(
        truth["x_px"].astype(np.float32),
        truth["y_px"].astype(np.float32),
        truth["z_nm"],
        truth["photons"],
        truth["frame"],
        frames,
        height,
        width,
    )
    expected = np.maximum(expected, 0.0) + scene.background[0]
    rng = np.random.default_rng([how.seed, _STREAM])
    # Rows of `pair_by_rules` are a selection of the truth: found again by their number.
    numbered = truth.copy()
    numbered["id"] = np.arange(len(truth))
    square, variance, drawn, seen = (np.zeros(len(truth)) for _ in range(4))
    total = np.zeros((len(truth), 3 if how.three_dimensional else 2))
    for _ in range(repeats):
        adu = condition.noise.forward(expected, rng)
        found = localize(adu, condition.camera).above(how.threshold)
        paired = pair_by_rules(
            numbered,
            found.table,
            how.pixel_size_nm,
            how.rules,
            field=how.field_of_view,
            three_dimensional=how.three_dimensional,
        )
        error, sigma = errors_and_sigmas_nm(paired, how.pixel_size_nm)
        who = paired.truth["id"][paired.matching.truth_index]
        square[who] += np.sum(error**2, axis=1)
        variance[who] += np.sum(sigma**2, axis=1)
        drawn[who] += np.sum((sigma * rng.standard_normal(sigma.shape)) ** 2, axis=1)
        total[who] += error
        seen[who] += 1
    often = np.flatnonzero(seen >= max(2, _SEEN_SHARE * repeats))
    n = seen[often]
    rmse, rms = np.sqrt(square[often] / n), np.sqrt(variance[often] / n)
    # The square of a mean of n errors is too large by their variance / n.
    steady = np.sum(total[often] ** 2, axis=1) / n
    persistent = float(np.sum((steady - square[often] / n) / (n - 1)))
    some = often[:: max(1, len(often) // _MOST_BOUNDS)]
    bounds = bounds_nm2(truth[some], condition, three_dimensional=how.three_dimensional)
    bound = np.sqrt(np.sum(bounds, axis=1))
    at = truth["frame"][often]

    def interval(a: Floats, b: Floats) -> tuple[float, float]:
        return bootstrap_correlation(a, b, at, rng, block_frames=_BLOCK_FRAMES)

    return {
        "correlation": correlation(rms, rmse),
        "correlation_95": interval(rms, rmse),
        "rank": rank_correlation(rms, rmse),
        "rank_95": interval(ranks(rms), ranks(rmse)),
        "ceiling": correlation(rms, np.sqrt(drawn[often] / n)),
        "crlb": correlation(bound, np.sqrt(square[some] / seen[some])),
        "persistent": float(ratio(persistent, np.sum(square[often] / n))),
        "n": len(often),
        "repeats": repeats,
        "frames": frames,
    }
