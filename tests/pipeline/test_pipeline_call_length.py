"""A call is as long as a run may take to react, on a computer of any speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from pipeline_doubles import DoubleLocalizer, DoubleSource

from blinkloop.runtime.pipeline import Pipeline, PipelineSettings
from blinkloop.runtime.records import Frame, FrameResult


class SlowLocalizer(DoubleLocalizer):
    """Takes so long for each frame, as a network does."""

    def __init__(self, frame_s: float) -> None:
        super().__init__()
        self.frame_s = frame_s

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        time.sleep(self.frame_s * len(frames))
        return super().push(frames)


@pytest.mark.parametrize(
    ("frame_s", "most"),
    [
        pytest.param(0.01, 6, id="a few frames"),
        pytest.param(0.05, 4, id="never fewer than context needs"),
    ],
)
def test_calls_are_short_when_frames_are_slow(frame_s: float, most: int) -> None:
    localizer = SlowLocalizer(frame_s)
    settings = PipelineSettings(ring_frames=64, max_batch=16, wait=True, call_s=0.06)
    report = Pipeline(DoubleSource(range(60)), localizer, settings=settings).run()
    assert report.frames_localized == 60
    # The first two calls are made before anything was measured.
    assert max(localizer.batches[2:]) <= most
    assert min(localizer.batches[2:-1]) >= 4


def test_a_call_that_is_long_by_nature_is_waited_for() -> None:
    """Longer than `hung_s`, but no longer than the calls before it."""
    localizer = SlowLocalizer(0.15)
    settings = PipelineSettings(max_batch=4, call_s=0.1, drain_s=0.1, hung_s=0.2)
    source = DoubleSource(range(1000), period_s=0.005)
    report = Pipeline(source, localizer, settings=settings).run(duration_s=1.5)
    assert report.failure is None
    assert report.frames_localized >= 4
    seen = report.frames_localized + report.frames_skipped + report.frames_lost
    assert report.frames_seen == seen
