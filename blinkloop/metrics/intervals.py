"""Bootstrap intervals of the accuracy, by resampling frames.

Frames are drawn with replacement; every score follows from per-frame counts and sums of
squared errors, so nothing is paired again. An emitter is seen in several frames in a
row, so neighbouring frames are not independent: `block_frames` longer than the on-time
draws runs of frames instead, and the intervals become wider and honest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.accuracy import PairedTables
from blinkloop.metrics.scores import (
    ALPHA_AXIAL_PER_NM,
    ALPHA_LATERAL_PER_NM,
    efficiency,
    ratio,
)

__all__ = ["bootstrap_correlation", "bootstrap_intervals"]

Floats = npt.NDArray[np.float64]

_DRAWS_AT_ONCE = 2_000_000
"""Frame numbers drawn at a time; bounds the memory."""


def bootstrap_intervals(
    paired: PairedTables,
    frames: range,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    block_frames: int = 1,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the keys of `Accuracy`, but for its counts.

    Parameters
    ----------
    paired
        From `pair_tables`.
    frames
        The frames that were analysed, those without any emitter included.
    rng
        Source of the resamples.
    resamples
        How many movies are drawn.
    level
        Share of the resamples between the two ends.
    block_frames
        Frames drawn together; the last block may be shorter.

    Returns
    -------
    dict
        key -> (low, high); (NaN, NaN) where no resample defines the key.

    Raises
    ------
    InputError
        When there is no frame, or a row lies in none of them.
    """
    if resamples < 1 or block_frames < 1 or not 0 < level < 1:
        raise InputError(
            f"bootstrap: resamples and block_frames must be at least 1 and level "
            f"between 0 and 1, got {resamples}, {block_frames} and {level}"
        )
    sums = _block_sums(paired, frames, block_frames)
    drawn = _resample(sums, rng, resamples)
    samples = _scores(drawn)
    tail = (1.0 - level) / 2.0
    intervals = {}
    for key, values in samples.items():
        known = values[np.isfinite(values)]
        if known.size:
            low, high = np.quantile(known, [tail, 1.0 - tail])
            intervals[key] = (float(low), float(high))
        else:
            intervals[key] = (float("nan"), float("nan"))
    return intervals


def bootstrap_correlation(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    frame: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    block_frames: int = 1,
) -> tuple[float, float]:
    """Percentile interval of Pearson's correlation of two (N,), frames resampled.

    Parameters
    ----------
    a, b
        (N,) each.
    frame
        (N,) whole numbers; runs of `block_frames` of them are drawn together.
    rng, resamples, level, block_frames
        As `bootstrap_intervals`.

    Returns
    -------
    tuple
        (low, high); NaN where no resample defines it.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not len(first):
        return float("nan"), float("nan")
    # About the means, or the sums of squares would hold little else.
    first, second = first - first.mean(), second - second.mean()
    _, block = np.unique(np.asarray(frame) // block_frames, return_inverse=True)
    columns = (None, first, second, first**2, second**2, first * second)
    sums = np.stack([np.bincount(block, weights) for weights in columns], 1)
    n, x, y, xx, yy, xy = _resample(sums.astype(np.float64), rng, resamples).T
    spread = (n * xx - x**2) * (n * yy - y**2)
    known = spread > 0
    if not known.any():
        return float("nan"), float("nan")
    drawn = (n * xy - x * y)[known] / np.sqrt(spread[known])
    low, high = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _block_sums(paired: PairedTables, frames: range, block_frames: int) -> Floats:
    """(blocks, 5): truth, predictions, pairs, lateral and axial squared errors."""
    if not len(frames) or frames.step != 1:
        raise InputError(f"bootstrap: needs an unbroken range of frames, got {frames}")
    blocks = -(-len(frames) // block_frames)
    found = paired.matching
    delta = (
        paired.predicted_nm[found.predicted_index] - paired.truth_nm[found.truth_index]
    )
    at_pair = paired.truth["frame"][found.truth_index]
    axial = delta[:, 2] ** 2 if delta.shape[1] == 3 else np.full(len(delta), np.nan)
    columns = (
        (paired.truth["frame"], None),
        (paired.predicted["frame"], None),
        (at_pair, None),
        (at_pair, np.sum(delta[:, :2] ** 2, axis=1)),
        (at_pair, axial),
    )
    sums = np.zeros((blocks, len(columns)))
    for number, (frame, weights) in enumerate(columns):
        block = (frame.astype(np.int64) - frames.start) // block_frames
        outside = (frame < frames.start) | (frame >= frames.stop)
        if outside.any():
            raise InputError(
                f"bootstrap: frame {int(frame[outside][0])} is not one of the "
                f"analysed frames {frames.start} .. {frames.stop - 1}"
            )
        sums[:, number] = np.bincount(block, weights, minlength=blocks)
    return sums


def _resample(sums: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """(resamples, columns): column sums of blocks drawn with replacement."""
    blocks = len(sums)
    at_once = max(1, _DRAWS_AT_ONCE // blocks)
    parts = []
    for start in range(0, resamples, at_once):
        movies = min(at_once, resamples - start)
        draws = rng.integers(0, blocks, (movies, blocks))
        draws += np.arange(movies)[:, None] * blocks
        times = np.bincount(draws.ravel(), minlength=movies * blocks)
        parts.append(times.reshape(movies, blocks).astype(np.float64) @ sums)
    return np.concatenate(parts)


def _scores(sums: Floats) -> dict[str, Floats]:
    truth, predicted, pairs, lateral, axial = sums.T
    jaccard = ratio(pairs, truth + predicted - pairs)
    rmse_lateral = np.sqrt(ratio(lateral, pairs))
    rmse_axial = np.sqrt(ratio(axial, pairs))
    lateral_score = efficiency(jaccard, rmse_lateral, ALPHA_LATERAL_PER_NM)
    axial_score = efficiency(jaccard, rmse_axial, ALPHA_AXIAL_PER_NM)
    return {
        "jaccard": jaccard,
        "precision": ratio(pairs, predicted),
        "recall": ratio(pairs, truth),
        "rmse_lateral_nm": rmse_lateral,
        "rmse_axial_nm": rmse_axial,
        "rmse_volume_nm": np.sqrt(ratio(lateral + axial, pairs)),
        "efficiency_lateral": lateral_score,
        "efficiency_axial": axial_score,
        "efficiency_volume": (lateral_score + axial_score) / 2.0,
    }
