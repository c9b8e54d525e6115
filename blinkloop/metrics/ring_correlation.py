"""Resolution of a picture made of localizations: Fourier ring correlation.

The localizations are dealt out to two halves, each half is drawn, and the pictures are
correlated ring by ring in Fourier space. The resolution is one over the frequency at
which the correlation falls below 1/7 (Nieuwenhuizen et al. 2013,
doi:10.1038/nmeth.2448; Banterle et al. 2013, doi:10.1016/j.jsb.2013.05.004).

Design notes
------------
* Whole blocks of frames are dealt out, not single localizations: an emitter that is on
  in several frames would otherwise be in both halves with one error, and the picture
  would look better than it is.
* Fields larger than a tile are cut, and the fullest tiles taken; sums over rings are
  added up over them.
* A curve counts only when it begins above chance: without structure the first rings,
  which hold few numbers, cross 1/7 somewhere.
* NumPy alone; knows no table and no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = ["THRESHOLD", "RingCorrelation", "ring_correlation"]

Floats = npt.NDArray[np.float64]

THRESHOLD = 1 / 7
_TILE_PX = 1024
_MOST_TILES = 50
_LEAST = 100
"""Localizations: of fewer no curve is made."""
_EDGE = 0.125
"""Share of a tile's side over which the window falls to zero."""
_BLOCKS, _LONGEST_BLOCK = 20, 500
_SMOOTH = 40
"""The curve is smoothed over a 40th of its rings on either side."""
_CHANCE = 3.0
"""Standard deviations of the correlation of nothing with nothing."""


@dataclass(frozen=True, slots=True)
class RingCorrelation:
    """What `ring_correlation` found.

    Parameters
    ----------
    resolution_nm
        Mean over the splits; NaN when the curve does not cross 1/7 in any.
    sd_nm
        Standard deviation over the splits: of the dealing out, not of the sample.
    frequency_per_nm, correlation
        (K,) the curve, mean over the splits, smoothed.
    localizations
        Those that were drawn.
    frames_per_block
        Frames that stay together.
    """

    resolution_nm: float
    sd_nm: float
    frequency_per_nm: Floats
    correlation: Floats
    localizations: int
    frames_per_block: int


