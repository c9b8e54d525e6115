"""An observer in a thread of its own: nobody waits for it, and it misses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from busy import PATIENCE_S
from pipeline_doubles import DoubleLocalizer, DoubleSource

from blinkloop.runtime import aside
from blinkloop.runtime.aside import Aside
from blinkloop.runtime.pipeline import Pipeline
from blinkloop.runtime.records import FrameResult, Gap, Roi
from blinkloop.schema import LOCALIZATION_DTYPE


def _result(index: int) -> FrameResult:
    return FrameResult(
        index=index,
        timestamp_s=0.0,
        roi=Roi(0, 0, 5, 3),
        segment=0,
        localizations=np.zeros(0, LOCALIZATION_DTYPE),
        table_full=False,
        count_mean=0.0,
        count_variance=0.0,
        block_mean=np.zeros((1, 1), np.float32),
    )


class Slow:
    """Waits for `go` at the first result; notes what it sees."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.seen: list[object] = []
        self.closed = 0
        self.fails_at: int | None = None
        self.thread = ""

    def observe(self, results: Sequence[FrameResult]) -> None:
        self.go.wait(2 * PATIENCE_S)
        self.thread = threading.current_thread().name
        if self.fails_at in [result.index for result in results]:
            raise RuntimeError("no such pixel")
        self.seen += [result.index for result in results]

    def gap(self, gap: Gap) -> None:
        self.seen.append((gap.first, gap.count))

    def close(self) -> None:
        self.closed += 1

    def summary(self) -> dict[str, Any]:
        return {"seen": len(self.seen)}


def test_nobody_waits_and_everything_arrives_in_order() -> None:
    slow = Slow()
    observer = Aside(slow)
    start = time.perf_counter()
    observer.observe([_result(0)])
    observer.observe([_result(1), _result(2)])
    observer.gap(Gap(3, 2, "lost"))
    observer.observe([_result(5)])
    assert time.perf_counter() - start < PATIENCE_S
    assert slow.seen == []
    slow.go.set()
    observer.close()
    assert slow.seen == [0, 1, 2, (3, 2), 5]
    assert slow.closed == 1
    assert slow.thread == "blinkloop-aside"
    assert observer.summary() == {"seen": 5}
    assert observer.missed == 0


def test_what_finds_no_room_is_counted() -> None:
    slow = Slow()
    observer = Aside(slow, capacity=3)
    for index in range(10):
        observer.observe([_result(index)])
    slow.go.set()
    observer.close()
    # One may be in its hands already while three wait.
    assert len(slow.seen) in (3, 4)
    assert slow.seen == list(range(len(slow.seen)))
    assert observer.missed == 10 - len(slow.seen)


def test_what_it_raises_is_named_once_and_the_run_goes_on() -> None:
    slow = Slow()
    slow.go.set()
    slow.fails_at = 3
    report = Pipeline(
        DoubleSource(range(40), period_s=0.005),
        DoubleLocalizer(),
        observers=[Aside(slow)],
    ).run()
    assert report.frames_localized == 40
    assert report.failure == "observer Aside: RuntimeError: no such pixel"
    assert slow.seen == [0, 1, 2]
    assert slow.closed == 1


def test_a_failure_at_the_very_end_is_told_by_close() -> None:
    slow = Slow()
    slow.fails_at = 0
    observer = Aside(slow)
    observer.observe([_result(0)])
    slow.go.set()
    with pytest.raises(RuntimeError, match="no such pixel"):
        observer.close()
    assert slow.closed == 1


def test_one_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_END_S", 0.05)
    monkeypatch.setattr(aside, "_CALL_S", 0.05)
    slow = Slow()
    observer = Aside(slow)
    for index in range(3):
        observer.observe([_result(index)])
    start = time.perf_counter()
    observer.close()
    assert time.perf_counter() - start < PATIENCE_S
    slow.go.set()
    assert observer._thread is not None
    assert observer._thread.wait(PATIENCE_S)
    # The call it was in came to its end; those that waited were not made.
    assert slow.seen == [0]


def test_the_call_it_is_in_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is left behind, whatever waits."""
    monkeypatch.setattr(aside, "_END_S", 0.02)
    slow = Slow()
    observer = Aside(slow)
    for index in range(3):
        observer.observe([_result(index)])
    threading.Timer(0.1, slow.go.set).start()
    observer.close()
    assert slow.seen == [0]
    assert observer._thread is not None
    assert observer._thread.wait(0)


def test_without_any_call_there_is_no_thread() -> None:
    before = set(threading.enumerate())
    silent = Slow()
    observer = Aside(silent)
    assert set(threading.enumerate()) == before
    observer.close()
    assert silent.closed


class Silent:
    """Has no summary."""

    def observe(self, results: Sequence[FrameResult]) -> None:
        """See results."""

    def gap(self, gap: Gap) -> None:
        """See a gap."""

    def close(self) -> None:
        """Nothing to close."""


def test_an_observer_without_a_summary_has_none() -> None:
    observer = Aside(Silent())
    observer.close()
    assert observer.summary() == {}
