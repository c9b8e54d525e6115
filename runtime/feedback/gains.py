"""The gain of the sample and how it drifts, under each delay in question.

Followed is ln of density per power; its drift is bleaching. An alpha-beta filter for
each delay, the steady-state Kalman filter of a level with a slope.

Design notes
------------
Knows numbers only: what a delay means is the caller's. One object for all delays with
plain lists: an update is waited for, and a dozen objects, or arrays of a dozen numbers,
cost more than the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["GainFilters"]

_LARGEST_GAIN = 0.8
_NOISE = 3.0
"""In SD: what is more is no noise."""
_STEEPEST = 3e-3
"""Largest drift of ln gain per frame that is learned: twice what is left of a sample
of which 90 % bleach in 1500 frames."""


class GainFilters:
    """ln of density per power, and how it drifts; one filter per delay.

    Parameters
    ----------
    gains
        Share of a new value that is believed, 0 to 1, of each filter.
    drift_share
        Gain of the drift, relative to gain^2.
    update_frames
        Frames between two values.
    """

    def __init__(
        self, gains: Sequence[float], drift_share: float, update_frames: int
    ) -> None:
        self._settings = [
            (gain, max(gain, _LARGEST_GAIN), drift_share * gain**2) for gain in gains
        ]
        self._update_frames = update_frames
        self._steepest = _STEEPEST * update_frames
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        count = len(self._settings)
        self._known = False
        self._values = [0.0] * count
        self._drifts = [0.0] * count
        self._taken = [1] * count

    @property
    def drifts_per_frame(self) -> list[float]:
        """Of each ln gain; negative while emitters bleach."""
        return [drift / self._update_frames for drift in self._drifts]

    def take(
        self, measured: Sequence[float], sd: float, scale: float = 1.0
    ) -> list[float]:
        """A measured ln gain for each filter.

        Parameters
        ----------
        measured, sd
            Measured, and the SD of all.
        scale
            Factor for the filters' gain.

        Returns
        -------
        list of float
            By how much each differs from what was expected.
        """
        if not self._known:
            self._known = True
            self._values = list(measured)
            return [0.0] * len(measured)
        noise, steepest = _NOISE * sd, self._steepest
        values, drifts, counts, surprises = [], [], [], []
        # Comparisons instead of min and max: this runs once for every delay.
        for value, before, drift, taken, (gain, most, learning) in zip(
            measured,
            self._values,
            self._drifts,
            self._taken,
            self._settings,
            strict=True,
        ):
            share, count, slope = gain * scale, taken + 1, drift
            if share > most:
                share = most
            # The first values are averaged: none of them is better than the others.
            if share * count < 1.0:
                share = 1.0 / count
            expected = before + drift
            surprise = value - expected
            if -noise <= surprise <= noise:
                now = expected + share * surprise
                slope += learning * surprise
                if slope > steepest:
                    slope = steepest
                elif slope < -steepest:
                    slope = -steepest
            else:
                # What noise cannot be is a step (another place, another laser):
                # believed at once, and no sign of a drift.
                edge = noise if surprise > 0 else -noise
                now = expected + share * edge + (surprise - edge)
                count = 1
            values.append(now)
            drifts.append(slope)
            counts.append(count)
            surprises.append(surprise)
        self._values, self._drifts, self._taken = values, drifts, counts
        return surprises

    def shift(self, by: Sequence[float]) -> None:
        """Each is now so much larger: the power explains it."""
        self._values = [
            value + more for value, more in zip(self._values, by, strict=True)
        ]

    def updates(self, frames: float) -> float:
        """How many drifts an answer that comes so late lies ahead.

        From the middle of the last average to that of the next update.
        """
        return frames / self._update_frames + 1.0

    def ahead(self, updates: Sequence[float]) -> list[float]:
        """Expected ln gains, each so many `updates` ahead."""
        return [
            value + many * drift
            for value, many, drift in zip(
                self._values, updates, self._drifts, strict=True
            )
        ]
