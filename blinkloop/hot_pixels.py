"""Hot pixels: single pixels of the camera that are bright all the time.

A network takes each for an emitter. What tells them apart is the light beside them: a
lens spreads the light of an emitter, also of one that never goes off, over several
pixels; a hot pixel has dark neighbours.

A pixel is hot when its temporal median stands out of its surroundings by more than the
noise of one frame could make it, while the mean of its 8 neighbours, the brightest one
left out, is raised by less than 15 % of that, and along both axes the darker one of the
two beside it by less than 10 %. A Gaussian spot of 0.6 px (SD) raises the mean by 20 %,
one of 0.8 px by 36 %, wherever its centre is. Along the border the axes tell it from a
spot whose centre lies outside. In a corner nothing does: a spot that never goes off,
within a pixel outside of it, is taken for a hot pixel.

Design notes
------------
Knows frames in ADU and nothing of cameras or models. Medians are taken only where the
darkest of the frames has a peak of a single pixel, so a search costs a few passes over
the frames. Clusters are peeled: of two or three hot pixels in a row the ends are found
first. It does not find clusters of 2 x 2 px, which look like an emitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_FRAMES", "HotPixels", "find_hot_pixels", "frames_wanted"]

LEAST_FRAMES = 5
"""With fewer frames a median is no better than its frames: nothing can be said."""

_FRAMES, _BYTES = 16, 16 << 20
_NOISES, _PATTERNS = 4.0, 6.0
_SPREAD, _SECOND, _DARKER, _BRIGHTER = 0.15, 0.5, 0.1, 1.2
_ROUNDS = 2
_SAMPLES, _AT_ONCE = 500, 4096
_SD_OF_MAD = 1.4826

_dy, _dx = (grid.ravel() for grid in np.mgrid[-2:3, -2:3])
_BESIDE = np.flatnonzero(np.maximum(abs(_dy), abs(_dx)) == 1)
_AROUND = np.flatnonzero(np.maximum(abs(_dy), abs(_dx)) == 2)
_CENTRE, _LEFT, _RIGHT, _ABOVE, _BELOW = 12, 11, 13, 7, 17

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HotPixels:
    """Hot pixels of frames of one size.

    Parameters
    ----------
    x_px, y_px
        (n,) column and row in the frame, by row and then by column.
    shape
        Height and width of the frames.
    beside
        (n, 24) flat index of the good neighbours, 3 x 3 px or else 5 x 5; -1 = none.
    """

    x_px: Ints
    y_px: Ints
    shape: tuple[int, int]
    beside: Ints

    @classmethod
    def at(cls, x_px: Any, y_px: Any, shape: tuple[int, int]) -> Self:
        """Of positions known already; those outside of the frame are left out."""
        height, width = shape
        x, y = np.asarray(x_px, np.intp).ravel(), np.asarray(y_px, np.intp).ravel()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        flat = np.unique(y[inside] * width + x[inside])
        y, x = flat // max(width, 1), flat % max(width, 1)
        rows, columns, usable = _window(y, x, shape)
        usable &= ~np.isin(rows * width + columns, flat)
        near = usable.copy()
        near[:, _AROUND] = False
        usable = np.where(near.any(1, keepdims=True), near, usable)
        beside = np.where(usable, rows * width + columns, -1)
        return cls(x, y, shape, np.delete(beside, _CENTRE, axis=1))

    def __len__(self) -> int:
        """Return the number of hot pixels."""
        return len(self.x_px)

    def repaired(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of a frame with the median of the good neighbours in hot pixels.

        Parameters
        ----------
        frame
            (H, W) of `shape`, any number type. Without hot pixels it comes back itself.
        """
        if not len(self):
            return frame
        copy = frame.copy(order="C")
        flat = copy.reshape(-1)
        known = self.beside >= 0
        count = known.sum(1)
        values = np.where(known, flat[self.beside].astype(np.float64), np.inf)
        values.sort(axis=1)
        # A frame of nothing but hot pixels has no value to take.
        some = np.flatnonzero(count)
        low = values[some, (count[some] - 1) // 2]
        middle = (low + values[some, count[some] // 2]) / 2
        if np.issubdtype(frame.dtype, np.integer):
            middle = np.rint(middle)
        flat[self.y_px[some] * self.shape[1] + self.x_px[some]] = middle
        return copy

    def near(self, reach_px: int) -> npt.NDArray[np.bool_]:
        """(H, W) pixels at most so many columns and rows from a hot one."""
        mask = np.zeros(self.shape, bool)
        for x, y in zip(self.x_px.tolist(), self.y_px.tolist(), strict=True):
            rows = slice(max(y - reach_px, 0), y + reach_px + 1)
            mask[rows, max(x - reach_px, 0) : x + reach_px + 1] = True
        return mask


def frames_wanted(frame_bytes: int) -> int:
    """How many frames to look at: 16, fewer of large ones."""
    return max(min(_FRAMES, _BYTES // max(frame_bytes, 1)), LEAST_FRAMES)


def find_hot_pixels(frames: Sequence[npt.NDArray[Any]]) -> HotPixels:
    """Hot pixels in some frames of one movie.

    Parameters
    ----------
    frames
        (H, W) each, in ADU, all of one size; some 16 are good. With fewer than
        `LEAST_FRAMES`, or less than 3 px a side, none are found.
    """
    shape = frames[0].shape if len(frames) else (0, 0)
    nothing = HotPixels.at([], [], (int(shape[0]), int(shape[1])))
    if len(frames) < LEAST_FRAMES or min(shape) < 3:
        return nothing
    frames = [_usable(frame) for frame in frames]
    hot = np.zeros(shape, bool)
    noise, limit = _levels(frames)
    # The darkest of the frames: blinking is gone, a hot pixel is still there.
    y, x = _peaks(frames, limit)
    for _ in range(_ROUNDS):
        found = [
            _is_hot(frames, y[part], x[part], hot, noise, limit)
            for part in _parts(len(y))
        ]
        if not found or not (new := np.concatenate(found)).any():
            break
        hot[y[new], x[new]] = True
        y, x = _beside(hot)
    rows, columns = np.nonzero(hot)
    return HotPixels.at(columns, rows, (int(shape[0]), int(shape[1])))


def _usable(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if np.issubdtype(frame.dtype, np.integer) or np.isfinite(frame).all():
        return frame
    finite = frame[np.isfinite(frame)]
    low, middle, high = np.quantile(finite, [0, 0.5, 1]) if len(finite) else (0, 0, 0)
    usable = np.nan_to_num(frame, nan=middle, posinf=high, neginf=low)
    return np.asarray(usable)


def _beside(hot: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Rows and columns of the pixels beside hot ones."""
    at = np.nonzero(hot)
    window = _window(at[0], at[1], hot.shape)
    rows, columns, inside = (part[:, _BESIDE] for part in window)
    near = np.zeros_like(hot)
    near[rows[inside], columns[inside]] = True
    y, x = np.nonzero(near & ~hot)
    return y, x


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE)]


def _window(
    y: Ints, x: Ints, shape: tuple[int, ...]
) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """(n, 25) rows and columns of 5 x 5 px, clipped, and which lie in the frame."""
    rows, columns = y[:, None] + _dy, x[:, None] + _dx
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    rows, columns = rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)
    return rows, columns, inside


def _medians(
    frames: Sequence[npt.NDArray[Any]], y: Ints, x: Ints, hot: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """(n, 25) temporal median and SD (from the MAD) around; NaN = no pixel."""
    rows, columns, usable = _window(y, x, hot.shape)
    usable &= ~hot[rows, columns]
    values = np.stack([frame[rows, columns] for frame in frames]).astype(np.float64)
    median = np.median(values, axis=0)
    spread = _SD_OF_MAD * np.median(np.abs(values - median), axis=0)
    return np.where(usable, median, np.nan), np.where(usable, spread, np.nan)


def _levels(frames: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    """Typical noise of one frame, and the least height of a hot pixel, ADU."""
    height, width = frames[0].shape
    step = max(1, round(np.sqrt(height * width / _SAMPLES)))
    y, x = (grid.ravel() for grid in np.mgrid[0:height:step, 0:width:step])
    median, spread = _medians(frames, y, x, np.zeros((height, width), bool))
    beside = median[:, _CENTRE] - np.nanmean(median[:, _BESIDE], axis=1)
    pattern = _SD_OF_MAD * float(np.median(np.abs(beside - np.median(beside))))
    noise = float(np.median(spread[:, _CENTRE]))
    # Steps of 1 ADU are no noise but no height either.
    least = 1.0 if np.issubdtype(frames[0].dtype, np.integer) else 0.0
    return noise, max(_PATTERNS * pattern, _NOISES * noise / 2, least)


def _peaks(frames: Sequence[npt.NDArray[Any]], height: float) -> tuple[Ints, Ints]:
    """Rows and columns where one pixel stands out along both axes."""
    low = frames[0].astype(np.float32)
    for frame in frames[1:]:
        np.minimum(low, frame, out=low)
    peak = np.ones(low.shape, bool)
    for image, found in ((low, peak), (low.T, peak.T)):
        # The darker one of the two beside it; at the border there is one.
        darker = np.minimum(image[:-2], image[2:])
        found[1:-1] &= image[1:-1] - darker > height
        found[0] &= image[0] - image[1] > height
        found[-1] &= image[-1] - image[-2] > height
    rows, columns = np.nonzero(peak)
    return rows, columns


def _is_hot(
    frames: Sequence[npt.NDArray[Any]],
    y: Ints,
    x: Ints,
    hot: npt.NDArray[np.bool_],
    noise: float,
    limit: float,
) -> npt.NDArray[np.bool_]:
    """(n,) the rule of this module, for positions not in `hot`."""
    median, spread = _medians(frames, y, x, hot)
    beside = np.sort(median[:, _BESIDE], axis=1)  # NaN last
    count = np.isfinite(beside).sum(1)
    enough = count >= 2
    order = np.arange(beside.shape[1])
    # Without the brightest: it may be hot itself.
    others = np.where(order < (count - 1)[:, None], beside, 0.0).sum(1)
    others /= np.maximum(count - 1, 1)
    second = beside[np.arange(len(beside)), np.maximum(count - 2, 0)]
    around = np.sort(median[:, np.r_[_BESIDE, _AROUND]], axis=1)
    quarter = np.isfinite(around).sum(1) // 4
    level = around[np.arange(len(around)), quarter]
    above = median[:, _CENTRE] - level
    spread = np.sort(spread[:, _BESIDE], axis=1)
    local = spread[np.arange(len(spread)), count // 2]
    # A comparison with NaN is False.
    found = above > np.maximum(_NOISES * np.fmax(local, noise / 2), limit)
    # On the slope of a spot outside of the border the next pixel is brighter still.
    brightest = beside[np.arange(len(beside)), np.maximum(count - 1, 0)]
    found &= brightest - level < _BRIGHTER * above
    found &= others - level < _SPREAD * above
    for one, other in ((_LEFT, _RIGHT), (_ABOVE, _BELOW)):
        darker = np.fmin(median[:, one], median[:, other])
        found &= ~(darker - level >= _DARKER * above)
    found &= second - level < _SECOND * above
    return np.asarray(found & enough, bool)
