"""How many frames the next call of the network takes.

A camera is followed frame by frame: where a call of several frames takes as long as the
single ones together, as on a processor, the first of them would only wait for the last.
Where it is faster (a graphics card), or once so many wait that the hand-over may
overflow, all that wait are taken together. A movie that waits is always taken so.

Design notes: knows numbers of frames and times, nothing of frames or networks. Which is
faster is learned from the calls made.
"""

from __future__ import annotations

import math

__all__ = ["CallLength"]

_LEAST = 4
"""When the analysis is behind each call begins after a gap: with fewer frames most
would have no neighbours for context, and flushing would cost as much as they do."""
_LATE_CALLS = 2
_LATE_SHARE = 4
_WORTH = 0.8
_NEW = 0.25


class CallLength:
    """Learns from call to call.

    Parameters
    ----------
    most
        Frames a call may take.
    call_s
        Seconds a call of several frames may take.
    capacity
        Frames the hand-over holds.
    waits
        True: the source waits for the analysis, so nothing is late.
    """

    def __init__(
        self, most: int, call_s: float, capacity: int, *, waits: bool = False
    ) -> None:
        self._most, self._call_s = most, call_s
        self._late = -1 if waits else min(_LATE_CALLS * most, capacity // _LATE_SHARE)
        self._size = most
        self._single_s = math.nan
        self._joint_s = math.nan

    def frames(self, waiting: int) -> int:
        """Frames to take at most.

        Parameters
        ----------
        waiting
            Frames that wait.
        """
        # A comparison with NaN is False: what was never tried is not faster.
        if waiting > self._late or self._joint_s < _WORTH * self._single_s:
            return self._size
        return 1

    def took(self, frames: int, seconds: float) -> None:
        """Learn from a call of that many frames."""
        if frames < 1 or not seconds > 0:
            return
        per_frame_s = max(seconds, 1e-9) / frames
        if frames == 1:
            self._single_s = _follow(self._single_s, per_frame_s)
        else:
            self._joint_s = _follow(self._joint_s, per_frame_s)
        # Doubled at most: the first call is slow for reasons of its own.
        wanted = int(min(self._call_s / per_frame_s, 2 * self._size))
        self._size = min(self._most, max(_LEAST, wanted))


def _follow(mean: float, value: float) -> float:
    return value if math.isnan(mean) else mean + _NEW * (value - mean)
