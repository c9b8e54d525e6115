"""A sink that keeps the results of some frames: others were analysed as their context.

Design notes: knows numbers of frames only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blinkloop.runtime.protocols import Sink
from blinkloop.runtime.records import FrameResult, Gap

__all__ = ["FrameRangeSink"]


class FrameRangeSink:
    """Hands on the results of frames start .. stop - 1.

    Parameters
    ----------
    sink
        Gets them.
    start, stop
        First frame and the one after the last.
    """

    def __init__(self, sink: Sink, start: int, stop: int) -> None:
        self._sink = sink
        self._start, self._stop = start, stop

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open the sink."""
        self._sink.open(meta)

    def write(self, results: Sequence[FrameResult]) -> None:
        """Hand on those of the range."""
        wanted = [r for r in results if self._start <= r.index < self._stop]
        if wanted:
            self._sink.write(wanted)

    def gap(self, gap: Gap) -> None:
        """Hand on the part of a gap that is in the range."""
        first = max(gap.first, self._start)
        count = min(gap.first + gap.count, self._stop) - first
        if count > 0:
            self._sink.gap(Gap(first, count, gap.reason))

    def tick(self) -> None:
        """Let the sink write what has waited."""
        tick = getattr(self._sink, "tick", None)
        if tick is not None:
            tick()

    def discard(self) -> None:
        """Undo `open`."""
        discard = getattr(self._sink, "discard", None)
        if discard is not None:
            discard()
        else:
            self._sink.close({"failure": "the run did not begin"})

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Close the sink."""
        return self._sink.close(meta)
