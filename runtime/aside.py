"""An observer that may take its time, in a thread of its own.

What the observers do comes before the next frame. A laser's feedback must; a check of
whether the data suit the model need not, and at the start of a run it took 80 ms.

Law: nobody waits for the observer. When it is so far behind that `capacity` calls wait,
it misses what comes; `missed` counts the results.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

from blinkloop.runtime.protocols import Observer
from blinkloop.runtime.records import FrameResult, Gap
from blinkloop.runtime.worker import Worker

__all__ = ["Aside"]

_END_S = 5.0
"""For the calls that wait."""
_CALL_S = 10.0
"""For the one it is in: a process that leaves a thread of ours behind has to be ended
without Python's own shut-down (`cli/_frame.py`)."""


class Aside:
    """Observer that hands everything on to another one, in that one's own thread.

    What that one raises is raised here, at the next call; it is not called again.

    Parameters
    ----------
    observer
        Its `observe`, `gap`, `close` and, once it is closed, `summary` are called.
    capacity
        Calls that may wait for it.
    """

    def __init__(self, observer: Observer, capacity: int = 256) -> None:
        self._observer = observer
        self._capacity = capacity
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._given_up = False
        self._thread: Worker | None = None
        self.missed = 0

    def observe(self, results: Sequence[FrameResult]) -> None:
        """Hand results on, later."""
        self._raise()
        if self._calls.qsize() >= self._capacity:
            self.missed += len(results)
            return
        self._later(lambda: self._observer.observe(results))

    def gap(self, gap: Gap) -> None:
        """Hand a gap on, in its place."""
        self._raise()
        self._later(lambda: self._observer.gap(gap))

    def close(self) -> None:
        """Let the observer see what waits, for some seconds at most; close it."""
        if self._thread is None:
            self._observer.close()
            return
        self._calls.put(None)
        if not self._thread.wait(_END_S):
            self._given_up = True
            self._thread.wait(_CALL_S)
        self._raise()

    def summary(self) -> dict[str, Any]:
        """What the observer says; nothing if it has no summary."""
        method = getattr(self._observer, "summary", None)
        return {} if method is None else dict(method())

    def _later(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        if self._thread is None:
            self._thread = Worker("aside", self._run)
            self._thread.start()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            while not self._given_up and (call := self._calls.get()) is not None:
                call()
        except BaseException as error:
            self._error = error
        try:
            self._observer.close()
        except BaseException as error:
            self._error = self._error or error
