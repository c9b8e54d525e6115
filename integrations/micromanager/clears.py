"""Counts how often the core cleared its full ring while nobody took frames.

Design notes
------------
MMCore without stop on overflow clears a full ring and says nothing; MMCore 11 numbers
the frames from 0 again, so their numbers do not tell how many went. The ring's filling
does: it rises while nobody pops, and falls when it is cleared. A thread looks at it
several times per filling. When Python itself was too busy for that, it is found out, so
that the camera's clock decides. When the whole process stood still, its camera did not
fill the ring either: then the count is right, and the clock would be wrong.
"""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["ClearCounter"]

_LOOKS, _RELIABLE, _AWAKE = 8, 0.9, 0.2
_LEAST_S, _MOST_S = 0.001, 0.05


class ClearCounter:
    """For one core and one sequence; `popped` and `take` by the one who pops.

    Parameters
    ----------
    core
        Asked for the frames in its ring.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._popped = 0
        self._clears = 0
        self._late = False
        self._lock = threading.Lock()
        self._ring_s = 0.0
        self._last = self._last_popped = 0
        self._looked_s = self._used_s = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, ring_s: float) -> None:
        """Look from now on.

        Parameters
        ----------
        ring_s
            Least time in which the ring fills, in s.
        """
        self._stop.clear()
        self._ring_s = ring_s
        self._looked_s, self._used_s = time.monotonic(), time.process_time()
        self._thread = threading.Thread(
            target=self._watch, name="ring-watch", daemon=True
        )
        self._thread.start()

    def popped(self) -> None:
        """A frame was taken."""
        self._popped += 1

    def take(self) -> int | None:
        """Clears since the last call; None when they were not seen reliably."""
        self._look()
        with self._lock:
            clears, late = self._clears, self._late
            self._clears, self._late = 0, False
        return None if late or clears < 1 else clears

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _watch(self) -> None:
        pause_s = min(max(self._ring_s / _LOOKS, _LEAST_S), _MOST_S)
        while not self._stop.wait(pause_s):
            self._look()

    def _look(self) -> None:
        with self._lock:
            popped = self._popped
            try:
                now = int(self._core.getRemainingImageCount())
            except Exception:  # a core that goes away ends the run elsewhere
                return
            # Pops in between only make a fall smaller than it was.
            if now < self._last - (self._popped - self._last_popped):
                self._clears += 1
            wall_s, cpu_s = time.monotonic(), time.process_time()
            gap_s, used_s = wall_s - self._looked_s, cpu_s - self._used_s
            # In less than a filling no clear can hide.
            if gap_s > _RELIABLE * self._ring_s and used_s > _AWAKE * gap_s:
                self._late = True
            self._looked_s, self._used_s = wall_s, cpu_s
            self._last, self._last_popped = now, popped
