"""How long emitters stay on, from how often they are found again.

An emitter found in a frame is found again k frames later, in the same place, with a
chance that falls as exp(-k / tau): blinks have no memory, so it does not matter when
one began, how much of a frame its edges cover or how many of its frames are missed.
Other emitters nearby, fixed bright spots and structure add a chance that does not fall.
Counted for all lags up to 63 frames, the share found again is

    c(k) = A exp(-k / tau) + B,

whose tau is the mean on-time that a model of the density needs.

Design notes
------------
Knows detections, no densities and no laser. A frame costs its detections alone: a table
holds, for every pixel of the image, in which of the last 64 frames something was found
there or beside it (a bit each, shifted when it is looked at). Of images beyond 1024 x
1024 px several pixels share a place, which is one more chance that does not fall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.found_places import on_image, spread_over
from blinkloop.runtime.records import Roi

__all__ = ["OnTimeMeter", "effective_frames"]

_LAGS = np.arange(1, 64, dtype=np.uint64)
_MOST_PLACES = 2**20
"""Of the table: 1024 x 1024 px, 12 MB. A few pixels may share a place; sixteen of them
are always found to hold something at 1 emitter per um^2, and nothing is learned."""
_MOST_DETECTIONS = 200
"""So many of a frame are looked up; all of them are noted."""
_SHORTEST, _LONGEST = 1.0, 60.0
_TAU = np.geomspace(_SHORTEST, _LONGEST, 60)
_FALL = np.exp(-_LAGS.astype(np.float64) / _TAU[:, None])
"""(tau, lag)"""
_SURE = 2.0
"""Misfit beyond the least (chi-square of one blink's noise) that is still credible."""
_SPREAD = 2.0
"""Longest credible on-time over the shortest; more is no answer."""
_EVERY = 5
"""Frames between two estimates."""
_KEPT = 3000
"""Frames after which the older ones count half."""

_Floats = npt.NDArray[np.float64]


def effective_frames(n_frames: int, on_time_frames: float) -> float:
    """Number of independent frames that n consecutive frames are worth.

    The count of emitters with exponential on-time tau has the autocorrelation
    rho^j, rho = exp(-1 / tau); the mean of n frames has the variance var / n_eff with
    n_eff = n / (1 + 2 sum_j (1 - j / n) rho^j).
    """
    if n_frames < 1:
        return 0.0
    lag = np.arange(1, n_frames)
    rho = np.exp(-lag / on_time_frames)
    return float(n_frames / (1.0 + 2.0 * np.sum((1.0 - lag / n_frames) * rho)))


class OnTimeMeter:
    """Mean on-time of the emitters, learned from detections."""

    def __init__(self) -> None:
        self._noted = np.zeros(0, np.int32)
        self._make_places(1)
        self.reset()

    @property
    def frames(self) -> float | None:
        """Mean on-time in frames, 1 to 60; None as long as too little was seen."""
        return self._frames

    def reset(self) -> None:
        """Nothing is known."""
        self._roi: Roi | None = None
        self._noted.fill(-_LAGS.size - 1)
        self._last: int | None = None
        self._first = self._seen = 0
        self._again = np.zeros(_LAGS.size)
        self._tests = np.zeros(_LAGS.size)
        self._taken = 0
        self._frames: float | None = None

    def take(self, index: int, roi: Roi, x_px: _Floats, y_px: _Floats) -> float | None:
        """Detections of a frame, in pixels of the chip; `frames` after it.

        Parameters
        ----------
        index
            Number of the frame; numbers in between were not seen.
        roi
            Image that they were found in.
        x_px, y_px
            (n,) positions; those off the image are left out.
        """
        last = self._last
        if roi != self._roi or (last is not None and index <= last):
            self._make_places(roi.width * roi.height)
            self.reset()
            self._roi, last, self._first = roi, None, index
        passed = 1 if last is None else index - last
        self._last = index
        # Bit k: the frame k before this one was seen.
        self._seen = (self._seen << passed if passed < 64 else 0) & (2**64 - 1)
        x, y = on_image(roi, x_px, y_px)
        places = y.astype(np.int64) * roi.width + x.astype(np.int64)
        if places.size and self._seen:
            self._count(index, places)
        if places.size:
            self._note(index, places, roi.width)
        self._seen |= 1
        self._taken += 1
        if self._taken % _EVERY == 0:
            self._frames = self._estimate() or self._frames
        if self._taken >= 2 * _KEPT:
            self._taken //= 2
            self._again *= 0.5
            self._tests *= 0.5
        return self._frames

    def _make_places(self, pixels: int) -> None:
        """One for every pixel, as far as there are; their number is a power of 2."""
        places = min(1 << (pixels - 1).bit_length(), _MOST_PLACES)
        if places != self._noted.size:
            self._bits = np.zeros(places, np.uint64)
            self._noted = np.zeros(places, np.int32)
            self._last_place = places - 1

    def _history(self, index: int, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """(n,) bits: bit k is set when something was found there k frames ago."""
        age = index - self._first - self._noted[places]
        bits = self._bits[places] << np.minimum(age, 63).astype(np.uint64)
        return np.where(age < 64, bits, np.uint64(0))

    def _count(self, index: int, places: npt.NDArray[np.int64]) -> None:
        """Which of them were there before."""
        places = places[spread_over(places.size, _MOST_DETECTIONS)]
        bits = self._history(index, places & self._last_place)
        self._again += ((bits[:, None] >> _LAGS) & np.uint64(1)).sum(axis=0)
        self._tests += places.size * ((np.uint64(self._seen) >> _LAGS) & np.uint64(1))

    def _note(self, index: int, places: npt.NDArray[np.int64], width: int) -> None:
        """Something was found there, or beside it."""
        step = np.arange(-1, 2)
        around = (step[:, None] * width + step[None, :]).ravel()
        near = ((places[:, None] + around) & self._last_place).ravel()
        # Pixels noted twice get the same bits twice.
        self._bits[near] = self._history(index, near) | np.uint64(1)
        self._noted[near] = index - self._first

    def _estimate(self) -> float | None:
        """Least squares over all lags seen; A and B at least 0."""
        seen = self._tests > 0
        span = int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 0
        if span < 2 or not self._again.any():
            return None
        tests = np.where(seen, self._tests, 1.0)
        share = self._again / tests
        # Poisson: the variance of a share is itself over the number of tests.
        weight = np.where(seen, tests / np.maximum(share, 1.0 / tests), 0.0)
        fall, fall2 = _FALL @ weight, _FALL**2 @ weight
        total, first = weight.sum(), weight @ share
        cross, square = _FALL @ (weight * share), weight @ share**2
        determinant = np.maximum(fall2 * total - fall**2, 1e-12 * fall2 * total)
        rises = (cross * total - fall * first) / determinant
        floor = (fall2 * first - fall * cross) / determinant
        alone = floor < 0
        rises = np.maximum(np.where(alone, cross / fall2, rises), 0.0)
        floor = np.where(alone, 0.0, np.where(rises > 0, floor, first / total))
        misfit = (
            square
            - 2 * (rises * cross + floor * first)
            + rises**2 * fall2
            + 2 * rises * floor * fall
            + floor**2 * total
        )
        best = int(np.argmin(misfit))
        if rises[best] <= 0:
            return None
        tau = float(_TAU[best])
        # A blink is found again at many lags: their noise is one noise.
        credible = _TAU[misfit <= misfit[best] + _SURE * (1.0 + tau)]
        if credible[-1] > _SPREAD * credible[0]:
            return None
        return tau
