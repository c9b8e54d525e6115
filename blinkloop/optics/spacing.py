"""Movies in which no emitter is near another one.

At a density at which emitters are isolated a frame holds few of them, so that a network
learns little from it about what it can be most precise about. Emitters that keep apart
are isolated and many: up to 0.55 per area of a circle of half the distance (random
sequential adsorption; Feder 1980, doi:10.1016/0022-5193(80)90358-6).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.optics.blinking import Blinks

__all__ = ["apart"]

Floats = npt.NDArray[np.float64]


def apart(
    blinks: Blinks,
    x_px: Floats,
    y_px: Floats,
    spaced: npt.NDArray[np.bool_],
    *,
    distance_px: float,
    n_frames: int,
) -> npt.NDArray[np.bool_]:
    """Which blinks stay when those too close to an earlier one are left out.

    Parameters
    ----------
    blinks
        In any order; the first ones stay.
    x_px, y_px
        (E,) positions.
    spaced
        (S,) movies whose emitters keep apart; those of the others all stay.
    distance_px
        Least distance between any two that are on in frames 0 .. n_frames - 1,
        whether at the same time or not.
    n_frames
        Length of each movie.

    Returns
    -------
    array
        (E,) bool.
    """
    seen = (blinks.start < n_frames) & (blinks.start + blinks.on_time > 0)
    kept = np.ones(x_px.shape, bool)
    for movie in np.flatnonzero(spaced):
        who = np.flatnonzero(seen & (blinks.sample == movie))
        x, y = x_px[who], y_px[who]
        square = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
        close = square < distance_px**2
        stays = np.ones(who.shape, bool)
        for one in range(1, len(who)):
            stays[one] = not (close[one, :one] & stays[:one]).any()
        kept[who] = stays
    return kept