def ring_correlation(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    frame: npt.ArrayLike,
    *,
    pixel_nm: float = 5.0,
    frames_per_block: int | None = None,
    splits: int = 5,
    seed: int = 0,
) -> RingCorrelation:
    """Fourier ring correlation of localizations.

    Parameters
    ----------
    x_nm, y_nm
        (N,) positions; those that are not finite are left out.
    frame
        (N,) frame numbers.
    pixel_nm
        Pixel of the pictures; resolutions below four of them cannot be trusted.
    frames_per_block
        Frames that stay in one half; None: a twentieth of the movie, at most 500.
    splits
        How often the blocks are dealt out at random.
    seed
        Of the dealing out.

    Raises
    ------
    InputError
        Too few localizations or frames, or a parameter that cannot be used.
    """
    x, y, block, frames_per_block = _prepare(x_nm, y_nm, frame, frames_per_block)
    if not (math.isfinite(pixel_nm) and pixel_nm > 0):
        raise InputError(f"FRC: the pixel must be positive, got {pixel_nm} nm")
    if splits < 1:
        raise InputError(f"FRC: needs at least one split, got {splits}")
    x_px, y_px = (x - x.min()) / pixel_nm, (y - y.min()) / pixel_nm
    blocks, block = np.unique(block, return_inverse=True)
    rng = np.random.default_rng(seed)
    curves, crossings = [], []
    for _ in range(splits):
        side = np.zeros(len(blocks), bool)
        side[rng.permutation(len(blocks))[: len(blocks) // 2]] = True
        curve, length_px = _curve(x_px, y_px, side[block])
        curve = _smooth(curve)
        curves.append(curve)
        crossings.append(_crossing(curve) / length_px / pixel_nm)
    found = 1 / np.array([c for c in crossings if math.isfinite(c)])
    return RingCorrelation(
        resolution_nm=float(found.mean()) if found.size else math.nan,
        sd_nm=float(found.std(ddof=1)) if found.size > 1 else math.nan,
        frequency_per_nm=np.arange(len(curves[0])) / length_px / pixel_nm,
        correlation=np.mean(curves, axis=0),
        localizations=len(x),
        frames_per_block=frames_per_block,
    )


def _prepare(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    frame: npt.ArrayLike,
    frames_per_block: int | None,
) -> tuple[Floats, Floats, npt.NDArray[np.int64], int]:
    """Finite localizations and the block of each."""
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    numbers = np.asarray(frame, np.int64)
    if x.ndim != 1 or not x.shape == y.shape == numbers.shape:
        raise InputError(
            f"FRC: x, y and frame must be lists of one length, got {x.shape}, "
            f"{y.shape} and {numbers.shape}"
        )
    keep = np.isfinite(x) & np.isfinite(y)
    x, y, numbers = x[keep], y[keep], numbers[keep]
    if len(x) < _LEAST:
        raise InputError(
            f"FRC: {len(x)} localizations are too few for a resolution (at least "
            f"{_LEAST}); take more frames"
        )
    span = int(numbers.max() - numbers.min()) + 1
    if frames_per_block is None:
        frames_per_block = min(max(span // _BLOCKS, 1), _LONGEST_BLOCK)
    if not 1 <= frames_per_block <= span // 2:
        raise InputError(
            f"FRC: blocks of {frames_per_block} frames do not make two halves of "
            f"{span} frames; take shorter blocks or more frames"
        )
    return x, y, (numbers - numbers.min()) // frames_per_block, frames_per_block


def _curve(
    x_px: Floats, y_px: Floats, second: npt.NDArray[np.bool_]
) -> tuple[Floats, int]:
    """Correlation by ring, and the length in px that one ring is a wave of."""
    columns, rows = (math.floor(float(v.max())) + 1 for v in (x_px, y_px))
    length = min(max(columns, rows), _TILE_PX)
    across = -(-columns // length)
    tile = (y_px // length).astype(np.int64) * across + (x_px // length).astype(
        np.int64
    )
    filled, counts = np.unique(tile, return_counts=True)
    fullest = filled[np.argsort(counts, kind="stable")[::-1][:_MOST_TILES]]
    rings = length // 2 + 1
    sums = np.zeros((3, rings))
    for number in fullest:
        inside = tile == number
        part = x_px[inside] % length, y_px[inside] % length, second[inside]
        sums += _ring_sums(*part, length, rings)
    power = np.sqrt(sums[1] * sums[2])
    with np.errstate(invalid="ignore", divide="ignore"):
        curve = np.where(power > 0, sums[0] / power, 0.0)
    return curve, length


def _ring_sums(
    x_px: Floats,
    y_px: Floats,
    second: npt.NDArray[np.bool_],
    length: int,
    rings: int,
) -> Floats:
    """(3, rings) Re F1 F2*, |F1|^2 and |F2|^2 of one square tile."""
    window = _window(length)
    place = y_px.astype(np.int64) * length + x_px.astype(np.int64)
    spectra = []
    for half in (~second, second):
        counts = np.bincount(place[half], minlength=length * length)
        # Without its mean, or the window's own spectrum correlates at low frequencies.
        picture = (counts - counts.mean()).astype(np.float32).reshape(length, length)
        spectra.append(np.fft.rfft2(picture * window[:, None] * window))
    first, other = spectra
    row = np.fft.fftfreq(length, 1 / length)
    column = np.arange(first.shape[1])
    ring = np.rint(np.hypot(row[:, None], column)).astype(np.int64).ravel()
    # Columns that stand for two, but for those that are their own mirror.
    twice = np.full(len(column), 2.0)
    twice[0] = 1.0
    if length % 2 == 0:
        twice[-1] = 1.0
    inside = ring < rings
    return np.stack(
        [
            np.bincount(ring[inside], (twice * v).ravel()[inside], minlength=rings)
            for v in (
                (first * other.conj()).real,
                np.abs(first) ** 2,
                np.abs(other) ** 2,
            )
        ]
    )


def _window(length: int) -> npt.NDArray[np.float32]:
    """Tukey window: flat, with half a cosine at either edge."""
    edge = max(int(_EDGE * length), 1)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window = np.ones(length, np.float32)
    window[:edge], window[length - edge :] = rise, rise[::-1]
    return window


def _smooth(curve: Floats) -> Floats:
    """Running mean, narrower at both ends so that it stays centred."""
    total = np.concatenate([[0.0], np.cumsum(curve)])
    index = np.arange(len(curve))
    half = np.minimum(len(curve) // _SMOOTH, np.minimum(index, index[::-1]))
    mean: Floats = (total[index + half + 1] - total[index - half]) / (2 * half + 1)
    return mean


def _crossing(curve: Floats) -> float:
    """Ring at which it first falls below the threshold; NaN when it does not."""
    below = np.flatnonzero(curve[1:] < THRESHOLD) + 1
    if not below.size:
        return math.nan
    after = int(below[0])
    # Ring k of half a plane holds pi k independent numbers.
    chance = _CHANCE / np.sqrt(np.pi * np.arange(1, after))
    if not (curve[1:after] > chance).any():
        return math.nan
    high, low = float(curve[after - 1]), float(curve[after])
    return after - 1 + (high - THRESHOLD) / (high - low)
