"""From a running camera to localizations on disk, with every frame accounted for.

    idle --run--> running --source ends, limit, stop, Ctrl-C--> draining --> done
                     |                                              |
                     +---- camera, localizer or stall failure ------+------> failed

Threads: the camera thread copies frames into the `Handover` and never waits; the
analysis thread localizes, tells the observers, then queues results for the writer
thread; the caller's thread only watches, so Ctrl-C never lands in a half-done analysis.

What a failure does: camera, localizer, stall -> the run ends, frames waiting are still
localized if that is possible; sink, observer -> it is closed and named, the run goes
on (and is called failed at its end). Whatever was localized reaches the sinks; sinks
and observers are closed always.

Design notes: knows protocols only; no camera, network, laser or file format.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.runtime.accounting import Account, Ledger
from blinkloop.runtime.analysis import Analysis
from blinkloop.runtime.handover import RUN_ENDED, Handover
from blinkloop.runtime.observing import ObserverGroup
from blinkloop.runtime.protocols import (
    FrameSource,
    Localizer,
    Observer,
    Recorder,
    Sink,
)
from blinkloop.runtime.records import Gap
from blinkloop.runtime.report import EndedBy, RunReport
from blinkloop.runtime.run_control import RunControl
from blinkloop.runtime.run_settings import (
    PipelineSettings,
    PipelineState,
    PipelineStatus,
)
from blinkloop.runtime.sinks.writer import SinkWriter
from blinkloop.runtime.worker import Worker, patiently

__all__ = ["Pipeline", "PipelineSettings", "PipelineState", "PipelineStatus"]

_POLL_S = 0.05
_THREAD_END_S = 2.0
_ASKED = (EndedBy.DURATION, EndedBy.STOP, EndedBy.INTERRUPT)


class Pipeline:
    """One run: source -> localizer -> observers -> sinks. Runs once.

    Parameters
    ----------
    source, localizer, sinks
        Stopped or closed by the run.
    observers
        Called in this order, before the sinks; put the feedback first. What else one
        may have: see `ObserverGroup`; its summary goes into `RunReport.extra`.
    settings
        See `PipelineSettings`.
    meta
        Facts of the run for the sinks (pixel size, model, camera, ...).
    recorder
        Keeps the raw frames; its summary is `raw` of `RunReport.extra`.
    """

    def __init__(
        self,
        source: FrameSource,
        localizer: Localizer,
        sinks: Sequence[Sink] = (),
        observers: Sequence[Observer] = (),
        settings: PipelineSettings | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._source = source
        self._recorder = recorder
        self._localizer = localizer
        self._settings = settings or PipelineSettings()
        self._meta = dict(meta or {})
        self._control = RunControl(source.stop)
        self._observers = ObserverGroup(observers, self._control.fail_aside)
        self._writer = SinkWriter(
            sinks, self._settings.writer_queue, self._control.fail_aside
        )
        self._ledger = Ledger()
        self._analysis = Analysis(
            localizer,
            self._observers,
            self._writer,
            self._ledger,
            self._control,
            self._settings,
        )
        self._handover: Handover | None = None
        self._started_s = 0.0
        self._ended_s: float | None = None

    def status(self) -> PipelineStatus:
        """Where the run stands; callable from any thread at any time."""
        ring = self._handover
        dropped = 0 if ring is None else ring.dropped
        seen, localized, skipped, lost = self._ledger.counts(dropped)
        localizations, tables_full = self._analysis.tallies
        latency_ms = self._analysis.latency.summary_ms()
        status = PipelineStatus(
            state=self._control.state,
            frames_seen=seen,
            frames_localized=localized,
            frames_skipped=skipped,
            frames_lost=lost,
            localizations=localizations,
            tables_full=tables_full,
            writer_fill=self._writer.fill,
            latency_ms_p50=latency_ms["p50"],
            latency_ms_p99=latency_ms["p99"],
            failure=self._control.failure,
        )
        if ring is None:
            return status
        now = self._ended_s or time.perf_counter()
        return replace(
            status,
            ring_fill=ring.fill,
            ring_frames=ring.capacity,
            ring_high_water=ring.high_water,
            overflowed=ring.overflowed,
            elapsed_s=now - self._started_s,
            silent_s=max(now - (ring.last_put_s or self._started_s), 0.0),
        )

    def stop(self) -> None:
        """Ask the run to end; from any thread. Frames that wait are still analysed."""
        self._control.request_stop(EndedBy.STOP)

    def run(
        self,
        max_frames: int | None = None,
        duration_s: float | None = None,
        stop_event: threading.Event | None = None,
    ) -> RunReport:
        """Run until the source ends, a limit is reached or a stop is asked for.

        Ctrl-C counts as a stop; a second one gives up on frames that wait. What fails
        once frames flow is in the report's `failure`, not raised.

        Parameters
        ----------
        max_frames
            Frames to take from the source.
        duration_s
            Seconds from the start of the source.
        stop_event
            Set from elsewhere to end the run.

        Raises
        ------
        BlinkloopError
            The source or a sink could not be started; nothing was recorded.
        """
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames must be at least 1, got {max_frames}")
        if duration_s is not None and not duration_s > 0:
            raise InputError(f"the duration must be above 0 s, got {duration_s}")
        self._control.begin()
        handover = self._start()
        camera = Worker("camera", self._produce, handover, max_frames)
        analysis = Worker("analysis", self._analysis.run, handover)
        try:
            camera.start()
            analysis.start()
            self._supervise(analysis, duration_s, stop_event)
        except KeyboardInterrupt:  # while another one was being handled
            self._control.interrupted()
            self._supervise(analysis, duration_s, stop_event)
        finally:
            report = self._finish(handover, camera, analysis)
        return report

    def _start(self) -> Handover:
        """Source, ring and sinks; undone when one of them cannot start."""
        settings = self._settings
        # The source last: while files are made, its own buffer would fill up.
        try:
            roi, dtype = self._source.roi, np.dtype(self._source.dtype)
            handover = Handover(
                settings.ring_capacity(roi.width * roi.height * dtype.itemsize),
                roi.height,
                roi.width,
                dtype,
                policy=settings.ring_policy,
                wait=settings.wait,
            )
            facts = {
                "width_px": roi.width,
                "height_px": roi.height,
                "roi_px": [roi.x, roi.y, roi.width, roi.height],
            }
            self._writer.open({**facts, **self._meta})
            if self._recorder is not None:
                self._recorder.open({**facts, **self._meta})
            self._source.start()
            self._started_s = time.perf_counter()
        except BaseException:
            self._writer.discard()
            with suppress(Exception):
                self._source.stop()
            if self._recorder is not None:
                self._recorder.discard()
            self._observers.close()
            with suppress(Exception):
                self._localizer.close()
            self._control.state = PipelineState.FAILED
            raise
        self._handover = handover
        return handover

    def _produce(self, handover: Handover, max_frames: int | None) -> None:
        """Body of the camera thread."""
        error: BaseException | None = None
        taken = 0
        why = EndedBy.SOURCE
        try:
            for frame in self._source.frames():
                if self._control.stopping.is_set():
                    break
                gap = self._ledger.arrived(int(frame.index))
                if gap is not None:
                    self._mark(handover, gap)
                handover.put(frame)
                if self._recorder is not None:
                    self._recorder.put(frame)
                taken += 1
                if taken == max_frames:
                    why = EndedBy.MAX_FRAMES
                    break
        except BaseException as raised:
            error = raised
        try:
            # Also after a failure: a ring that was full has lost a frame.
            gap = self._ledger.lost_at_end(int(self._source.lost))
            if gap is not None:
                self._mark(handover, gap)
        except BaseException as raised:
            error = error or raised
        if error is None:
            self._control.request_stop(why)
        handover.close(error)

    def _mark(self, handover: Handover, gap: Gap) -> None:
        handover.mark(gap)
        if self._recorder is not None:
            self._recorder.mark(gap)

    def _supervise(
        self,
        analysis: Worker,
        duration_s: float | None,
        stop_event: threading.Event | None,
    ) -> None:
        """Watch limits and Ctrl-C until the analysis has ended, or is given up."""
        control = self._control
        abort_s: float | None = None
        ended = False
        while not ended:
            try:
                ended = analysis.wait(_POLL_S)
                now = time.perf_counter()
                if duration_s is not None and now - self._started_s >= duration_s:
                    control.request_stop(EndedBy.DURATION)
                if stop_event is not None and stop_event.is_set():
                    control.request_stop(EndedBy.STOP)
                # Frames that wait when the source ended by itself are all wanted.
                drained_s = control.since_stop_s() or 0.0
                if control.ended_by in _ASKED and drained_s > self._settings.drain_s:
                    control.abort.set()
                if control.abort.is_set():
                    abort_s = abort_s or now
                    patience_s = max(
                        self._settings.hung_s, 3 * self._analysis.slowest_s
                    )
                    if now - abort_s > patience_s:
                        control.note_failure(
                            "analysis: the localizer, an observer or a sink hung; it "
                            "was left behind"
                        )
                        return
            except KeyboardInterrupt:
                control.interrupted()

    def _finish(
        self,
        handover: Handover,
        camera: Worker,
        analysis: Worker,
    ) -> RunReport:
        control = self._control
        control.request_stop(EndedBy.FAILURE)
        self._observers.close()
        handover.cancel()
        if not patiently(lambda: camera.wait(_POLL_S), _THREAD_END_S):
            control.warn("the camera thread did not end")
        if not patiently(lambda: control.source_stopped(_POLL_S), _THREAD_END_S):
            control.warn("the source did not stop")
        control.finished.set()
        if analysis.wait(0):
            with suppress(Exception):
                self._localizer.close()
        last_gaps = (*self._ledger.fail_pending(), *handover.discard(RUN_ENDED))
        for gap in last_gaps:
            self._ledger.missing(gap)
        account = self._ledger.close(handover.dropped)
        for problem in account.problems:
            control.note_failure(f"accounting: {problem}")
        self._ended_s = time.perf_counter()
        report = self._report(account, handover)
        if self._recorder is not None:
            self._close_recorder(self._recorder, report)
            report = report.with_keys(raw=self._recorder.summary())
        self._close_sinks(report, account, last_gaps)
        report = replace(
            report,
            files=self._writer.files,
            failure=control.failure,
            warnings=control.warnings,
            frames_unwritten=self._writer.unwritten,
            writer_waits=self._writer.waits,
            writer_wait_s=self._writer.wait_s,
        )
        failed = report.failure is not None
        control.state = PipelineState.FAILED if failed else PipelineState.DONE
        return report

    def _close_recorder(self, recorder: Recorder, report: RunReport) -> None:
        run = report.to_dict()
        del run["gaps"]
        problems: list[str] = []
        closer = Worker(
            "close-raw", lambda: problems.extend(recorder.close({"run": run}))
        )
        closer.start()
        if not patiently(lambda: closer.wait(_POLL_S), self._settings.close_s):
            problems.append("the raw data were left before they were all written")
        for problem in problems:
            self._control.note_failure(problem)

    def _close_sinks(
        self, report: RunReport, account: Account, last_gaps: Sequence[Gap]
    ) -> None:
        run = report.to_dict()
        # The sinks were told of every gap as it came.
        del run["gaps"], run["files"]
        meta = {"run": run, "frames": self._meta.get("frames", account.end)}
        # In a thread of its own, as the queue of a sink that hangs stays full.
        closer = Worker("close", self._writer.finish, meta, last_gaps)
        closer.start()
        limit_s = self._settings.close_s
        if not patiently(
            lambda: closer.wait(_POLL_S) and self._writer.wait(_POLL_S), limit_s
        ):
            self._writer.abandon()
            self._control.note_failure(
                "sinks: they were left before they had written everything; the last "
                "results may be missing from the files"
            )

    def _report(self, account: Account, handover: Handover) -> RunReport:
        localizations, tables_full = self._analysis.tallies
        ended_s = self._ended_s or self._started_s
        return RunReport(
            frames_seen=account.seen,
            frames_localized=account.localized,
            frames_skipped=account.skipped,
            frames_lost=account.lost,
            localizations=localizations,
            tables_full=tables_full,
            latency_ms=self._analysis.latency.summary_ms(),
            elapsed_s=ended_s - self._started_s,
            ended_by=self._control.ended_by or EndedBy.FAILURE,
            gaps=account.gaps,
            failure=self._control.failure,
            ring_frames=handover.capacity,
            ring_high_water=handover.high_water,
            extra=self._observers.summary(),
        )
