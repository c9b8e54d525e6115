"""Emitters that blink beside another one.

Emitters of a uniform sample are rarely closer to each other than the PSF is wide,
unless so many are on that nothing is isolated any more; those of filaments and clusters
often are. Companions bring close pairs into sparse movies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.optics.blinking import HISTORY, Blinks

__all__ = ["place_companions"]

Floats = npt.NDArray[np.float64]


def place_companions(
    rng: np.random.Generator,
    blinks: Blinks,
    x_px: Floats,
    y_px: Floats,
    *,
    fraction: float,
    distance_px: float,
    on_time_frames: Floats,
    n_frames: int,
) -> tuple[Blinks, Floats, Floats]:
    """Move some emitters, in space and time, beside others of their movie.

    How many emitters touch a frame stays as it was: a companion's time is its partner's
    plus a shift, on the circle of all times that `sample_blinks` draws from.

    Parameters
    ----------
    rng
        Chooses them, their partners, distances and times.
    blinks
        Sorted by movie, as `sample_blinks` gives them.
    x_px, y_px
        (E,) positions.
    fraction
        Share of the emitters that move.
    distance_px
        Largest distance; they are uniform in distance, not in area, so that the close
        ones, which are hard, are common. All directions alike.
    on_time_frames
        (S,) mean on-times of the movies.
    n_frames
        Length of each movie.

    Returns
    -------
    tuple
        Blinks and positions; a movie whose emitters would all move stays as it is.
    """
    movies = on_time_frames.shape[0]
    moves = rng.random(x_px.shape) < fraction
    partners = np.flatnonzero(~moves)
    count = np.bincount(blinks.sample[partners], minlength=movies)
    who = np.flatnonzero(moves & (count[blinks.sample] > 0))
    movie = blinks.sample[who]
    first = np.cumsum(count) - count
    chosen = first[movie] + np.floor(rng.random(who.shape) * count[movie]).astype(int)
    partner = partners[chosen]

    distance = distance_px * rng.random(who.shape)
    angle = 2.0 * np.pi * rng.random(who.shape)
    x, y, start = x_px.copy(), y_px.copy(), blinks.start.copy()
    x[who] = x_px[partner] + distance * np.cos(angle)
    y[who] = y_px[partner] + distance * np.sin(angle)
    # Any shift from -(own on-time) to +(the partner's) lets the two overlap.
    both = blinks.on_time[who] + blinks.on_time[partner]
    at = blinks.start[partner] - blinks.on_time[who] + both * rng.random(who.shape)
    low = -HISTORY * on_time_frames[movie]
    start[who] = low + (at - low) % (n_frames - low)
    return replace(blinks, start=start), x, y
