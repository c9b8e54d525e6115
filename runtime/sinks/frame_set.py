"""A sink that keeps the results of chosen frames: others were analysed as context.

Design notes: knows numbers of frames only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.protocols import Sink
from blinkloop.runtime.records import FrameResult, Gap

__all__ = ["FrameSetSink"]


class FrameSetSink:
    """Hands on the results of some frames; gaps between them are none.

    Parameters
    ----------
    sink
        Gets them.
    numbers
        (n,) frames that are wanted.
    """

    def __init__(self, sink: Sink, numbers: npt.NDArray[np.int64]) -> None:
        self._sink = sink
        self._wanted = frozenset(numbers.tolist())

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open the sink."""
        self._sink.open(meta)

    def write(self, results: Sequence[FrameResult]) -> None:
        """Hand on those that are wanted."""
        wanted = [result for result in results if result.index in self._wanted]
        if wanted:
            self._sink.write(wanted)

    def gap(self, gap: Gap) -> None:
        """Frames between the chosen ones were not asked for."""

    def tick(self) -> None:
        """Let the sink write what has waited."""
        tick = getattr(self._sink, "tick", None)
        if tick is not None:
            tick()

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Close the sink."""
        return self._sink.close(meta)
