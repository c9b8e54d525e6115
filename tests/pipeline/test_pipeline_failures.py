"""What breaks is named in one line, and nothing already localized is lost."""

from __future__ import annotations

import _thread
import re
import sys
import threading
from collections.abc import Callable

import pytest
from busy import PATIENCE_S, wait_for
from pipeline_doubles import (
    DoubleLocalizer,
    DoubleObserver,
    DoubleSink,
    DoubleSource,
)

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.accounting import ANALYSIS_FAILED
from blinkloop.runtime.handover import RUN_ENDED, UNUSABLE
from blinkloop.runtime.pipeline import Pipeline, PipelineSettings, PipelineState
from blinkloop.runtime.records import Gap
from blinkloop.runtime.report import EndedBy

WAIT = PipelineSettings(ring_frames=50, wait=True, max_batch=1)


def supervising() -> bool:
    """Whether the main thread waits for the analysis: where a Ctrl-C finds it."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    while frame.f_back is not None:
        called, by = frame.f_code, frame.f_back.f_code
        if (called.co_name, by.co_name) == ("wait", "_supervise"):
            return True
        frame = frame.f_back
    return False


def interrupts(*conditions: Callable[[], bool]) -> threading.Thread:
    """Ctrl-C as each of the conditions has become true, one after the other."""

    def press() -> None:
        for condition in conditions:
            assert wait_for(lambda ready=condition: ready() and supervising())
            _thread.interrupt_main()

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(DeviceError("camera gone"), "camera: camera gone", id="ours"),
        pytest.param(OSError("usb\nreset"), "camera: OSError: usb reset", id="other"),
    ],
)
def test_a_camera_that_disappears(error: Exception, text: str) -> None:
    observer, sink = DoubleObserver(), DoubleSink()
    pipeline = Pipeline(
        DoubleSource(range(6), error=error), DoubleLocalizer(), [sink], [observer], WAIT
    )
    report = pipeline.run()
    assert report.failure == text
    assert report.ended_by is EndedBy.FAILURE
    assert sink.frames == list(range(6))
    assert sink.closed == observer.closed == 1
    assert pipeline.status().state is PipelineState.FAILED
    assert sink.final["run"]["failure"] == text


def test_frame_numbers_that_fall_back() -> None:
    sink = DoubleSink()
    source = DoubleSource([0, 1, 2, 1])
    report = Pipeline(source, DoubleLocalizer(), [sink], settings=WAIT).run()
    assert report.failure is not None
    assert "frame 1 came after frame 2" in report.failure
    assert sink.frames == [0, 1, 2]
    assert report.frames_seen == 3


def test_a_frame_of_another_size() -> None:
    source = DoubleSource(range(5), shapes={3: (4, 4)})
    report = Pipeline(source, DoubleLocalizer(), settings=WAIT).run()
    assert report.failure is not None
    assert "keep the region of interest" in report.failure
    assert report.gaps == (Gap(3, 1, UNUSABLE),)
    assert report.frames_seen == 4


def test_a_backend_that_crashes() -> None:
    observer, sink = DoubleObserver(), DoubleSink()
    source = DoubleSource(range(1000), period_s=0.001)
    localizer = DoubleLocalizer(fail_at=5)
    report = Pipeline(source, localizer, [sink], [observer], WAIT).run()
    assert report.failure == "localizer: RuntimeError: backend crashed badly"
    # Frame 4 waited in the localizer, whose flush still gave it.
    assert sink.frames == [0, 1, 2, 3, 4]
    assert report.gaps[0].first == 5
    assert report.gaps[0].reason == ANALYSIS_FAILED
    assert {gap.reason for gap in report.gaps[1:]} <= {RUN_ENDED}
    assert report.frames_seen == 5 + report.frames_skipped
    assert localizer.closed == sink.closed == observer.closed == 1
    assert source.stopped.is_set()
    assert sum(gap.count for gap in sink.gaps) == report.frames_skipped


def test_frames_before_a_bad_one_in_the_same_batch_are_kept() -> None:
    source, gate = DoubleSource(range(8)), threading.Event()
    localizer = DoubleLocalizer(
        fail_at=5, error=InputError("frame 5 is bad"), gate=gate
    )
    opener = threading.Thread(
        target=lambda: (source.stopped.wait(PATIENCE_S), gate.set())
    )
    opener.start()
    sink = DoubleSink()
    report = Pipeline(
        source, localizer, [sink], settings=PipelineSettings(ring_frames=20)
    ).run()
    opener.join()
    assert report.failure == "localizer: frame 5 is bad"
    assert sink.frames == [0, 1, 2, 3, 4]
    assert report.frames_skipped == 3


@pytest.mark.parametrize("where", ["write", "gap", "close"])
def test_a_sink_that_fails_is_closed_and_named_and_the_run_goes_on(where: str) -> None:
    bad, good, observer = DoubleSink(raise_at=where), DoubleSink(), DoubleObserver()
    source = DoubleSource([*range(10), *range(12, 20)])
    pipeline = Pipeline(source, DoubleLocalizer(), [bad, good], [observer], WAIT)
    report = pipeline.run()
    assert report.failure == (
        "sink DoubleSink: OSError: [Errno 28] No space left on device"
    )
    assert good.frames == list(source.indices)
    assert report.frames_localized == 18
    assert bad.closed == good.closed == 1
    assert report.ended_by is EndedBy.SOURCE
    assert pipeline.status().state is PipelineState.FAILED


@pytest.mark.parametrize("where", ["observe", "gap", "close"])
def test_an_observer_that_fails_is_closed_once_and_named(where: str) -> None:
    bad, good, sink = DoubleObserver(raise_at=where), DoubleObserver(), DoubleSink()
    source = DoubleSource([*range(10), *range(12, 20)])
    report = Pipeline(source, DoubleLocalizer(), [sink], [bad, good], WAIT).run()
    assert report.failure == "observer DoubleObserver: ValueError: observer broke"
    assert bad.closed == good.closed == 1
    assert sink.frames == list(source.indices)
    expected = {"observe": 1, "gap": 11, "close": 19}[where]
    assert len(bad.events) == expected
    assert len(good.events) == 19


class PatientObserver(DoubleObserver):
    """Has something to do that can wait until the others have seen a frame."""

    def __init__(self, other: DoubleObserver, fail_at: int) -> None:
        super().__init__()
        self.other, self.fail_at = other, fail_at
        self.seen_by_both: list[tuple[int, int]] = []

    def afterwards(self) -> None:
        self.seen_by_both.append((len(self.events), len(self.other.events)))
        if len(self.seen_by_both) == self.fail_at:
            raise OSError("cannot tidy up")


def test_what_can_wait_comes_after_all_observers_and_may_fail() -> None:
    other = DoubleObserver()
    patient = PatientObserver(other, fail_at=3)
    pipeline = Pipeline(
        DoubleSource(range(6)), DoubleLocalizer(), [], [patient, other], settings=WAIT
    )
    report = pipeline.run()
    assert patient.seen_by_both == [(1, 1), (2, 2), (3, 3)]
    assert patient.closed == 1
    assert len(other.events) == 6
    assert report.failure is not None
    assert "observer PatientObserver: OSError: cannot tidy up" in report.failure


def test_a_summary_that_fails_is_named() -> None:
    observer = DoubleObserver()
    observer.summary = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    report = Pipeline(DoubleSource([0]), DoubleLocalizer(), [], [observer], WAIT).run()
    assert report.failure is not None
    assert "ZeroDivisionError" in report.failure
    assert report.frames_localized == 1


def test_a_slow_disk_holds_the_analysis_up_but_not_the_camera() -> None:
    """The disk stands still until the camera has delivered everything."""
    source, gate = DoubleSource(range(100)), threading.Event()
    sink, held_up = DoubleSink(gate=gate), []

    def open_gate() -> None:
        # The first writes wait at the gate, or the camera was too fast for any.
        held_up.append(not source.stopped.wait(PATIENCE_S))
        gate.set()

    # Not before the queue to the disk is full.
    source.during = {50: lambda: sink.entered.wait(PATIENCE_S)}
    opener = threading.Thread(target=open_gate)
    opener.start()
    report = Pipeline(
        source,
        DoubleLocalizer(),
        [sink],
        settings=PipelineSettings(ring_frames=4, max_batch=1, writer_queue=1),
    ).run()
    opener.join()
    assert held_up == [False]
    assert report.failure is None
    assert report.writer_waits > 0
    assert report.writer_wait_s > 0
    assert len(sink.frames) == report.frames_localized


def test_a_disk_that_hangs_ends_in_a_report() -> None:
    gate, observer = threading.Event(), DoubleObserver()
    sink = DoubleSink(gate=gate)
    settings = PipelineSettings(
        ring_frames=4, max_batch=1, writer_queue=1, drain_s=0.1, hung_s=0.1, close_s=0.1
    )
    source = DoubleSource(range(10**6), period_s=0.001)
    pipeline = Pipeline(source, DoubleLocalizer(), [sink], [observer], settings)
    report = pipeline.run(stop_event=sink.entered)
    gate.set()
    assert report.failure is not None
    assert "sinks: they were left" in report.failure
    assert observer.closed == 1
    assert report.frames_seen == (
        report.frames_localized + report.frames_skipped + report.frames_lost
    )


def test_a_localizer_that_hangs_does_not_keep_the_observers_open() -> None:
    gate, observer = threading.Event(), DoubleObserver()
    settings = PipelineSettings(ring_frames=4, drain_s=0.05, hung_s=0.05)
    source = DoubleSource(range(10**6), period_s=0.001)
    sink = DoubleSink()
    localizer = DoubleLocalizer(gate=gate)
    pipeline = Pipeline(source, localizer, [sink], [observer], settings)
    report = pipeline.run(stop_event=localizer.entered)
    assert observer.closed == 1
    assert report.failure is not None
    assert "hung" in report.failure
    assert report.frames_localized == 0
    assert report.frames_seen == report.frames_skipped > 0
    gate.set()
    assert sink.frames == []


def test_a_silent_camera_is_told_to_observers_and_ends_the_run() -> None:
    observer, sink = DoubleObserver(), DoubleSink()
    settings = PipelineSettings(stall_s=0.05, stall_abort_s=1.0)
    source = DoubleSource(range(3), silent_s=60)
    report = Pipeline(source, DoubleLocalizer(), [sink], [observer], settings).run()
    assert observer.stalls
    assert min(observer.stalls) > 0.05
    assert report.failure is not None
    silent_s = re.match(r"camera: no frame for ([\d.]+) s", report.failure)
    assert silent_s is not None
    assert float(silent_s[1]) >= 1.0
    assert sink.frames == [0, 1, 2]
    assert observer.closed == 1


def test_a_camera_that_never_delivers() -> None:
    settings = PipelineSettings(stall_s=0.05, stall_abort_s=0.1)
    report = Pipeline(
        DoubleSource([], silent_s=60), DoubleLocalizer(), settings=settings
    ).run()
    assert report.failure is not None
    assert report.frames_seen == 0


def test_ctrl_c_finalises_and_reports() -> None:
    source = DoubleSource(range(10**6), period_s=0.002)
    sink, observer = DoubleSink(), DoubleObserver()
    pipeline = Pipeline(source, DoubleLocalizer(), [sink], [observer], WAIT)
    interrupter = interrupts(sink.entered.is_set)
    report = pipeline.run()
    interrupter.join()
    assert report.ended_by is EndedBy.INTERRUPT
    assert report.failure is None
    assert sink.frames == list(range(report.frames_localized))
    assert sink.closed == observer.closed == 1
    assert report.files == {"double": "nowhere"}


def test_a_second_ctrl_c_gives_up_on_what_waits() -> None:
    """One would be analysed every 50 ms, for an hour if it takes so long."""
    source = DoubleSource(range(10**6), period_s=0.0005)
    localizer, sink = DoubleLocalizer(delay_s=0.05), DoubleSink()
    settings = PipelineSettings(ring_frames=1000, max_batch=1, drain_s=3600.0)
    pipeline = Pipeline(source, localizer, [sink], settings=settings)
    filled = threading.Event()
    source.during = {1000: filled.set}
    interrupter = interrupts(
        filled.is_set, lambda: pipeline.status().state is PipelineState.DRAINING
    )
    report = pipeline.run()
    interrupter.join()
    assert report.ended_by is EndedBy.INTERRUPT
    assert report.gaps[-1].reason == RUN_ENDED
    # The camera may have overtaken the full ring before it was stopped.
    assert len(sink.frames) == report.frames_localized
    assert sink.frames == sorted(set(sink.frames))
    assert report.frames_seen == report.frames_localized + report.frames_skipped
