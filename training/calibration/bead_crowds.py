"""Whether the spots of a stack are beads: all of them change with z in the same way.

In a field that is full of wide PSFs, a filter that is wide enough sees many beads as
one. The lobes of a single PSF turn or move apart, each its own way; beads are copies of
each other.

Design notes: knows no PSF, and nothing of how the spots were found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop import extras

__all__ = ["copies"]

Floats = npt.NDArray[np.float64]

_COMPARED = 30
"""So many spots say it of all."""
_LAG_SHARE = 12
"""Beads may lie this part of the stack higher or lower than others."""
_ALIKE = 0.8
"""Correlation of beads whose neighbours shine in; lobes of one PSF stay below 0.5."""


def copies(
    photons_ZHW: npt.NDArray[np.floating],
    column: npt.NDArray[np.integer],
    row: npt.NDArray[np.integer],
    half: int,
) -> float:
    """Share of the spots that are like most others, at all heights; 0 of less than 3.

    Parameters
    ----------
    photons_ZHW
        (Z, H, W) photons; a constant offset does no harm.
    column, row
        (N,) places of the spots in px.
    half
        Pixels on each side of a spot that are looked at.
    """
    height, width = photons_ZHW.shape[1:]
    inside = (np.minimum(column, width - 1 - column) >= half) & (
        np.minimum(row, height - 1 - row) >= half
    )
    places = np.flatnonzero(inside)
    if len(places) < 3:
        return 0.0
    places = places[:: -(-len(places) // _COMPARED)]
    windows = np.stack(
        [_shape_of(photons_ZHW, int(column[k]), int(row[k]), half) for k in places]
    )
    alike = _likeness(windows)
    np.fill_diagonal(alike, np.nan)
    # The spot that most others are like.
    most = alike[int(np.argmax(np.nanmedian(alike, 1)))]
    return float(np.mean(most[np.isfinite(most)] > _ALIKE))


def _shape_of(
    photons_ZHW: npt.NDArray[np.floating], x: int, y: int, half: int
) -> Floats:
    """(Z, pixels) of a spot, weighted to its middle, each slice without its level."""
    ndimage = extras.require("scipy.ndimage", "Comparing beads", "train")
    part = photons_ZHW[:, y - half : y + half + 1, x - half : x + half + 1]
    smooth = ndimage.gaussian_filter(part.astype(np.float64), 0.7)
    at = np.arange(-half, half + 1)
    weight = np.exp(-2 * (at[:, None] ** 2 + at**2) / half**2)
    level = (smooth * weight).sum((1, 2), keepdims=True) / weight.sum()
    shape: Floats = ((smooth - level) * np.sqrt(weight)).reshape(len(part), -1)
    return shape


def _likeness(windows: Floats) -> Floats:
    """(N, N) correlation of spots at the best of some lags along z."""
    depth = windows.shape[1]
    most = max(depth // _LAG_SHARE, 1)
    best = np.full((len(windows), len(windows)), -1.0)
    for lag in range(-most, most + 1):
        one = windows[:, max(0, lag) : depth + min(0, lag)]
        other = windows[:, max(0, -lag) : depth + min(0, -lag)]
        power = np.sqrt(
            np.outer((one**2).sum((1, 2)), (other**2).sum((1, 2))),
        )
        shared = np.tensordot(one, other, axes=([1, 2], [1, 2]))
        best = np.maximum(best, shared / np.maximum(power, 1e-300))
    return best
