"""What the applied powers should have given: the model the controller reasons with.

Active emitters follow dn/dt = k P D(t) - n / tau. Per frame, with r the density that a
gain k D tau of 1 would give,

    r <- r exp(-1 / tau) + P (1 - exp(-1 / tau)),   P that of `delay` frames before,

so density / r *is* the gain, also while the laser moves and while its last change is
not seen yet. `GainFollower` follows ln of it and its drift, which is bleaching: an
alpha-beta filter, the steady-state Kalman filter of a level with a slope.

Design notes
------------
Knows frame numbers, powers and densities; no target, no limits, no laser.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

__all__ = ["GainFollower", "PlantModel"]

_KEPT = 4096
"""Frames of the past that are kept; longer averages see these alone."""
_LARGEST_GAIN = 0.8
_NOISE = 3.0
"""In SD: what is more is no noise."""
_STEEPEST = 3e-3
"""Largest drift of ln gain per frame that is learned: twice what is left of a sample
of which 90 % bleach in 1500 frames."""


class PlantModel:
    """Density at gain 1, frame by frame, from the powers applied.

    Parameters
    ----------
    on_time_frames
        Mean on-time tau.
    delay_frames
        Frames between a command and the first frame that shows it.
    """

    def __init__(self, on_time_frames: float, delay_frames: int) -> None:
        self._stay = math.exp(-1.0 / on_time_frames)
        self._delay = delay_frames
        self.restart(0.0)

    def restart(self, power: float) -> None:
        """The sample has long been under this power; frames may count anew."""
        self._power = self._level = power
        self._index: int | None = None
        self._commanded: float | None = None
        self._coming: deque[tuple[int, float]] = deque()
        self._levels: deque[float] = deque(maxlen=_KEPT)

    def command(self, power: float) -> None:
        """Note a power applied now, after the last frame seen."""
        self._commanded = power

    def advance(self, index: int) -> None:
        """A frame of this number is seen; frames in between passed unseen."""
        if self._index is not None and index <= self._index:
            last = self._commanded
            if last is None:
                last = self._coming[-1][1] if self._coming else self._power
            self.restart(last)
        if self._commanded is not None:
            # Counted from the first frame that was not in hand when it was applied.
            self._coming.append((index + self._delay, self._commanded))
            self._commanded = None
        first = index if self._index is None else self._index + 1
        for frame in range(max(first, index - _KEPT), index + 1):
            while self._coming and self._coming[0][0] <= frame:
                self._power = self._coming.popleft()[1]
            self._level = self._level * self._stay + self._power * (1.0 - self._stay)
            self._levels.append(self._level)
        self._index = index

    def mean(self, n_frames: int) -> float:
        """Mean over the last n frames (fewer, if there are not as many yet)."""
        n = min(max(n_frames, 1), len(self._levels))
        if n == 0:
            return self._level
        return math.fsum(islice(reversed(self._levels), n)) / n


class GainFollower:
    """ln of density per power, and how it drifts.

    Parameters
    ----------
    gain
        Share of a new value that is believed, 0 to 1.
    drift_share
        Gain of the drift, relative to gain^2.
    update_frames
        Frames between two values.
    """

    def __init__(self, gain: float, drift_share: float, update_frames: int) -> None:
        self._gain, self._share = gain, drift_share
        self._update_frames = update_frames
        self._steepest = _STEEPEST * update_frames
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        self._value: float | None = None
        self._drift = 0.0
        self._taken = 1

    @property
    def drift_per_frame(self) -> float:
        """Of ln gain; negative while emitters bleach."""
        return self._drift / self._update_frames

    def take(self, value: float, sd: float, scale: float = 1.0) -> float:
        """A measured ln gain.

        Parameters
        ----------
        value, sd
            Measured, and its SD.
        scale
            Factor for the filter's gain.

        Returns
        -------
        float
            By how much it differs from what was expected.
        """
        if self._value is None:
            self._value = value
            return 0.0
        gain = min(self._gain * scale, max(self._gain, _LARGEST_GAIN))
        # The first values are averaged: none of them is better than the others.
        self._taken += 1
        gain = max(gain, 1.0 / self._taken)
        expected = self._value + self._drift
        surprise = value - expected
        noise = min(max(surprise, -_NOISE * sd), _NOISE * sd)
        # What noise cannot be is a step (another place, another laser): believed at
        # once, and no sign of a drift.
        self._value = expected + gain * noise + (surprise - noise)
        if noise == surprise:
            drift = self._drift + self._share * self._gain**2 * surprise
            self._drift = min(max(drift, -self._steepest), self._steepest)
        else:
            self._taken = 1
        return surprise

    def ahead(self, delay_frames: float) -> float:
        """Expected ln gain while the next command holds.

        From the middle of the last average to that of the next update.
        """
        updates = delay_frames / self._update_frames + 1.0
        return (self._value or 0.0) + updates * self._drift
