"""What the threads of a run share: its state, why it ends, and what failed.

Design notes: decides nothing; the pipeline, the camera thread and the analysis do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from blinkloop.errors import BlinkloopError
from blinkloop.runtime.report import EndedBy
from blinkloop.runtime.run_settings import PipelineState
from blinkloop.runtime.worker import Worker

__all__ = ["RunControl", "one_line"]

_log = logging.getLogger(__name__)


class RunControl:
    """State, stop request and failures of a run; safe from any thread.

    Parameters
    ----------
    stop_source
        Called once, in a thread of its own, at the first request to stop.
    """

    def __init__(self, stop_source: Callable[[], None]) -> None:
        self._stop_source = stop_source
        self._stopper = Worker("stop", self._stop)
        self._lock = threading.Lock()
        self._state = PipelineState.IDLE
        self._ended_by: EndedBy | None = None
        self._stop_s: float | None = None
        self._failures: list[str] = []
        self._warnings: list[str] = []
        self.stopping = threading.Event()
        """Set once the run is to end; frames that wait are still analysed."""
        self.abort = threading.Event()
        """Set once frames that wait are to be given up."""
        self.finished = threading.Event()
        """Set once the books are closed; a thread that hung must not write on."""

    @property
    def state(self) -> PipelineState:
        """Where the run stands."""
        return self._state

    @state.setter
    def state(self, state: PipelineState) -> None:
        self._state = state

    @property
    def ended_by(self) -> EndedBy | None:
        """Why the run ends; None while it goes on."""
        return self._ended_by

    @property
    def failure(self) -> str | None:
        """All failures on one line, or None."""
        with self._lock:
            return "; ".join(self._failures) or None

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each."""
        with self._lock:
            return tuple(self._warnings)

    def begin(self) -> None:
        """Idle to running; a run happens once."""
        with self._lock:
            if self._state is not PipelineState.IDLE:
                raise RuntimeError("a pipeline runs once; make a new one")
            self._state = PipelineState.RUNNING

    def since_stop_s(self) -> float | None:
        """Seconds since the first request to stop; None before it."""
        return None if self._stop_s is None else time.perf_counter() - self._stop_s

    def request_stop(self, why: EndedBy) -> None:
        """Ask the run to end; the first reason counts."""
        with self._lock:
            if not self.stopping.is_set():
                self._ended_by, self._stop_s = why, time.perf_counter()
                self.stopping.set()
        # A camera that hangs must not keep its caller from closing the laser. Started
        # by whoever comes first; a Ctrl-C may have kept the first one from it.
        with self._lock, suppress(RuntimeError):
            self._stopper.start()
        with self._lock:
            if self._state in (PipelineState.IDLE, PipelineState.RUNNING):
                self._state = PipelineState.DRAINING

    def interrupted(self) -> None:
        """Ctrl-C: end the run; the second time, give up on what waits."""
        if self.stopping.is_set():
            self.abort.set()
        self.request_stop(EndedBy.INTERRUPT)

    def source_stopped(self, timeout: float) -> bool:
        """Wait until the source's `stop` has returned; whether it has."""
        return self._stopper.wait(timeout)

    def _stop(self) -> None:
        try:
            self._stop_source()
        except Exception as error:
            self.fail_aside("camera", error)

    def fail(self, who: str, error: BaseException) -> None:
        """Note a failure that ends the run."""
        self.fail_aside(who, error)
        self.request_stop(EndedBy.FAILURE)

    def fail_aside(self, who: str, error: BaseException) -> None:
        """Note a failure that the run survives."""
        self.note_failure(f"{who}: {one_line(error)}", error)

    def note_failure(self, text: str, error: BaseException | None = None) -> None:
        """Add one line to the failures; the traceback goes to a debug log."""
        with self._lock:
            self._failures.append(text)
        _log.error("%s", text)
        if error is not None:
            _log.debug("%s", text, exc_info=error)

    def warn(self, text: str) -> None:
        """Add one line to the warnings."""
        with self._lock:
            self._warnings.append(text)
        _log.warning("%s", text)


def one_line(error: BaseException) -> str:
    """The message of our own errors, type and message of others, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BlinkloopError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
