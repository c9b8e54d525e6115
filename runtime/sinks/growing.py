"""Columns of one Zarr group that grow by whole chunks.

Order of writing, so that a crash at any moment leaves a readable store: the arrays are
lengthened by chunks of fill values; the columns are written, the key column last; a
chunk that is full is forced to the disk before the next one begins. So a process that
is killed loses what was buffered, and a power loss at most the open chunk.

Design notes: knows no meaning of columns. The open chunk is kept in memory and written
whole each time, so nothing is ever read back while writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.sinks.column_chunks import ColumnChunks
from blinkloop.runtime.sinks.layout import fill_value

__all__ = ["GrowingColumns", "retry_refused"]

_AHEAD = 8
"""Chunks by which arrays are lengthened at once: each time costs 15 ms of Python and
11 files forced to the disk, which a live run feels."""
_ATTEMPTS = 40
_PAUSE_S = 0.05


class GrowingColumns:
    """Appends structured rows to one array per column.

    Parameters
    ----------
    group
        The Zarr group; its arrays exist already or are made here.
    folder
        Where that group lies on disk.
    dtype
        Structured type of the rows; its first field is the key, written last.
    chunk
        Rows per chunk.
    kept, tail
        To go on: rows to continue after, and those of them in the open chunk. What the
        arrays hold beyond is overwritten.
    units
        Unit of a column, kept as its attribute.
    rest
        Called after each column, until `finish`: what waits for the processor is let
        by. None = no rest.
    """

    def __init__(
        self,
        group: Any,
        folder: Path,
        dtype: np.dtype[Any],
        chunk: int,
        *,
        kept: int | None = None,
        tail: npt.NDArray[np.void] | None = None,
        units: dict[str, str] | None = None,
        rest: Callable[[], None] | None = None,
    ) -> None:
        names = dtype.names or ()
        self._folder = folder
        self._chunk = chunk
        self._rest = rest
        self._buffer = np.empty(chunk, dtype)
        self._base = 0
        self._used = 0
        self._dirty = False
        # The key column last: where it is written, the others are.
        self._names = (*names[1:], names[0])
        self._arrays = {
            name: group[name]
            if kept is not None
            else group.create_array(
                name,
                shape=(0,),
                chunks=(chunk,),
                dtype=dtype[name],
                fill_value=fill_value(dtype[name]),
                attributes={"unit": units[name]} if units and name in units else {},
            )
            for name in self._names
        }
        self._files = {
            name: ColumnChunks(array, folder / name)
            for name, array in self._arrays.items()
        }
        self._clear()
        if kept is not None and tail is not None:
            self._base = kept // chunk * chunk
            self._used = kept - self._base
            self._buffer[: self._used] = tail
            self._resize(self._base + chunk)
            # Cells beyond the rows kept may hold the remains of a torn write.
            self._write_open_chunk()

    def __len__(self) -> int:
        return self._base + self._used

    @property
    def dirty(self) -> bool:
        """Whether rows wait in memory."""
        return self._dirty

    def append(self, rows: npt.NDArray[np.void]) -> None:
        """Buffer rows; chunks that become full are written and forced to disk."""
        start = 0
        while start < len(rows):
            count = min(self._chunk - self._used, len(rows) - start)
            self._buffer[self._used : self._used + count] = rows[start : start + count]
            self._used += count
            self._dirty = True
            start += count
            if self._used == self._chunk:
                self._write_open_chunk()
                self._sync(self._base // self._chunk)
                self._base += self._chunk
                self._used = 0
                self._clear()

    def flush(self) -> None:
        """Write the open chunk, if it changed."""
        if self._dirty:
            self._write_open_chunk()

    def finish(self) -> None:
        """Write what is left and cut the arrays to their true length."""
        self._rest = None
        self.flush()
        self._resize(len(self))
        if self._used:
            self._sync(self._base // self._chunk)

    def _clear(self) -> None:
        for name in self._names:
            self._buffer[name] = fill_value(self._buffer.dtype[name])

    def _write_open_chunk(self) -> None:
        if not self._folder.is_dir():
            # Zarr would make the folders anew, and nobody could read what is in them.
            raise FileNotFoundError(
                f"{self._folder} was removed, or its disk was, during the run"
            )
        stop = self._base + self._chunk
        if self._arrays[self._names[-1]].shape[0] < stop:
            self._resize(self._base + _AHEAD * self._chunk)
        for name in self._names:
            column = self._buffer[name].copy()
            write = self._files[name].write
            retry_refused(partial(write, self._base // self._chunk, column))
            if self._rest is not None:
                self._rest()
        self._dirty = False

    def _resize(self, length: int) -> None:
        for name in self._names:
            array = self._arrays[name]
            if array.shape[0] != length:
                retry_refused(partial(array.resize, (length,)))
                _force_to_disk(self._folder / name / "zarr.json")

    def _sync(self, chunk: int) -> None:
        for name in self._names:
            _force_to_disk(self._folder / name / "c" / str(chunk))


def retry_refused(write: Callable[[], Any]) -> None:
    """Write again when Windows refuses to replace a file that a reader has open."""
    for attempt in range(_ATTEMPTS):
        try:
            write()
            return
        except PermissionError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)


def _force_to_disk(file: Path) -> None:
    """Ask the system to put a file on the disk now (a no-op for one not there)."""
    with suppress(FileNotFoundError), file.open("r+b") as opened:
        os.fsync(opened.fileno())
