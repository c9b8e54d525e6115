"""Doubles for the ends of the pipeline. None of them is a camera or a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi
from blinkloop.schema import LOCALIZATION_DTYPE

_HELD_S = 240.0
"""At a gate that nobody opens: longer than the patience of any test."""

HEIGHT, WIDTH = 5, 9
ROI = Roi(3, 7, WIDTH, HEIGHT)


def pattern(index: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[Any]:
    """Pixels that tell the frame they belong to in every pixel."""
    offset = np.arange(shape[0] * shape[1], dtype=np.uint64).reshape(shape)
    return ((index * 2654435761 + offset * 40503) % 65521).astype(np.uint16)


class DoubleSource:
    """Delivers frames of given numbers, then ends or fails."""

    def __init__(
        self,
        indices: Sequence[int],
        *,
        lost: int = 0,
        period_s: float = 0.0,
        error: Exception | None = None,
        silent_s: float = 0.0,
        start_error: Exception | None = None,
        shapes: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        self.indices = indices
        self.roi = ROI
        self.dtype = np.dtype(np.uint16)
        self.lost = lost
        self.period_s = period_s
        self.error = error
        self.silent_s = silent_s
        self.start_error = start_error
        self.shapes = shapes or {}
        self.during: dict[int, Callable[[], object]] = {}
        """What is done before a frame is delivered."""
        self.stopped = threading.Event()

    def camera_facts(self) -> Mapping[str, Any]:
        return {}

    def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    def frames(self) -> Iterator[Frame]:
        buffer = np.empty((HEIGHT, WIDTH), np.uint16)
        for index in self.indices:
            pixels = buffer
            self.during.get(index, int)()
            if index in self.shapes:
                pixels = np.zeros(self.shapes[index], np.uint16)
            else:
                buffer[...] = pattern(index)
            yield Frame(index, index * 0.01, pixels, self.roi)
            # The contract lets a source reuse its buffer: make torn data visible.
            buffer[...] = 0
            if self.period_s and self.stopped.wait(self.period_s):
                return
        if self.error is not None:
            raise self.error
        self.stopped.wait(self.silent_s)

    def stop(self) -> None:
        self.stopped.set()


class DoubleLocalizer:
    """One frame late like the real one; checks the pixels of every frame."""

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
        delay_s: float = 0.0,
        swallow: frozenset[int] = frozenset(),
        gate: threading.Event | None = None,
    ) -> None:
        self.fail_at = fail_at
        self.error = error or RuntimeError("backend crashed\nbadly")
        self.delay_s = delay_s
        self.swallow = swallow
        self.gate = gate
        self.torn: list[int] = []
        self.batches: list[int] = []
        self.closed = 0
        self._waiting: tuple[int, float, Roi] | None = None
        self._segment = -1
        self.entered = threading.Event()

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(_HELD_S)
        if self.delay_s:
            time.sleep(self.delay_s)
        if any(frame.index == self.fail_at for frame in frames):
            raise self.error
        self.batches.append(len(frames))
        results: list[FrameResult] = []
        for frame in frames:
            if not np.array_equal(frame.pixels, pattern(frame.index)):
                self.torn.append(frame.index)
            if self._waiting is not None and self._waiting[0] + 1 != frame.index:
                results += self.flush()
            if self._waiting is None:
                self._segment += 1
            else:
                results += self._result()
            self._waiting = (frame.index, frame.timestamp_s, frame.roi)
        return results

    def flush(self) -> list[FrameResult]:
        results = self._result()
        self._waiting = None
        return results

    def _result(self) -> list[FrameResult]:
        if self._waiting is None or self._waiting[0] in self.swallow:
            return []
        index, timestamp_s, roi = self._waiting
        return [make_result(index, timestamp_s, roi, self._segment)]

    def close(self) -> None:
        self.closed += 1


def make_result(
    index: int,
    timestamp_s: float = 0.0,
    roi: Roi = ROI,
    segment: int = 0,
) -> FrameResult:
    """`index % 4` localizations whose values tell frame and row."""
    rows = np.zeros(index % 4, LOCALIZATION_DTYPE)
    rows["frame"] = index
    rows["x_px"] = index + np.arange(len(rows)) / 8
    rows["photons"] = 1000 + index
    # Not known, which the store must not take for "not written".
    rows["photons_sigma"] = np.nan
    return FrameResult(
        index=index,
        timestamp_s=timestamp_s,
        roi=roi,
        segment=segment,
        localizations=rows,
        table_full=index % 10 == 9,
        count_mean=len(rows) + 0.25,
        count_variance=0.125,
        block_mean=np.zeros((1, 2), np.float32),
    )


class DoubleObserver:
    """Writes down what it is told; may raise."""

    def __init__(self, *, raise_at: str = "", summary: dict[str, Any] | None = None):
        self.raise_at = raise_at
        self.events: list[tuple[str, Any]] = []
        self.stalls: list[float] = []
        self.closed = 0
        self._summary = summary or {}

    def observe(self, results: Sequence[FrameResult]) -> None:
        self.events += [("frame", result.index) for result in results]
        if self.raise_at == "observe":
            raise ValueError("observer broke")

    def gap(self, gap: Gap) -> None:
        self.events.append(("gap", gap))
        if self.raise_at == "gap":
            raise ValueError("observer broke")

    def stall(self, seconds: float) -> None:
        self.stalls.append(seconds)

    def summary(self) -> dict[str, Any]:
        return self._summary

    def close(self) -> None:
        self.closed += 1
        if self.raise_at == "close":
            raise ValueError("observer broke")


class DoubleSink:
    """Writes down what it is given; may raise, be slow or hang."""

    def __init__(
        self,
        *,
        raise_at: str = "",
        delay_s: float = 0.0,
        gate: threading.Event | None = None,
    ) -> None:
        self.raise_at = raise_at
        self.delay_s = delay_s
        self.gate = gate
        self.entered = threading.Event()
        self.meta: dict[str, Any] = {}
        self.final: dict[str, Any] = {}
        self.frames: list[int] = []
        self.gaps: list[Gap] = []
        self.opened = 0
        self.closed = 0

    def open(self, meta: Mapping[str, Any]) -> None:
        self._raise("open")
        self.opened += 1
        self.meta.update(meta)

    def write(self, results: Sequence[FrameResult]) -> None:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(_HELD_S)
        if self.delay_s:
            time.sleep(self.delay_s)
        self._raise("write")
        self.frames += [result.index for result in results]

    def gap(self, gap: Gap) -> None:
        self._raise("gap")
        self.gaps.append(gap)

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        self.closed += 1
        self._raise("close")
        self.final.update(meta)
        return {"double": "nowhere"}

    def _raise(self, where: str) -> None:
        if self.raise_at == where:
            raise OSError(28, "No space left on device")


def assert_rows_equal(
    actual: npt.NDArray[np.void], expected: npt.NDArray[np.void]
) -> None:
    """Structured arrays, column by column: so NaN equals NaN."""
    assert actual.dtype == expected.dtype
    for name in expected.dtype.names or ():
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
