"""A sink that keeps the table in memory: for tests, notebooks and short runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.records import FrameResult, Gap
from blinkloop.runtime.sinks.layout import FRAME_DTYPE, frame_records
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

__all__ = ["MemorySink"]


class MemorySink:
    """Collects localizations, frame records and gaps. Grows without bound."""

    def __init__(self) -> None:
        self._meta: dict[str, Any] = {}
        self._rows: list[npt.NDArray[np.void]] = []
        self._frames: list[npt.NDArray[np.void]] = []
        self._gaps: list[Gap] = []
        self._count = 0

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Gaps in the order they came."""
        return tuple(self._gaps)

    def open(self, meta: Mapping[str, Any]) -> None:
        """Begin; `meta` goes into the table."""
        self._meta.update(meta)

    def write(self, results: Sequence[FrameResult]) -> None:
        """Keep results."""
        self._frames.append(frame_records(results, self._count))
        self._rows += [result.localizations for result in results]
        self._count += sum(len(result.localizations) for result in results)

    def gap(self, gap: Gap) -> None:
        """Keep a gap."""
        self._gaps.append(gap)

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Add the final `meta`; writes no file."""
        self._meta.update(meta)
        return {}

    def table(self) -> LocalizationTable:
        """All localizations so far."""
        rows = np.concatenate([np.zeros(0, LOCALIZATION_DTYPE), *self._rows])
        return LocalizationTable(rows, dict(self._meta))

    def frames(self) -> npt.NDArray[np.void]:
        """(n,) of `FRAME_DTYPE`: one record per frame with a result."""
        return np.concatenate([np.zeros(0, FRAME_DTYPE), *self._frames])
