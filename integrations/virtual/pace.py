"""A drawn camera's frames on the clock.

Design notes: knows durations only. The camera thread draws in Python, beside the thread
that fetches the frame just finished: drawn at once, the next one kept Python's lock
from it for up to 2 ms. A real camera does no such thing, so drawing begins a little
later, while the network computes, where there is time for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]

_BUFFER_S = 0.1
"""So late it may be and catch up; what is more is not made up for."""
_FETCHED_S = 0.001
"""A frame is fetched and handed over within this time."""


class Pace:
    """When to draw and when to hand out.

    Parameters
    ----------
    clock, sleep
        Of the computer; others in tests.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._due_s = clock()
        self._spare_s = self._paused_s = 0.0
        self.late_s = 0.0
        """How far the clock was held up in all, s."""

    def before_drawing(self) -> None:
        """Leave the processor to whoever fetches the frame before, if time allows."""
        self._paused_s = min(_FETCHED_S, 0.5 * self._spare_s)
        if self._paused_s > 0:
            self._sleep(self._paused_s)

    def until_due(self, exposure_s: float) -> None:
        """Wait for the end of the exposure; too slow, the clock waits instead."""
        self._due_s += exposure_s
        early_s = self._due_s - self._clock()
        # Without the pause: it must not shorten itself.
        self._spare_s = max(early_s + self._paused_s, 0.0)
        if early_s > 0:
            self._sleep(early_s)
        elif -early_s > _BUFFER_S:
            missed_s = -early_s - _BUFFER_S
            self._due_s += missed_s
            self.late_s += missed_s
