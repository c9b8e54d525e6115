"""What a conversion costs: two model files on the same simulated movies.

RMSE is compared over the emitters that both models found. Over all that each of them
found, one dim emitter more with a large error (a gain: the Jaccard index says so) moves
the RMSE of a thousand by several percent; that number is kept beside the other.

Design notes: both run in ONNX Runtime on the CPU, as at the microscope. Differences are
between two files on one movie, so most of the chance in the movie cancels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.evaluation import Condition
from blinkloop.export.verify_frames import LossMovie
from blinkloop.metrics import (
    Field,
    PairedTables,
    Rules,
    count_estimate,
    density_calibration,
    errors_and_sigmas_nm,
    pair_by_rules,
    paired_accuracy,
    z_scores,
)
from blinkloop.runtime.backends import create_backend
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.runtime.density import probability_floor
from blinkloop.runtime.localizer import StreamLocalizer, localize_movie
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.records import Frame, Roi
from blinkloop.schema import LossLimits, PrecisionLoss

__all__ = ["broken_limits", "measure_loss"]

_BACKEND = "onnxruntime-cpu"
_BATCH = 16


@dataclass(frozen=True, slots=True)
class _Found:
    """What one model says of one movie."""

    paired: PairedTables
    jaccard: float
    rmse_nm: tuple[float, ...]
    density_bias: float
    z_score_sd: dict[str, float]


def measure_loss(
    source: str | os.PathLike[str],
    converted: str | os.PathLike[str],
    movies: Sequence[LossMovie],
    condition: Condition,
) -> tuple[PrecisionLoss, ...]:
    """Compare a converted model with the fp32 one it came from.

    Parameters
    ----------
    source, converted
        Model files.
    movies
        To compare on.
    condition
        The microscope of the movies.

    Returns
    -------
    One entry for each movie; numbers are NaN where a model found nothing.
    """
    before = _measured(read_model(source), movies, condition)
    after = _measured(read_model(converted), movies, condition)
    return tuple(
        _loss(movie, one, other)
        for movie, one, other in zip(movies, before, after, strict=True)
    )


def broken_limits(loss: Sequence[PrecisionLoss], limits: LossLimits) -> list[str]:
    """What is lost beyond the limits, a few words for each; empty when nothing is."""
    broken = []
    for row in loss:
        at = f"at {row.density_per_um2:g} per um^2"
        # `not <=` and not `>`: a number that is none is no proof of anything.
        if not -row.jaccard_points <= limits.jaccard_points:
            broken.append(f"{-row.jaccard_points:.2f} points of Jaccard {at}")
        axes = [("lateral", row.rmse_lateral_percent)]
        if row.rmse_axial_percent is not None:
            axes.append(("axial", row.rmse_axial_percent))
        for axis, percent in axes:
            if not percent <= limits.rmse_percent:
                broken.append(f"{percent:.1f} % of {axis} RMSE {at}")
        one, other = row.density_bias_percent
        if not abs(other - one) <= limits.density_points:
            broken.append(f"{abs(other - one):.1f} points of density {at}")
    return broken


def _loss(movie: LossMovie, before: _Found, after: _Found) -> PrecisionLoss:
    one, other = before.paired.matching, after.paired.matching
    # The truth that counts is the same in both, so its row numbers are too.
    both = np.intersect1d(one.truth_index, other.truth_index)
    first = _rmse_nm(before.paired, np.isin(one.truth_index, both))
    second = _rmse_nm(after.paired, np.isin(other.truth_index, both))
    common = [_percent(a, b) for a, b in zip(first, second, strict=True)]
    everything = zip(before.rmse_nm, after.rmse_nm, strict=True)
    return PrecisionLoss(
        density_per_um2=movie.settings.density_per_um2,
        emitters=one.n_truth,
        jaccard_points=_short(100 * (after.jaccard - before.jaccard)),
        rmse_lateral_percent=common[0],
        rmse_axial_percent=common[1] if len(common) > 1 else None,
        rmse_all_percent=tuple(_percent(a, b) for a, b in everything),
        density_bias_percent=(
            _short(100 * before.density_bias),
            _short(100 * after.density_bias),
        ),
        z_score_sd={
            axis: (_short(sd), _short(after.z_score_sd[axis]))
            for axis, sd in before.z_score_sd.items()
        },
    )


def _rmse_nm(paired: PairedTables, chosen: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """RMSE of some pairs: lateral (mean of the axes' squares) and, in 3D, axial."""
    found = paired.matching
    error = (
        paired.predicted_nm[found.predicted_index[chosen]]
        - paired.truth_nm[found.truth_index[chosen]]
    )
    if not len(error):
        return (math.nan,) * (int(error.shape[1]) - 1)
    square = np.mean(error**2, axis=0)
    lateral = float(np.sqrt(square[:2].mean()))
    return (lateral, *(float(np.sqrt(axial)) for axial in square[2:]))


def _percent(old: float, new: float) -> float:
    return _short(100 * (new / old - 1)) if old > 0 else math.nan


def _short(value: float) -> float:
    """Three decimals: more tells nothing and fills the card."""
    return round(float(value), 3)


def _measured(
    model: ModelFile, movies: Sequence[LossMovie], condition: Condition
) -> list[_Found]:
    maps = make_camera_maps(condition.camera)
    backend = create_backend(_BACKEND, model, maps)
    try:
        return [
            _judged(movie, StreamLocalizer(model, backend, maps), model, condition)
            for movie in movies
        ]
    finally:
        backend.close()


def _judged(
    movie: LossMovie, localizer: StreamLocalizer, model: ModelFile, condition: Condition
) -> _Found:
    settings, card = movie.settings, model.card
    height, width, pixel = (
        settings.height_px,
        settings.width_px,
        condition.pixel_size_nm,
    )
    roi, adu = Roi(0, 0, width, height), movie.scene.frames_adu[0]
    frames = (Frame(i, 0.0, pixels, roi) for i, pixels in enumerate(adu))
    results = list(localize_movie(frames, localizer, batch=_BATCH))
    paired = pair_by_rules(
        movie.scene.emitters,
        np.concatenate([result.localizations for result in results]),
        pixel,
        Rules(),
        field=Field(width, height),
        three_dimensional=card.three_dimensional,
    )
    accuracy = paired_accuracy(paired)
    spread = z_scores(*errors_and_sigmas_nm(paired, pixel))
    return _Found(
        paired=paired,
        jaccard=accuracy.jaccard,
        rmse_nm=_rmse_nm(paired, np.ones(len(paired.matching.truth_index), np.bool_)),
        density_bias=_density_bias(results, paired, model, movie, pixel),
        z_score_sd={axis: row["robust_sd"] for axis, row in spread.items()},
    )


def _density_bias(
    results: Sequence[Any],
    paired: PairedTables,
    model: ModelFile,
    movie: LossMovie,
    pixel_nm: float,
) -> float:
    """Relative bias of the number of emitters."""
    settings = movie.settings
    pixels = settings.height_px * settings.width_px
    estimate, variance = count_estimate(
        [result.count_mean for result in results],
        [result.count_variance for result in results],
        pixels,
        probability_floor(model.card.architecture.logit_clamp),
    )
    true = np.bincount(paired.truth["frame"], minlength=settings.frames)
    area_um2 = pixels * (pixel_nm / 1000.0) ** 2
    found = density_calibration(estimate, variance, true, area_um2)
    return float(found["bias"])
