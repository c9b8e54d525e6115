"""When emitters are on, and how many photons fall into each frame.

Time is counted in frames; frame f lasts from f to f + 1. An emitter that is on from t0
for a time tau gives flux x overlap photons to each frame it touches, so its first and
last frames hold partial photons (REFERENCE section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array, array_namespace

__all__ = ["HISTORY", "Blinks", "bin_to_frames", "sample_blinks"]

HISTORY = 10.0
"""Mean on-times before the first frame in which an emitter may have started."""


@dataclass(frozen=True, slots=True)
class Blinks:
    """Emitters in continuous time; all arrays (E,).

    `sample` numbers the movie an emitter belongs to; times in frames; flux in photons
    per frame.
    """

    sample: npt.NDArray[np.int64]
    start: npt.NDArray[np.float64]
    on_time: npt.NDArray[np.float64]
    flux: npt.NDArray[np.float64]


def sample_blinks(
    rng: np.random.Generator,
    *,
    emitters_per_frame: npt.NDArray[np.float64],
    on_time_frames: npt.NDArray[np.float64],
    flux_photons: npt.NDArray[np.float64],
    flux_relative_sd: float,
    n_frames: int,
) -> Blinks:
    """Draw stationary blinking for many short movies at once.

    An emitter with mean on-time tau touches tau + 1 frames on average, so emitters
    start at the rate A/(tau + 1) to give A of them per frame.

    Parameters
    ----------
    emitters_per_frame, on_time_frames, flux_photons
        (S,) per movie: mean number of emitters that touch a frame, mean on-time, mean
        photons per frame while on.
    flux_relative_sd
        SD of the flux between emitters, relative to its mean.
    n_frames
        Length of each movie; frames 0 .. n_frames - 1 are stationary.
    """
    span = n_frames + HISTORY * on_time_frames
    counts = rng.poisson(emitters_per_frame * span / (on_time_frames + 1.0))
    sample = np.repeat(np.arange(counts.shape[0]), counts)
    tau = on_time_frames[sample]
    start = rng.random(sample.shape[0]) * span[sample] - HISTORY * tau
    on_time = rng.exponential(1.0, sample.shape[0]) * tau
    spread = rng.standard_normal(sample.shape[0]) * flux_relative_sd
    flux = flux_photons[sample] * np.maximum(1.0 + spread, 0.05)
    return Blinks(sample, start, on_time, flux)


def bin_to_frames(
    start: Array, on_time: Array, flux: Array
) -> tuple[Array, Array, Array]:
    """Photons of each emitter in each frame that it touches.

    Parameters
    ----------
    start, on_time, flux
        (E,) in frames, frames and photons per frame.

    Returns
    -------
    tuple
        (emitter (M,), frame (M,), photons (M,)), sorted by emitter, then frame.
    """
    xp = array_namespace(start)
    end = start + on_time
    first = xp.floor(start)
    count = _whole(xp, xp.floor(end) - first + 1)
    # Each emitter's number, as often as it touches frames.
    repeat = xp.repeat if xp is np else xp.repeat_interleave
    emitter = repeat(xp.cumsum(xp.ones_like(count), 0) - 1, count)
    begin = xp.cumsum(count, 0) - count
    place = xp.cumsum(xp.ones_like(emitter), 0) - 1 - begin[emitter]
    frame = first[emitter] + place
    low = xp.maximum(start[emitter], frame)
    high = xp.minimum(end[emitter], frame + 1)
    photons = flux[emitter] * xp.clip(high - low, 0, None)
    return emitter, _whole(xp, frame), photons


def _whole(xp: Any, value: Array) -> Array:
    """Whole numbers as int64."""
    return value.astype(np.int64) if xp is np else value.to(xp.int64)
