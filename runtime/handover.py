"""Hand-over of frames from the camera thread to the analysis: a bounded ring.

    camera thread --put, mark, close--> [ring of N frames] --take--> analysis

Law: `put` copies and returns. It never waits for the analysis, whatever that does; the
lock is held for bookkeeping only, never while pixels are copied. A frame that does not
fit is counted and reaches the consumer as a `Gap` in its right place.

Design notes: knows nothing of cameras, localizers or why frame numbers jump; whoever
calls `mark` does. Slots are handed out in any order, so a batch is a list of frames
whose pixels need not be adjacent in memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.bell import Bell
from blinkloop.runtime.records import Frame, Gap, Roi

__all__ = ["HANDOVER_FULL", "RUN_ENDED", "UNUSABLE", "Batch", "Handover"]

HANDOVER_FULL = "skipped: the analysis was behind and the ring was full"
RUN_ENDED = "skipped: the run ended before they were analysed"
UNUSABLE = "skipped: the frame does not have the announced size or type"


@dataclass(frozen=True, slots=True)
class Batch:
    """What `take` hands to the consumer.

    Parameters
    ----------
    gaps
        Frames missing before `frames`, in order.
    frames
        Frames with consecutive numbers; their pixels are valid until `release`.
    arrived_s
        When each was put, on the clock of `time.perf_counter`.
    last
        True when nothing more will come.
    error
        On the last batch: what the producer failed with, or None.
    """

    gaps: tuple[Gap, ...] = ()
    frames: tuple[Frame, ...] = ()
    arrived_s: tuple[float, ...] = ()
    last: bool = False
    error: BaseException | None = None
    _give_back: Callable[[], None] = field(default=lambda: None, repr=False)

    def release(self) -> None:
        """Give the slots back; the pixels may change from now on. Harmless twice."""
        self._give_back()


@dataclass(slots=True)
class _Entry:
    """A queued frame: its header, its slot and the gaps just before it."""

    index: int
    timestamp_s: float
    roi: Roi
    slot: int
    arrived_s: float
    gaps: list[Gap]


class Handover:
    """Bounded, preallocated ring; one producer, one consumer.

    Parameters
    ----------
    capacity
        Frames the ring holds, those the consumer has not released included.
    height, width, dtype
        Of every frame.
    policy
        What goes when the ring is full: "latest" drops the oldest waiting frame (live),
        "newest" drops the incoming one.
    wait
        True makes `put` wait for room instead. Only for sources that are not cameras,
        such as a movie read from disk.

    Raises
    ------
    InputError
        The capacity, size or policy cannot be used, or the memory is not there.
    """

    def __init__(
        self,
        capacity: int,
        height: int,
        width: int,
        dtype: np.dtype[Any],
        *,
        policy: Literal["latest", "newest"] = "latest",
        wait: bool = False,
    ) -> None:
        if capacity < 1:
            raise InputError(f"the ring needs room for at least 1 frame: {capacity}")
        if height < 1 or width < 1:
            raise InputError(f"the source announces {width} x {height} px frames")
        if policy not in ("latest", "newest"):
            raise InputError(f'the ring policy is "latest" or "newest", got {policy!r}')
        try:
            self._ring = np.empty((capacity, height, width), dtype)
        except MemoryError as error:
            raise InputError(
                f"no memory for a ring of {capacity} frames of {width} x {height} px "
                f"{np.dtype(dtype)}; use a smaller one"
            ) from error
        # Touch every page now, or the camera thread pays for it at its first frames.
        self._ring.fill(0)
        self._policy = policy
        self._wait = wait
        self._shape = self._ring.shape[1:]
        self._lock = threading.RLock()
        self._room_made = threading.Condition(self._lock)
        self._came = Bell(self._lock)
        self._free = deque(range(capacity))
        self._queue: deque[_Entry] = deque()
        self._front_gaps: list[Gap] = []
        self._tail_gaps: list[Gap] = []
        self._closed = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._dropped = 0
        self._high_water = 0
        self._last_put_s: float | None = None

    @property
    def capacity(self) -> int:
        """Frames the ring holds."""
        return len(self._ring)

    @property
    def fill(self) -> int:
        """Frames waiting or still held by the consumer."""
        with self._lock:
            return len(self._ring) - len(self._free)

    @property
    def high_water(self) -> int:
        """Largest `fill` so far."""
        return self._high_water

    @property
    def dropped(self) -> int:
        """Frames put but never handed to the consumer."""
        with self._lock:
            return self._dropped

    @property
    def overflowed(self) -> bool:
        """True once a frame did not fit."""
        return self.dropped > 0

    @property
    def last_put_s(self) -> float | None:
        """When the latest frame came (`time.perf_counter`); None before the first."""
        return self._last_put_s

    def put(self, frame: Frame) -> bool:
        """Copy a frame in; False when it was dropped itself. Producer only.

        Raises
        ------
        DeviceError
            Its pixels are not as announced; the frame is counted as dropped.
        """
        arrived_s = time.perf_counter()
        self._last_put_s = arrived_s
        pixels = frame.pixels
        ring = self._ring
        alike = pixels.dtype == ring.dtype or np.can_cast(
            pixels.dtype, ring.dtype, "equiv"
        )
        if pixels.shape != self._shape or not alike:
            with self._lock:
                self._drop(self._tail_gaps, frame.index, UNUSABLE)
            raise DeviceError(
                f"frame {frame.index} is {pixels.shape} {pixels.dtype} but the source "
                f"announced {self._shape} {ring.dtype}; keep the region "
                f"of interest and the pixel type fixed during a run"
            )
        with self._lock:
            slot = self._room(frame.index)
        if slot is None:
            return False
        # Nobody else knows this slot, so the copy needs no lock.
        np.copyto(ring[slot], pixels)
        with self._lock:
            gaps, self._tail_gaps = self._tail_gaps, []
            self._queue.append(
                _Entry(frame.index, frame.timestamp_s, frame.roi, slot, arrived_s, gaps)
            )
            fill = len(ring) - len(self._free)
            if fill > self._high_water:
                self._high_water = fill
            self._came.ring()
        return True

    def mark(self, gap: Gap) -> None:
        """Say that frames are missing after those put so far. Producer only."""
        with self._lock:
            _merge(self._tail_gaps, gap)

    def close(self, error: BaseException | None = None) -> None:
        """No more frames will come; `error` is handed on. Producer only."""
        with self._lock:
            if not self._closed:
                self._closed, self._error = True, error
            self._came.ring()

    def cancel(self) -> None:
        """The consumer ends: what is still put is counted and dropped at once."""
        with self._lock:
            self._cancelled = True
            self._room_made.notify_all()
            self._came.ring()

    def take(self, max_frames: int, timeout: float | None = None) -> Batch | None:
        """Up to `max_frames` waiting frames with consecutive numbers. Consumer only.

        Frames that waited before the producer failed or closed come first; the batch
        with `last` set comes once and has no frames.

        Returns
        -------
        Batch or None
            None when nothing came within `timeout` seconds.
        """
        with self._lock:
            if not self._queue and not self._closed:
                # Only the producer wakes the consumer; by `cancel`, too early at most.
                self._came.wait(timeout)
                if not self._queue and not self._closed:
                    return None
            if not self._queue:
                gaps = (*self._front_gaps, *self._tail_gaps)
                self._front_gaps, self._tail_gaps = [], []
                return Batch(gaps=gaps, last=True, error=self._error)
            gaps = (*self._front_gaps, *self._queue[0].gaps)
            self._front_gaps = []
            entries = [self._queue.popleft()]
            while (
                self._queue
                and len(entries) < max_frames
                and not self._queue[0].gaps
                and self._queue[0].index == entries[-1].index + 1
            ):
                entries.append(self._queue.popleft())
        return self._lease(gaps, entries)

    def discard(self, reason: str = RUN_ENDED) -> tuple[Gap, ...]:
        """Throw away all that waits; the gaps it becomes, in order. Consumer only."""
        with self._lock:
            while self._queue:
                self._free.append(self._drop_oldest(reason))
            gaps = list(self._front_gaps)
            for gap in self._tail_gaps:
                _merge(gaps, gap)
            self._front_gaps, self._tail_gaps = [], []
            self._room_made.notify_all()
            return tuple(gaps)

    def _lease(self, gaps: tuple[Gap, ...], entries: list[_Entry]) -> Batch:
        slots = [entry.slot for entry in entries]

        def give_back() -> None:
            with self._lock:
                self._free.extend(slots)
                slots.clear()
                if self._wait:
                    self._room_made.notify_all()

        frames = []
        for entry in entries:
            pixels = self._ring[entry.slot]
            pixels.flags.writeable = False
            frames.append(Frame(entry.index, entry.timestamp_s, pixels, entry.roi))
        arrived = tuple(entry.arrived_s for entry in entries)
        return Batch(gaps, tuple(frames), arrived, _give_back=give_back)

    def _room(self, index: int) -> int | None:
        """A slot for the incoming frame, or None when that frame is the one to go."""
        if self._wait:
            self._room_made.wait_for(lambda: bool(self._free) or self._cancelled)
        if self._cancelled:
            self._drop(self._tail_gaps, index, RUN_ENDED)
            return None
        if self._free:
            # The one used last: the processor's cache still holds it.
            return self._free.pop()
        if self._policy == "latest" and self._queue:
            return self._drop_oldest(HANDOVER_FULL)
        # "newest", or the consumer holds every slot: nothing older can go.
        self._drop(self._tail_gaps, index, HANDOVER_FULL)
        return None

    def _drop_oldest(self, reason: str) -> int:
        entry = self._queue.popleft()
        for gap in entry.gaps:
            _merge(self._front_gaps, gap)
        self._drop(self._front_gaps, entry.index, reason)
        return entry.slot

    def _drop(self, gaps: list[Gap], index: int, reason: str) -> None:
        self._dropped += 1
        _merge(gaps, Gap(index, 1, reason))


def _merge(gaps: list[Gap], gap: Gap) -> None:
    """Append a gap, or lengthen the last one when it goes on for the same reason."""
    if gaps:
        before = gaps[-1]
        if before.reason == gap.reason and before.first + before.count == gap.first:
            gaps[-1] = Gap(before.first, before.count + gap.count, gap.reason)
            return
    gaps.append(gap)
