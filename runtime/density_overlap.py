"""Emitters hidden by others nearby: what a count misses on a structured sample.

Two emitters that are on in the same frame closer than the network can tell apart are
counted as about one. A network trained on emitters that lie anywhere allows for the
pairs that chance gives there, so its count is right on an even sample and too low on
lines, rings and clusters. How often that happens can be seen: **detections of other
frames** show where the emitters sit, without hiding each other. With s the share of
them that lies around a detection (weighed by how surely an emitter there would be
hidden) and N the emitters counted per frame, q = s N more are expected in the same
place at the same time. Emitters come as Poisson does, and one that finds others there
is seen with the chance that none of them hides it,

    phi(q) = (1 - c q)^(1 / c),    truth / seen = F(q) = (1 / q) integral of 1 / phi,

random sequential adsorption (Evans 1993, doi:10.1103/RevModPhys.65.1281) to the second
order in q: phi = 1 - q + (1 - c) q^2 / 2. Of emitters in one spot only one is ever
seen, c = 1 and F = -ln(1 - q) / q, the dead time of photon counters (Feller 1948). Of
emitters spread evenly two that both hide a third may be seen together: c = 1 / 3 for
emitters that hide each other with exp(-d^2 / 2 w^2). In between, in clusters with an SD
of s, c = (1 + a) / (1 + 3 a) with a = (s / w)^2; the mean of exp(-d^2 / w^2) over that
of exp(-d^2 / 2 w^2), both from the detections, is (1 + 2 a) / (1 + 4 a).

Some places are denser than others, and F bends upwards: its mean is taken over the
spread of s among the detections (which meet a place as often as it is seen, as the sum
of the truth asks). The same for emitters spread evenly over the neighbourhood (24 px)
is what the network allows for; the count is multiplied by the ratio of the two, never
by less than 1: a laser is never driven higher by this.

A fiducial bead is found in every frame, too, and hides nothing but itself. Where there
is exactly one in (nearly) all frames it is taken for one and counts as it is. (More
than three emitters on at a time in one spot look the same: nothing tells how many.)

Design notes
------------
Places are told by detections alone, as a share: neither the density of the moment nor
the network's missed emitters matter. Emitters stay on for some frames, so detections
enter the map of places only `lag` frames later, and one frame per on-time is enough.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.found_places import on_image, spread_over
from blinkloop.runtime.records import Roi

__all__ = ["OVERLAP_PX", "Overlap", "piled_up"]

OVERLAP_PX = 1.5
"""An emitter at distance d from another is hidden with exp(-d^2 / (2 OVERLAP_PX^2)):
mean of three bundled networks on even samples (1.34 to 1.61; docs/closed-loop.md),
close to the SD of a spot."""

_LARGEST_FACTOR = 2.0
_LARGEST_SHARE = 0.9
_EVEN = 1 / 3
"""c of emitters spread evenly."""
_BINS_PER_PX = 2
_NEIGHBOURHOOD_PX = 8
"""Three of them across: what is even over 24 px the network allows for."""
_LAG_ON_TIMES = 5.0
_KEPT = 1000
"""Frames in the map after which the older ones count half."""
_FIXED = 0.05
"""A fixed spot may lack, or have too many, in so many of the frames."""
_SPOT_BINS = 2
"""To either side: the same spot, whatever its localizations scatter by."""
_FIRST = 5
"""Frames in the map before it says anything."""
_MOST_DETECTIONS = 100
_ONE = np.float32(1)

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]


def piled_up(seen: float, together: float = 1.0) -> float:
    """Emitters per emitter counted, when `seen` of them are expected in one place.

    Parameters
    ----------
    seen
        q; 1 comes out for none.
    together
        c: 1 = all in one spot, 1/3 = spread evenly. Above c q = 0.9 that value's.
    """
    c = together
    q = min(max(seen, 0.0), _LARGEST_SHARE / c)
    if q < 1e-9:
        return 1.0
    if c == 1:
        return -math.log1p(-q) / q
    return math.expm1((1 - 1 / c) * math.log1p(-c * q)) / ((1 - c) * q)


def _mean_piled_up(mean: float, variance: float, together: float) -> float:
    """Mean of `piled_up` over places of which some are denser than others.

    Places of two kinds have that mean and variance: one SD below and above, or, where
    an SD is more than the mean, some without any and the others the denser for it.
    """
    if not (mean > 0 and variance > 0):
        return piled_up(mean, together)
    below = min(math.sqrt(variance), mean)
    above = variance / below
    share = below / (below + above)
    low, high = (piled_up(q, together) for q in (mean - below, mean + above))
    return share * high + (1 - share) * low


def _together(narrow: float, wide: float) -> float:
    """How close the emitters of a place sit: c of `piled_up`.

    Parameters
    ----------
    narrow, wide
        Sums over pairs of exp(-d^2 / w^2) and of exp(-d^2 / 2 w^2).
    """
    ratio = narrow / wide if wide > 0 else 1.0
    if ratio <= 0.5:
        return _EVEN
    a = max(1 - ratio, 0.0) / (4 * ratio - 2)
    return (1 + a) / (1 + 3 * a)


class Overlap:
    """Learns from detections by how much the counts are too low.

    Parameters
    ----------
    on_time_frames
        Mean on-time of the emitters, frames.
    overlap_px
        How far an emitter hides others (see `OVERLAP_PX`), px.
    """

    def __init__(self, on_time_frames: float, overlap_px: float = OVERLAP_PX) -> None:
        self.set_on_time(on_time_frames)
        reach = math.ceil(2.5 * overlap_px * _BINS_PER_PX)
        step = np.arange(-reach, reach + 1)
        d2 = step[:, None] ** 2 + step[None, :] ** 2
        wide = np.exp(-d2 / (2 * (overlap_px * _BINS_PER_PX) ** 2)).ravel()
        spot = (np.abs(step) <= _SPOT_BINS).astype(np.float64)
        # exp(-d^2 / 2 w^2) and narrower; the spot itself
        self._kernels = np.stack([wide, wide**2, np.outer(spot, spot).ravel()], 1)
        self._hidden_px = float(wide.sum()) / _BINS_PER_PX**2
        self._reach, self._steps = reach, step
        self._roi: Roi | None = None
        self.reset()

    def set_on_time(self, frames: float) -> None:
        """From now on; what is known stays."""
        self._every = max(round(frames), 1)
        self._lag = max(math.ceil(_LAG_ON_TIMES * frames), 1)

    def reset(self) -> None:
        """Nothing is known of the sample."""
        self._roi = None
        self._waiting: deque[tuple[int, _Ints, _Ints]] = deque()
        self._last: int | None = None
        self._frames = self._total = 0.0
        self._near = self._near_squared = self._narrow = 0.0
        self._around = self._tests = 0.0
        self._fixed = self._looked = 0.0

    def take(self, index: int, roi: Roi, x_px: _Floats, y_px: _Floats) -> None:
        """Detections of a frame, in pixels of the chip.

        Parameters
        ----------
        index
            Number of the frame; frames in between are skipped.
        roi
            Image that they were found in.
        x_px, y_px
            (n,) positions; those off the image are left out.
        """
        last = self._last
        if last is not None and 0 <= index - last < self._every:
            return
        if roi != self._roi or (last is not None and index < last):
            self._start(roi)
        self._last = index
        x, y = on_image(roi, x_px, y_px)
        while self._waiting and self._waiting[0][0] <= index - self._lag:
            self._place(*self._waiting.popleft()[1:])
        fine, coarse = self._fine_of(x, y), self._coarse_of(x, y)
        # Frames without any detection place nothing: a dark start is no map yet.
        if self._frames >= _FIRST and self._total > 0 and x.size:
            self._compare(fine, coarse)
        self._waiting.append((index, fine, coarse))

    def _compare(self, fine: _Ints, coarse: _Ints) -> None:
        """How many others are found where these are."""
        some = spread_over(fine.size, _MOST_DETECTIONS)
        share = fine[some].size / fine.size
        fine, coarse = fine[some], coarse[some]
        places = self._map.take(fine[:, None] + self._footprint) @ self._kernels
        once = places[:, 2] <= (1 + _FIXED) * self._frames
        fixed = once & (self._met.take(fine) >= (1 - _FIXED) * self._frames)
        self._fixed += float(np.count_nonzero(fixed)) / share
        self._looked += 1.0
        near, narrowly, _ = places[~fixed].T
        narrow = float(narrowly.sum())
        self._near += float(near.sum())
        self._narrow += narrow
        # Less its own terms a square holds no noise of the map: they are the sum of
        # the kernel's squares, which is the narrow kernel (a halved map has less of
        # them, but then they no longer matter).
        self._near_squared += (float(near @ near) - narrow) / self._total
        self._around += float(self._coarse.take(coarse[~fixed]).sum())
        self._tests += near.size * self._total

    def factor(self, count: float) -> float:
        """Emitters per emitter counted; at least 1, at most 2.

        Parameters
        ----------
        count
            Emitters counted per frame, over the whole image.
        """
        if self._tests <= 0 or not count > 0:
            return 1.0
        per_test = count / self._tests
        near, around = self._near * per_test, self._around * per_test
        variance = max(self._near_squared * per_test * count - near**2, 0.0)
        together = _together(self._narrow, self._near)
        ratio = _mean_piled_up(near, variance, together) / piled_up(around, _EVEN)
        blinking = max(1.0 - self._fixed / self._looked / count, 0.0)
        return 1.0 + blinking * (min(max(ratio, 1.0), _LARGEST_FACTOR) - 1.0)

    def _start(self, roi: Roi) -> None:
        self.reset()
        self._roi = roi
        r = self._reach
        height, width = roi.height * _BINS_PER_PX, roi.width * _BINS_PER_PX
        # A margin all around, so that what reaches over the edge needs no rule.
        self._width = width + 2 * r
        # Counts, exact in small types: 2048 x 2048 px have 17 million bins.
        self._map = np.zeros((height + 2 * r) * self._width, np.float32)
        around = self._steps[:, None] * self._width + self._steps[None, :]
        self._footprint = around.ravel()
        # Frames in which something was found in the spot, however often.
        self._met = np.zeros(self._map.size, np.uint16)
        spot = np.abs(self._steps) <= _SPOT_BINS
        self._spot = around[spot][:, spot].ravel()
        size = _NEIGHBOURHOOD_PX
        rows, columns = -(-roi.height // size), -(-roi.width // size)
        self._columns = columns + 2
        self._coarse = np.zeros((rows + 2) * self._columns)
        step = np.arange(-1, 2)
        self._nine = (step[:, None] * self._columns + step[None, :]).ravel()
        # Pixels of the image within the nine.
        tall = np.array([_within(k, roi.height) for k in range(-1, rows + 1)])
        wide = np.array([_within(k, roi.width) for k in range(-1, columns + 1)])
        px = np.maximum(np.outer(tall, wide).ravel(), 1.0)
        self._per_px = self._hidden_px / px

    def _fine_of(self, x: _Floats, y: _Floats) -> _Ints:
        column = (x * _BINS_PER_PX).astype(np.intp) + self._reach
        row = (y * _BINS_PER_PX).astype(np.intp) + self._reach
        return row * self._width + column

    def _coarse_of(self, x: _Floats, y: _Floats) -> _Ints:
        column = (x // _NEIGHBOURHOOD_PX).astype(np.intp) + 1
        row = (y // _NEIGHBOURHOOD_PX).astype(np.intp) + 1
        return row * self._columns + column

    def _place(self, fine: _Ints, coarse: _Ints) -> None:
        """A frame enters the map."""
        if self._frames >= 2 * _KEPT:
            self._map *= 0.5
            self._coarse *= 0.5
            self._frames, self._total = 0.5 * self._frames, 0.5 * self._total
            self._near, self._narrow = 0.25 * self._near, 0.25 * self._narrow
            self._near_squared *= 0.25
            self._around, self._tests = 0.25 * self._around, 0.25 * self._tests
            self._met //= 2  # at most 2000; half a frame less is nothing of 0.95
            self._fixed, self._looked = 0.5 * self._fixed, 0.5 * self._looked
        np.add.at(self._map, fine, _ONE)  # of another type it is slow
        self._met[fine[:, None] + self._spot] += 1  # once, if several are there
        # Divided by the area where it is looked up, so that nine sums are a density.
        np.add.at(
            self._coarse,
            (coarse[:, None] + self._nine).ravel(),
            self._per_px[coarse[:, None] + self._nine].ravel(),
        )
        self._frames += 1
        self._total += fine.size


def _within(block: int, length: int) -> float:
    """Pixels of an axis within the three blocks around that one."""
    size = _NEIGHBOURHOOD_PX
    low, high = max((block - 1) * size, 0), min((block + 2) * size, length)
    return float(max(high - low, 0))
