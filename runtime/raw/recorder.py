"""Camera frames on their way to the raw store: bounded, counted, never waited for.

    camera thread --put, mark--> [buffers of one chunk each] --writer thread--> RawStore

Law: `put` copies into the open chunk and returns. When every buffer waits for the disk
the frame is counted and becomes a gap of the store. A disk that refuses ends the
recording: `on_failure` is told at once, from the writer thread, and the next `put`
raises, which ends the run.

Design notes: a chunk that is still open is written as far as it goes about once a
second; frames before `used` never change, so no lock is held while the disk works.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import BlinkloopError, DeviceError
from blinkloop.runtime.raw.laser import LaserTail
from blinkloop.runtime.raw.layout import RAW_FRAME_DTYPE
from blinkloop.runtime.raw.reader import RawStoreReader
from blinkloop.runtime.raw.store import RawStore
from blinkloop.runtime.records import Frame, Gap
from blinkloop.runtime.worker import Worker

__all__ = ["DISK_BEHIND", "RawRecorder"]

DISK_BEHIND = "skipped: the disk was behind and the buffers for raw data were full"
_LEAST_BUFFERS = 4
_MOST_GAPS = 4096


class _Chunk:
    """Frames of one chunk on their way to the disk."""

    __slots__ = ("number", "pixels", "rows", "used", "written")

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.pixels = np.zeros(shape, dtype)
        self.rows = np.zeros(shape[0], RAW_FRAME_DTYPE)
        self.number, self.used, self.written = -1, 0, 0


class RawRecorder:
    """Feeds a raw store from a thread of its own. Runs once.

    Parameters
    ----------
    store
        Opened by `open`, in the caller's thread.
    memory_mb
        For frames that wait for the disk, MiB; at least four chunks.
    flush_s
        Frames are on the disk after about this time.
    on_failure
        Told once, in one line, when the disk refuses; from the writer thread.
    laser_log
        CSV of the laser's commands, copied into the store as it grows.
    """

    def __init__(
        self,
        store: RawStore,
        *,
        memory_mb: float = 256.0,
        flush_s: float = 1.0,
        on_failure: Callable[[str], object] | None = None,
        laser_log: Path | None = None,
    ) -> None:
        self._store = store
        self._n = store.frames_per_chunk
        roi = store.roi
        self._shape = (self._n, roi.height, roi.width)
        chunk_bytes = roi.height * roi.width * store.dtype.itemsize * self._n
        self._most = max(int(memory_mb * 2**20 / chunk_bytes), _LEAST_BUFFERS)
        self._flush_s = flush_s
        self._on_failure = on_failure
        self._laser = None if laser_log is None else LaserTail(laser_log)
        self._changed = threading.Condition()
        self._free: list[_Chunk] = []
        self._made = 0
        self._full: deque[_Chunk] = deque()
        self._open_chunk: _Chunk | None = None
        self._gaps: deque[Gap] = deque()
        self._missed: Gap | None = None
        self._closing = False
        self._thread: Worker | None = None
        self._failure: str | None = None
        self._told = False
        self._kept = 0
        self._put = self._unwritten = self._high_water = 0

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._store.path

    @property
    def failure(self) -> str | None:
        """Why the recording ended before the run, in one line; None = it did not."""
        return self._failure

    @property
    def unwritten(self) -> int:
        """Frames that found no room, or came after the disk refused."""
        return self._unwritten

    def open(self, meta: Mapping[str, Any]) -> None:
        """Make the store and start the thread; raises as `RawStore.open`."""
        self._store.open(meta)
        self._thread = Worker("raw", self._write)
        self._thread.start()

    def discard(self) -> None:
        """The run did not begin: leave no store."""
        if self._thread is not None:
            self._end(10.0)
            self._store.discard()

    def put(self, frame: Frame) -> None:
        """Copy a frame; numbers must rise. Camera thread only.

        Raises
        ------
        DeviceError
            The recording has ended because the disk refused.
        """
        self._put += 1
        if self._failure is not None:
            self._told = True
            raise DeviceError(self._failure)
        number, position = divmod(frame.index, self._n)
        chunk = self._open_chunk
        if chunk is None or chunk.number != number:
            chunk = self._turn(number)
            if chunk is None:
                self._miss(frame.index)
                return
        self._tell_missed()
        np.copyto(chunk.pixels[position], frame.pixels)
        chunk.rows[chunk.used] = (frame.index, frame.timestamp_s)
        # Last: the writer thread takes rows and pixels below this number.
        chunk.used += 1

    def mark(self, gap: Gap) -> None:
        """Say that frames are missing before the next one. Camera thread only."""
        self._tell_missed()
        self._gaps.append(gap)

    def close(self, meta: Mapping[str, Any], patience_s: float = 120.0) -> list[str]:
        """Write what waits, finish the store and end the thread.

        Parameters
        ----------
        meta
            Facts of the end of the run.
        patience_s
            How long the disk may take.

        Returns
        -------
        list of str
            What is wrong: the disk refused at the end, or the books do not balance.
            A failure that `put` raised is not told again.
        """
        self._tell_missed()
        if not self._end(patience_s):
            return [f"{self.path}: raw data are still not written after {patience_s} s"]
        if self._failure is None:
            try:
                self._take_notes()
                self._store.close({**self.summary(), **meta})
            except Exception as error:
                self._fail(error)
        if self._failure is not None:
            # What was in the buffers, and what the disk took but cannot give back.
            self._unwritten = self._put - self._kept
            return [] if self._told else [self._failure]
        kept = len(self._store)
        if self._put != kept + self._unwritten:
            return [
                f"accounting: {self._put} frames were handed to the raw data but "
                f"{kept} are there and {self._unwritten} are not"
            ]
        return []

    def summary(self) -> dict[str, Any]:
        """For the report: where, how many frames, how many not, and the buffers."""
        return {
            "path": str(self.path.resolve()),
            "frames": len(self._store) if self._failure is None else self._kept,
            "frames_unwritten": self._unwritten,
            "buffers": self._most,
            "buffers_high_water": self._high_water,
        }

    def _turn(self, number: int) -> _Chunk | None:
        """Hand the open chunk to the writer and begin another; None = no room."""
        with self._changed:
            if self._open_chunk is not None:
                self._full.append(self._open_chunk)
                self._open_chunk = None
                self._changed.notify()
            if self._free:
                chunk = self._free.pop()
            elif self._made < self._most:
                chunk = _Chunk(self._shape, self._store.dtype)
                self._made += 1
            else:
                return None
            chunk.number = number
            self._open_chunk = chunk
            self._high_water = max(self._high_water, self._made - len(self._free))
        return chunk

    def _miss(self, index: int) -> None:
        self._unwritten += 1
        before = self._missed
        if before is not None and before.first + before.count == index:
            self._missed = Gap(before.first, before.count + 1, DISK_BEHIND)
            return
        self._tell_missed()
        self._missed = Gap(index, 1, DISK_BEHIND)

    def _tell_missed(self) -> None:
        if self._missed is not None:
            self._gaps.append(self._missed)
            self._missed = None

    def _end(self, patience_s: float) -> bool:
        with self._changed:
            self._closing = True
            self._changed.notify()
        return self._thread is None or self._thread.wait(patience_s)

    def _write(self) -> None:
        """Body of the writer thread."""
        try:
            self._loop()
        except Exception as error:
            self._fail(error)

    def _loop(self) -> None:
        due_s = time.monotonic() + self._flush_s
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: bool(self._full) or self._closing,
                    max(due_s - time.monotonic(), 0.0),
                )
                chunk = self._full.popleft() if self._full else None
                last = self._closing and chunk is None
            if chunk is not None:
                self._store_chunk(chunk)
                # Frames of the next user must not lie among remains of this one.
                chunk.pixels.fill(0)
                chunk.number, chunk.used, chunk.written = -1, 0, 0
                with self._changed:
                    self._free.append(chunk)
            if last or time.monotonic() >= due_s:
                self._flush(last)
                due_s = time.monotonic() + self._flush_s
            if last:
                return

    def _flush(self, last: bool) -> None:
        """Write the open chunk as far as it goes, and the notes."""
        with self._changed:
            # Rows must rise: what became full meanwhile comes before the open chunk.
            chunk = None if self._full else self._open_chunk
        if chunk is not None and chunk.used > chunk.written:
            self._store_chunk(chunk)
        self._take_notes()
        self._store.flush()
        if last:
            self._open_chunk = None

    def _store_chunk(self, chunk: _Chunk) -> None:
        self._take_gaps()
        used = chunk.used
        self._store.write(chunk.number, chunk.pixels, chunk.rows[chunk.written : used])
        chunk.written = used

    def _take_gaps(self) -> None:
        for _ in range(min(len(self._gaps), _MOST_GAPS)):
            self._store.gap(self._gaps.popleft())

    def _take_notes(self) -> None:
        self._take_gaps()
        if self._laser is not None:
            numbers, reasons = self._laser.rows()
            if len(numbers):
                self._store.laser(numbers, reasons)

    def _fail(self, error: BaseException) -> None:
        text = " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror
        elif not isinstance(error, BlinkloopError):
            text = f"{type(error).__name__}: {text}"
        with suppress(Exception):
            self._store.flush()
        self._kept = _readable(self.path)
        line = (
            f"the raw data cannot be written to {self.path} ({text}); {self._kept} "
            f"frames are kept there; free the disk or choose another one"
        )
        self._failure = line
        if self._on_failure is not None:
            self._on_failure(line)


def _readable(path: Path) -> int:
    """Frames a reader finds; 0 when there is nothing to read any more."""
    try:
        return len(RawStoreReader(path).frames())
    except Exception:
        return 0
