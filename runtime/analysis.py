"""The analysis thread: hand-over -> localizer -> observers -> writer.

Design notes: knows protocols only. It ends when the hand-over is closed and empty, when
the localizer fails, when the source is silent for too long, or when told to give up;
then it closes the observers before anything slow, as a laser's safe value depends on
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from blinkloop.errors import InputError
from blinkloop.runtime.accounting import Ledger
from blinkloop.runtime.call_length import CallLength
from blinkloop.runtime.handover import Batch, Handover
from blinkloop.runtime.latency import LatencyMeter
from blinkloop.runtime.observing import ObserverGroup
from blinkloop.runtime.protocols import Localizer
from blinkloop.runtime.records import FrameResult, Gap
from blinkloop.runtime.report import EndedBy
from blinkloop.runtime.run_control import RunControl
from blinkloop.runtime.run_settings import PipelineSettings
from blinkloop.runtime.sinks.writer import SinkWriter
from blinkloop.runtime.steady import collect_when_due

__all__ = ["Analysis"]

_POLL_S = 0.05
_SOURCE_END_S = 2.0


class Analysis:
    """One object per run; `run` is the body of the analysis thread.

    Parameters
    ----------
    localizer, observers, writer
        Where frames and results go.
    ledger, control
        The books and the state of the run.
    settings
        Batch size and watchdog times.
    """

    def __init__(
        self,
        localizer: Localizer,
        observers: ObserverGroup,
        writer: SinkWriter,
        ledger: Ledger,
        control: RunControl,
        settings: PipelineSettings,
    ) -> None:
        self._localizer = localizer
        self._observers = observers
        self._writer = writer
        self._ledger = ledger
        self._control = control
        self._settings = settings
        self._lock = threading.Lock()
        self._localizations = 0
        self._tables_full = 0
        self.latency = LatencyMeter()
        self.slowest_s = 0.0
        """Longest time between two looks at the state of the run, so far."""

    @property
    def tallies(self) -> tuple[int, int]:
        """Localizations, and frames whose detection table was full, so far."""
        with self._lock:
            return self._localizations, self._tables_full

    def run(self, handover: Handover) -> None:
        """Analyse until the end; never raises."""
        started_s = time.perf_counter()
        failed = False
        try:
            self._loop(handover, started_s)
        except BaseException as error:
            failed = True
            self._control.fail("localizer", error)
        # Also after a failure: the last good frame may still be due.
        try:
            self._deliver(self._localizer.flush())
        except BaseException as error:
            if not failed:
                self._control.fail("localizer", error)
        self._observers.close()

    def missing(self, gap: Gap) -> None:
        """Book a gap and tell everyone."""
        self._ledger.missing(gap)
        self._observers.gap(gap)
        self._writer.gap(gap)

    def _loop(self, handover: Handover, started_s: float) -> None:
        # One slot stays with the camera, or it could only drop what comes in.
        most = min(self._settings.max_batch, max(handover.capacity - 1, 1))
        settings = self._settings
        length = CallLength(
            most, settings.call_s, handover.capacity, waits=settings.wait
        )
        while not self._control.abort.is_set():
            batch = handover.take(length.frames(handover.fill), _POLL_S)
            if batch is None:
                if not self._watch(handover.last_put_s or started_s):
                    return
                continue
            began_s = time.perf_counter()
            try:
                self._take_in(batch)
            finally:
                batch.release()
            took_s = time.perf_counter() - began_s
            self.slowest_s = max(self.slowest_s, took_s)
            length.took(len(batch.frames), took_s)
            if batch.last:
                if batch.error is not None:
                    self._control.fail("camera", batch.error)
                return

    def _take_in(self, batch: Batch) -> None:
        if batch.gaps:
            # A gap ends the segment, so its last result belongs before the gap.
            self._deliver(self._localizer.flush())
            for gap in batch.gaps:
                self.missing(gap)
        if not batch.frames:
            return
        self._ledger.pushed([frame.index for frame in batch.frames], batch.arrived_s)
        try:
            results = self._localizer.push(batch.frames)
        except InputError:
            if len(batch.frames) == 1:
                raise
            # None was taken; those before the one at fault are still good.
            for frame in batch.frames:
                self._deliver(self._localizer.push([frame]))
            return
        self._deliver(results)

    def _deliver(self, results: Sequence[FrameResult]) -> None:
        if not results or self._control.finished.is_set():
            return
        arrived_s, gaps = self._ledger.localized([result.index for result in results])
        now = time.perf_counter()
        for gap in gaps:
            self.missing(gap)
        self._observers.observe(results)
        # The laser is set; from here on nobody waits.
        self._observers.afterwards()
        for arrived in arrived_s:
            self.latency.add(now - arrived)
        with self._lock:
            for result in results:
                self._localizations += len(result.localizations)
                self._tables_full += bool(result.table_full)
        self._writer.put(results)
        collect_when_due()

    def _watch(self, last_frame_s: float) -> bool:
        """Look at a silent source while nothing waits; False when it is time to end."""
        silent_s = time.perf_counter() - last_frame_s
        since_stop_s = self._control.since_stop_s()
        if since_stop_s is not None:
            # A source that was told to stop and does not end is left behind.
            return since_stop_s <= _SOURCE_END_S
        if silent_s > self._settings.stall_s:
            self._observers.stall(silent_s)
        limit = self._settings.stall_abort_s
        if limit is None or silent_s <= limit:
            return True
        self._control.note_failure(
            f"camera: no frame for {silent_s:.1f} s, so the run was ended; check that "
            f"the camera is running and its trigger arrives"
        )
        self._control.request_stop(EndedBy.FAILURE)
        return False
