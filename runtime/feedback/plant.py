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
from collections.abc import Sequence

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

    A later answer is the same answer later, so one history serves every delay.

    Parameters
    ----------
    on_time_frames
        Mean on-time tau.
    longest_delay_frames
        Largest delay that is asked for: frames between a command and the first frame
        that shows it.
    """

    def __init__(self, on_time_frames: float, longest_delay_frames: int) -> None:
        self.set_on_time(on_time_frames)
        self._longest = longest_delay_frames
        self._reach = _KEPT + longest_delay_frames
        self.restart(0.0)

    def set_on_time(self, frames: float) -> None:
        """Of the emitters from the next frame on."""
        self._stay = math.exp(-1.0 / frames)

    def restart(self, power: float) -> None:
        """The sample has long been under this power; frames may count anew."""
        self._power = self._level = power
        self._index: int | None = None
        self._commanded: float | None = None
        self._seen = 0
        # Before the first frame: what it would have been, as far as a delay reaches.
        self._levels: list[float] = [power] * self._longest

    def command(self, power: float) -> None:
        """Note a power applied now, after the last frame seen."""
        self._commanded = power

    def advance(self, index: int) -> None:
        """A frame of this number is seen; frames in between passed unseen."""
        last = self._index
        if last is not None and index <= last:
            self.restart(self._power if self._commanded is None else self._commanded)
            last = None
        first = index if last is None else last + 1
        if first < index:
            for _ in range(max(first, index - self._reach), index):
                self._add()
        if self._commanded is not None:
            # Counted from the first frame that was not in hand when it was applied.
            self._power, self._commanded = self._commanded, None
        self._add()
        self._index = index

    def mean(self, n_frames: int, delay_frames: int = 0) -> float:
        """Mean over the last n frames (fewer, if there are not as many yet)."""
        return self.means(n_frames, (delay_frames,))[0]

    def means(self, n_frames: int, delays_frames: Sequence[int]) -> list[float]:
        """`mean` under each delay, 0 to the longest."""
        n = min(max(n_frames, 1), self._seen, _KEPT)
        if n == 0:
            return [self._level] * len(delays_frames)
        levels, end = self._levels, len(self._levels)
        # All are positive: an exact sum would cost ten times as much for nothing.
        return [sum(levels[end - d - n : end - d]) / n for d in delays_frames]

    def _add(self) -> None:
        stay, levels = self._stay, self._levels
        self._level = level = self._level * stay + self._power * (1.0 - stay)
        levels.append(level)
        self._seen += 1
        if len(levels) > 2 * self._reach:
            del levels[: -self._reach]


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

    __slots__ = (
        "_drift",
        "_gain",
        "_learning",
        "_most",
        "_steepest",
        "_taken",
        "_update_frames",
        "_value",
    )

    def __init__(self, gain: float, drift_share: float, update_frames: int) -> None:
        self._gain, self._most = gain, max(gain, _LARGEST_GAIN)
        self._learning = drift_share * gain**2
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
        before = self._value
        if before is None:
            self._value = value
            return 0.0
        # Comparisons instead of min and max: this runs once for every delay.
        gain = self._gain * scale
        if gain > self._most:
            gain = self._most
        # The first values are averaged: none of them is better than the others.
        self._taken = taken = self._taken + 1
        if gain * taken < 1.0:
            gain = 1.0 / taken
        drift = self._drift
        expected = before + drift
        surprise = value - expected
        noise = _NOISE * sd
        if -noise <= surprise <= noise:
            self._value = expected + gain * surprise
            drift += self._learning * surprise
            steepest = self._steepest
            if drift > steepest:
                drift = steepest
            elif drift < -steepest:
                drift = -steepest
            self._drift = drift
        else:
            # What noise cannot be is a step (another place, another laser): believed
            # at once, and no sign of a drift.
            if surprise < 0:
                noise = -noise
            self._value = expected + gain * noise + (surprise - noise)
            self._taken = 1
        return surprise

    def ahead(self, delay_frames: float) -> float:
        """Expected ln gain while the next command holds.

        From the middle of the last average to that of the next update.
        """
        updates = delay_frames / self._update_frames + 1.0
        return (self._value or 0.0) + updates * self._drift
