"""How long frames take, with bounded memory however long the run.

Design notes: the meter knows durations only. It keeps a histogram with bins of 1 %
width, so a quantile is right to 0.5 %; minimum and maximum are exact.
"""

from __future__ import annotations

import math
import threading
from array import array

import numpy as np

__all__ = ["LATENCY_KEYS", "LatencyMeter"]

LATENCY_KEYS = ("p50", "p95", "p99", "max")
"""Keys of `LatencyMeter.summary_ms`, in order."""

_SHORTEST_S = 1e-6
_LONGEST_S = 1e5
_LOG_STEP = math.log(1.01)
_BINS = math.ceil(math.log(_LONGEST_S / _SHORTEST_S) / _LOG_STEP) + 1


class LatencyMeter:
    """Collects durations; safe to read from another thread.

    Durations below 1 us and above 1e5 s fall into the first and the last bin.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bins = array("q", bytes(8 * _BINS))
        self._count = 0
        self._min = math.inf
        self._max = 0.0

    @property
    def count(self) -> int:
        """Durations added."""
        return self._count

    def add(self, seconds: float) -> None:
        """Add one duration; a negative one (a clock set back) counts as zero."""
        seconds = max(float(seconds), 0.0)
        ratio = min(max(seconds, _SHORTEST_S), _LONGEST_S) / _SHORTEST_S
        number = min(int(math.log(ratio) / _LOG_STEP), _BINS - 1)
        with self._lock:
            self._bins[number] += 1
            self._count += 1
            if seconds < self._min:
                self._min = seconds
            if seconds > self._max:
                self._max = seconds

    def quantile(self, fraction: float) -> float:
        """Duration in seconds that `fraction` of all do not exceed; NaN when empty."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"a quantile lies in [0, 1], got {fraction}")
        with self._lock:
            if self._count == 0:
                return math.nan
            if fraction in (0, 1):
                return self._max if fraction == 1 else self._min
            rank = max(math.ceil(fraction * self._count), 1)
            number = int(np.searchsorted(np.cumsum(self._bins), rank))
            middle = _SHORTEST_S * math.exp((number + 0.5) * _LOG_STEP)
            return min(max(middle, self._min), self._max)

    def summary_ms(self) -> dict[str, float]:
        """`LATENCY_KEYS` in ms; NaN when nothing was added."""
        values = (*(self.quantile(q) for q in (0.5, 0.95, 0.99)), self.quantile(1))
        return {
            key: value * 1e3 for key, value in zip(LATENCY_KEYS, values, strict=True)
        }
