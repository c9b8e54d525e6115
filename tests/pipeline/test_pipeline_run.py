"""The whole pipeline between doubles of its ends: every frame accounted for."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from busy import PATIENCE_S
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import (
    HEIGHT,
    WIDTH,
    DoubleLocalizer,
    DoubleObserver,
    DoubleSink,
    DoubleSource,
    assert_rows_equal,
    make_result,
)

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.accounting import LOST, LOST_AT_END
from blinkloop.runtime.handover import HANDOVER_FULL
from blinkloop.runtime.pipeline import Pipeline, PipelineSettings, PipelineState
from blinkloop.runtime.records import Gap
from blinkloop.runtime.report import EndedBy, RunReport
from blinkloop.runtime.sinks import MemorySink

WAIT = PipelineSettings(ring_frames=4, wait=True, max_batch=3)


def check(report: RunReport, observer: DoubleObserver, sink: DoubleSink) -> None:
    """The account adds up, and everyone was told the same."""
    assert report.frames_seen == (
        report.frames_localized + report.frames_skipped + report.frames_lost
    )
    listed = sum(gap.count for gap in report.gaps)
    assert listed == report.frames_skipped + report.frames_lost
    numbers = [number for what, number in observer.events if what == "frame"]
    assert sink.frames == numbers == sorted(numbers)
    assert len(numbers) == report.frames_localized
    assert sorted(sink.gaps, key=lambda gap: gap.first) == list(report.gaps)
    missing = {n for g in report.gaps for n in range(g.first, g.first + g.count)}
    assert not missing & set(numbers)
    assert len(missing) == listed


@settings(max_examples=40)
@given(
    jumps=st.lists(st.integers(1, 4), max_size=40),
    first=st.integers(0, 5),
    lost=st.integers(0, 3),
    ring=st.integers(1, 5),
    batch=st.integers(1, 4),
    policy=st.sampled_from(["latest", "newest"]),
    wait=st.booleans(),
    slow=st.sampled_from([0.0, 0.0005]),
    swallow=st.frozensets(st.integers(0, 60), max_size=3),
)
def test_every_frame_is_accounted_for(
    jumps: list[int],
    first: int,
    lost: int,
    ring: int,
    batch: int,
    policy: str,
    wait: bool,
    slow: float,
    swallow: frozenset[int],
) -> None:
    indices = (first - 1 + np.cumsum(jumps)).astype(int).tolist()
    localizer = DoubleLocalizer(delay_s=slow, swallow=swallow)
    observer, sink = DoubleObserver(), DoubleSink()
    report = Pipeline(
        DoubleSource(indices, lost=lost),
        localizer,
        [sink],
        [observer],
        PipelineSettings(
            ring_frames=ring,
            max_batch=batch,
            ring_policy=policy,  # type: ignore[arg-type]
            wait=wait,
            writer_queue=2,
        ),
    ).run()
    assert report.failure is None
    assert localizer.torn == []
    span = indices[-1] - indices[0] + 1 if indices else 0
    assert report.frames_seen == span + lost
    assert report.frames_lost == span - len(indices) + lost
    if wait:
        assert report.frames_skipped == len(swallow & set(indices))
    check(report, observer, sink)
    assert report.localizations == sum(n % 4 for n in sink.frames)
    assert observer.closed == sink.closed == localizer.closed == 1


def test_gaps_lie_between_the_results_around_them() -> None:
    observer = DoubleObserver()
    report = Pipeline(
        DoubleSource([0, 1, 4, 5], lost=2), DoubleLocalizer(), [], [observer], WAIT
    ).run()
    assert observer.events == [
        ("frame", 0),
        ("frame", 1),
        ("gap", Gap(2, 2, LOST)),
        ("frame", 4),
        ("frame", 5),
        ("gap", Gap(6, 2, LOST_AT_END)),
    ]
    assert report.ended_by is EndedBy.SOURCE


def test_what_the_sinks_get() -> None:
    sink, memory = DoubleSink(), MemorySink()
    report = Pipeline(
        DoubleSource(range(2, 12)),
        DoubleLocalizer(),
        [sink, memory],
        [DoubleObserver(summary={"laser_commands": 3, "frames_seen": -1})],
        WAIT,
        meta={"pixel_size_nm": 100.0},
    ).run()
    assert sink.meta == {
        "pixel_size_nm": 100.0,
        "width_px": WIDTH,
        "height_px": HEIGHT,
        "roi_px": [3, 7, WIDTH, HEIGHT],
    }
    assert sink.final["frames"] == 12
    assert sink.final["run"]["frames_localized"] == 10
    expected = np.concatenate([make_result(n).localizations for n in range(2, 12)])
    assert_rows_equal(memory.table().data, expected)
    np.testing.assert_array_equal(memory.frames()["index"], np.arange(2, 12))
    assert memory.frames()["rows_end"][-1] == report.localizations == len(expected)
    assert report.files == {"double": "nowhere"}
    assert report.tables_full == 1
    text = json.loads(report.to_json())
    assert text["laser_commands"] == 3
    assert text["frames_seen"] == 10
    assert set(text["latency_ms"]) == {"p50", "p95", "p99", "max"}
    assert 0 < text["latency_ms"]["p50"] <= text["latency_ms"]["max"]
    assert text["ended_by"] == "source ended"


@pytest.mark.parametrize("indices", [[], [0], [7]], ids=["none", "one", "one late"])
def test_tiny_runs(indices: list[int]) -> None:
    observer, sink = DoubleObserver(), DoubleSink()
    pipeline = Pipeline(
        DoubleSource(indices), DoubleLocalizer(), [sink], [observer], WAIT
    )
    assert pipeline.status().state is PipelineState.IDLE
    report = pipeline.run()
    assert report.frames_localized == report.frames_seen == len(indices)
    check(report, observer, sink)
    if not indices:
        assert json.loads(report.to_json())["latency_ms"]["p50"] is None
    status = pipeline.status()
    assert status.state is PipelineState.DONE
    assert status.frames_localized == len(indices)


def test_a_slow_analysis_skips_and_never_holds_the_camera_up() -> None:
    gate = threading.Event()
    source = DoubleSource(range(300))
    localizer = DoubleLocalizer(gate=gate)
    observer, sink = DoubleObserver(), DoubleSink()
    pipeline = Pipeline(
        source,
        localizer,
        [sink],
        [observer],
        PipelineSettings(ring_frames=5, max_batch=2),
    )
    # The localizer is stuck until the source has delivered everything.
    held_up: list[bool] = []

    def open_gate() -> None:
        held_up.append(not source.stopped.wait(PATIENCE_S))
        gate.set()

    opener = threading.Thread(target=open_gate)
    opener.start()
    report = pipeline.run()
    opener.join()
    assert held_up == [False]
    assert report.frames_skipped >= 290
    assert report.gaps[0].reason == HANDOVER_FULL
    assert report.ring_high_water == 5
    assert pipeline.status().overflowed
    check(report, observer, sink)


def test_it_batches_when_behind() -> None:
    source, gate = DoubleSource(range(10)), threading.Event()
    localizer = DoubleLocalizer(gate=gate)
    opener = threading.Thread(
        target=lambda: (source.stopped.wait(PATIENCE_S), gate.set())
    )
    opener.start()
    settings_ = PipelineSettings(ring_frames=20, max_batch=4)
    report = Pipeline(source, localizer, settings=settings_).run()
    opener.join()
    assert report.frames_localized == 10
    assert max(localizer.batches) == 4


def test_max_frames() -> None:
    source = DoubleSource(range(0, 100, 2))
    report = Pipeline(source, DoubleLocalizer(), settings=WAIT).run(max_frames=4)
    assert report.ended_by is EndedBy.MAX_FRAMES
    assert (report.frames_localized, report.frames_lost) == (4, 3)
    assert source.stopped.is_set()


def test_duration() -> None:
    source = DoubleSource(range(10**6), period_s=0.002)
    report = Pipeline(source, DoubleLocalizer()).run(duration_s=0.3)
    assert report.ended_by is EndedBy.DURATION
    assert report.frames_localized == report.frames_seen
    # Frames would come for half an hour.
    assert 0.3 <= report.elapsed_s < 60


@pytest.mark.parametrize("how", ["event", "method"])
def test_stop(how: str) -> None:
    source = DoubleSource(range(10**6), period_s=0.002)
    pipeline, event = Pipeline(source, DoubleLocalizer()), threading.Event()
    stop = event.set if how == "event" else pipeline.stop
    source.during = {20: stop}
    report = pipeline.run(stop_event=event)
    assert report.ended_by is EndedBy.STOP
    assert report.failure is None


def test_a_pipeline_runs_once() -> None:
    pipeline = Pipeline(DoubleSource([0]), DoubleLocalizer())
    pipeline.run()
    with pytest.raises(RuntimeError, match="once"):
        pipeline.run()


@pytest.mark.parametrize("limits", [{"max_frames": 0}, {"duration_s": -1.0}])
def test_bad_limits(limits: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Pipeline(DoubleSource([0]), DoubleLocalizer()).run(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"ring_frames": 0}, {"stall_s": 0.0}, {"ring_mb": float("nan")}]
)
def test_bad_settings(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        PipelineSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame_bytes", "frames"),
    [(512, 1024), (2 * 1024**2, 32), (10**9, 8)],
    ids=["small", "middle", "huge"],
)
def test_ring_capacity(frame_bytes: int, frames: int) -> None:
    assert PipelineSettings().ring_capacity(frame_bytes) == frames


def test_with_keys_adds_to_the_report() -> None:
    report = Pipeline(DoubleSource([0]), DoubleLocalizer()).run()
    more = report.with_keys(jaccard=np.float64(0.5), rmse_lateral_nm=float("nan"))
    text = json.loads(more.to_json())
    assert text["jaccard"] == 0.5
    assert text["rmse_lateral_nm"] is None


@pytest.mark.parametrize(
    "who", ["source", "sink"], ids=["camera does not start", "sink does not open"]
)
def test_what_cannot_start_is_raised_and_undone(who: str) -> None:
    error = DeviceError("no camera") if who == "source" else None
    source = DoubleSource([0], start_error=error)
    localizer, observer, good = DoubleLocalizer(), DoubleObserver(), DoubleSink()
    sinks = [good, DoubleSink(raise_at="open" if who == "sink" else "")]
    pipeline = Pipeline(source, localizer, sinks, [observer])
    with pytest.raises((DeviceError, OSError)):
        pipeline.run()
    assert localizer.closed == observer.closed == 1
    assert good.opened == good.closed == 1
    assert source.stopped.is_set()
    assert pipeline.status().state is PipelineState.FAILED


def test_a_source_that_hangs_in_stop_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blinkloop.runtime.pipeline._THREAD_END_S", 0.1)
    gate, source, observer = threading.Event(), DoubleSource([0, 1]), DoubleObserver()
    source.stop = lambda: gate.wait(20)  # type: ignore[method-assign,assignment,return-value]
    report = Pipeline(source, DoubleLocalizer(), [], [observer], WAIT).run(max_frames=2)
    gate.set()
    assert report.warnings == ("the source did not stop",)
    assert report.frames_localized == 2
    assert observer.closed == 1
