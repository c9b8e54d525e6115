"""The writer thread: a slow disk must not stall the loop.

    analysis --put, gap--> [bounded queue] --writer thread--> sinks

Law: nothing is dropped silently. When the queue is full the analysis waits (the camera
never does) and the wait is counted. A sink that raises is closed and named, the others
go on.

Design notes: knows nothing of formats. A sink may have `tick()`, called about four
times a second, to write what has waited long enough; and `rest_with(rest)`, told before
it is opened how to rest between two pieces of a long work: `rest()` returns when the
next results have come, which is when the laser is set and nobody waits for Python.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from blinkloop.runtime.protocols import Sink
from blinkloop.runtime.records import FrameResult, Gap
from blinkloop.runtime.worker import Worker

__all__ = ["SinkWriter"]

_TICK_S = 0.25
_DISCARD_S = 10.0
_REST_S = 0.05
_Item = tuple[FrameResult, ...] | Gap | None


class SinkWriter:
    """Feeds sinks from their own thread.

    Parameters
    ----------
    sinks
        Opened by `open`, in the caller's thread.
    capacity
        Results or gaps the queue holds.
    on_failure
        Told once per sink: its name and what it raised.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        capacity: int,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._sinks = list(sinks)
        self._opened: list[Sink] = []
        self._queue: queue.Queue[_Item] = queue.Queue(capacity)
        self._on_failure = on_failure
        self._abandoned = threading.Event()
        self._thread: Worker | None = None
        self._final_meta: Mapping[str, Any] = {}
        self._discarding = self._ending = False
        self._files: dict[str, str] = {}
        self.waits = 0
        self.wait_s = 0.0
        self.unwritten = 0
        self._wanted = 0

    @property
    def fill(self) -> int:
        """Items waiting, about."""
        return self._queue.qsize()

    @property
    def files(self) -> dict[str, str]:
        """{kind: path} of what the sinks said they wrote."""
        return dict(self._files)

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open every sink and start the thread; if one cannot, close the others."""
        for sink in self._sinks:
            try:
                rest_with = getattr(sink, "rest_with", None)
                if rest_with is not None:
                    rest_with(self._rest)
                sink.open(meta)
            except BaseException:
                self._discard_all()
                raise
            self._opened.append(sink)
        self._wanted = len(self._opened)
        self._thread = Worker("writer", self._write)
        self._thread.start()

    def discard(self) -> None:
        """Undo `open`: the run did not begin. A sink may have `discard()` for it."""
        if self._thread is not None:
            self._discarding = True
            self._enqueue(None)
            self._thread.wait(_DISCARD_S)

    def put(self, results: Sequence[FrameResult]) -> None:
        """Queue results; waits for room, counted."""
        self._enqueue(tuple(results))

    def gap(self, gap: Gap) -> None:
        """Queue a gap; waits for room, counted."""
        self._enqueue(gap)

    def finish(self, meta: Mapping[str, Any], gaps: Sequence[Gap] = ()) -> None:
        """Let the thread write what is queued and `gaps`, close the sinks and end."""
        for gap in gaps:
            self._enqueue(gap)
        self._final_meta, self._ending = meta, True
        self._enqueue(None)

    def wait(self, timeout: float) -> bool:
        """Wait for the thread; whether it has ended."""
        return self._thread is None or self._thread.wait(timeout)

    def abandon(self) -> None:
        """Stop waiting for a sink that hangs.

        What is put from now on is not written, and `unwritten` counts it.
        """
        self._abandoned.set()

    def _rest(self) -> None:
        """Until something is queued, for `_REST_S` at most; not when there is haste."""
        with self._queue.not_empty:
            if not self._ending and 2 * len(self._queue.queue) < self._queue.maxsize:
                self._queue.not_empty.wait(_REST_S)

    def _enqueue(self, item: _Item) -> None:
        try:
            self._queue.put_nowait(item)
            return
        except queue.Full:
            self.waits += 1
        start = time.perf_counter()
        try:
            while not self._abandoned.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue
            self.unwritten += len(item) if isinstance(item, tuple) else 0
        finally:
            self.wait_s += time.perf_counter() - start

    def _write(self) -> None:
        next_tick = time.monotonic() + _TICK_S
        while True:
            try:
                item = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                item = ()
            if item is None:
                break
            if isinstance(item, Gap):
                self._each("gap", item)
            elif item:
                self._each("write", item)
                if len(self._opened) < self._wanted:
                    self.unwritten += len(item)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + _TICK_S
                self._each("tick")
        if self._discarding:
            self._discard_all()
        else:
            for sink in tuple(self._opened):
                self._close(sink, self._final_meta)

    def _each(self, method: str, *arguments: Any) -> None:
        for sink in tuple(self._opened):
            call = getattr(sink, method, None)
            if call is None:
                continue
            try:
                call(*arguments)
            except Exception as error:
                self._on_failure(_name(sink), error)
                failed = {"failure": f"{type(error).__name__}: {error}"}
                self._close(sink, failed, quiet=True)

    def _discard_all(self) -> None:
        for sink in tuple(self._opened):
            method = getattr(sink, "discard", None)
            if method is None:
                self._close(sink, {"failure": "the run did not begin"}, quiet=True)
                continue
            self._opened = [other for other in self._opened if other is not sink]
            with suppress(Exception):
                method()

    def _close(
        self, sink: Sink, meta: Mapping[str, Any], *, quiet: bool = False
    ) -> None:
        self._opened = [other for other in self._opened if other is not sink]
        try:
            files = sink.close(meta)
        except Exception as error:
            # A sink that has just been named need not be named again.
            if not quiet:
                self._on_failure(_name(sink), error)
            return
        for kind, path in files.items():
            name, number = kind, 2
            while name in self._files:
                name, number = f"{kind}_{number}", number + 1
            self._files[name] = path


def _name(sink: Sink) -> str:
    return f"sink {type(sink).__name__}"
