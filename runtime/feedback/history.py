"""The course of a run in bounded memory: exact at first, then in means of more frames.

Design notes: knows columns of numbers only. Every row is touched when the object is
made, so that memory does not grow while a laser is on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from struct import Struct

import numpy as np
import numpy.typing as npt

__all__ = ["History"]


class History:
    """Columns that grow by a row per frame; safe to read from another thread.

    When the room is used up, neighbouring rows become one and from then on as many
    frames share a row: `frames_per_row` doubles.

    Parameters
    ----------
    columns
        Name of each column -> what two rows become: "first", "last", "mean" or "max".
        NaN does not count in a mean or a maximum.
    rows
        Room, even.
    """

    def __init__(self, columns: Mapping[str, str], rows: int = 2**16) -> None:
        self._names = tuple(columns)
        self._kinds = tuple(columns.values())
        # A frame's values lie together, and are written without making an array.
        self._rows = np.full((rows, len(self._names)), np.nan)
        self._row = Struct(f"{len(self._names)}d")
        self._pack, self._bytes = self._row.pack_into, self._rows.data.cast("B")
        self._used = 0
        self._part: list[Sequence[float]] = []
        self._lock = threading.Lock()
        self.frames_per_row = 1

    def add(self, values: Sequence[float]) -> None:
        """Add the values of one frame, in the order of the columns."""
        with self._lock:
            if self.frames_per_row == 1 and self._used < len(self._rows):
                self._pack(self._bytes, self._used * self._row.size, *values)
                self._used += 1
                return
            self._part.append(values)
            if len(self._part) < self.frames_per_row:
                return
            if self._used == len(self._rows):
                self._halve()
                return
            self._rows[self._used] = self._joined(np.array(self._part).T)
            self._part.clear()
            self._used += 1

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """Copies by name; frames that do not fill a row yet are the last one."""
        with self._lock:
            kept = self._rows[: self._used].T
            if self._part:
                last = self._joined(np.array(self._part).T)
                kept = np.concatenate([kept, last[:, None]], axis=1)
            return {name: kept[k].copy() for k, name in enumerate(self._names)}

    def _halve(self) -> None:
        half = len(self._rows) // 2
        pairs = self._rows.T.reshape(len(self._names), half, 2)
        self._rows[:half] = self._joined(pairs).T
        self._rows[half:] = np.nan
        self._used = half
        self.frames_per_row *= 2

    def _joined(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(columns, ..., n) to (columns, ...)."""
        return np.stack(
            [_join(kind, part) for kind, part in zip(self._kinds, parts, strict=True)]
        )


def _join(kind: str, part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if kind == "first":
        return part[..., 0]
    if kind == "last":
        return part[..., -1]
    known = np.isfinite(part)
    none = ~known.any(axis=-1)
    if kind == "max":
        found = np.where(known, part, -np.inf).max(axis=-1)
    else:
        total = np.where(known, part, 0.0).sum(axis=-1)
        found = total / np.maximum(known.sum(axis=-1), 1)
    return np.where(none, np.nan, found)
