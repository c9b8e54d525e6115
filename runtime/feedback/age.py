"""How old a frame is when its result comes.

Design notes
------------
A source's clock and ours begin at unknown moments, so only differences count: the
smallest delay seen so far is called age 0. What is delayed from the first frame on is
not seen, what falls behind later is. The smallest delay may creep up by `_DRIFT`, as
two clocks never run alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["FrameAge"]

_DRIFT = 2e-4
"""Clocks of cameras and computers agree to this or better (0.7 s in an hour)."""


class FrameAge:
    """Time since a frame was taken, beyond the smallest delay seen.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget what is known of the source's clock."""
        self._least = math.inf
        self._last_frame_s = -math.inf
        self._last_s = self._clock()

    def of(self, timestamp_s: float) -> float:
        """Age in s of a frame with that timestamp, now; infinite when it has none."""
        now = self._clock()
        if not math.isfinite(timestamp_s):
            return math.inf
        delay = now - timestamp_s
        if timestamp_s < self._last_frame_s:
            self._least = delay  # the source started its clock anew
        self._least = min(self._least + _DRIFT * max(now - self._last_s, 0.0), delay)
        self._last_frame_s, self._last_s = timestamp_s, now
        return delay - self._least
