"""The rolling window's bookkeeping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.runtime.records import Frame, Roi
from blinkloop.runtime.window import RollingWindow, WindowStep

ROI = Roi(0, 0, 3, 2)
OTHER = Roi(1, 0, 3, 2)


def frame(index: int, roi: Roi = ROI) -> Frame:
    pixels = np.zeros((roi.height, roi.width), np.uint16)
    return Frame(index=index, timestamp_s=index / 10, pixels=pixels, roi=roi)


def described(steps: list[WindowStep]) -> list[tuple[int, int]]:
    """(frame, segment) of every row that is not dropped."""
    rows = (row for step in steps for row in step.rows)
    return [(row.index, row.segment) for row in rows if row is not None]


def test_one_frame_segment_is_returned_by_the_flush() -> None:
    window = RollingWindow()
    (step,) = window.push([frame(5)])
    assert step == WindowStep(range(0, 1), True, (None,))
    assert window.pending is not None
    (flush,) = window.flush()
    assert flush.is_flush
    assert not flush.segment_start
    assert described([flush]) == [(5, 0)]
    assert window.flush() == []
    assert window.pending is None


def test_rows_are_one_frame_late() -> None:
    window = RollingWindow()
    first = window.push([frame(0), frame(1), frame(2)])
    assert [step.segment_start for step in first] == [True]
    assert described(first) == [(0, 0), (1, 0)]
    second = window.push([frame(3)])
    assert [step.segment_start for step in second] == [False]
    assert described(second) == [(2, 0)]
    assert described(window.flush()) == [(3, 0)]


@pytest.mark.parametrize(
    ("frames", "segments"),
    [
        pytest.param([frame(0), frame(1), frame(5)], [0, 0, 1], id="gap"),
        pytest.param([frame(7), frame(3), frame(4)], [0, 1, 1], id="backward"),
        pytest.param([frame(2), frame(2)], [0, 1], id="repeated"),
        pytest.param([frame(0), frame(1, OTHER)], [0, 1], id="region"),
        pytest.param([frame(0), frame(2), frame(4)], [0, 1, 2], id="single frames"),
        pytest.param([], [], id="empty"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one push", "one by one"])
def test_breaks_end_a_segment(
    frames: list[Frame], segments: list[int], together: bool
) -> None:
    window = RollingWindow()
    pushes = [frames] if together else [[one] for one in frames]
    steps = [step for push in pushes for step in window.push(push)] + window.flush()
    expected = [
        (one.index, segment) for one, segment in zip(frames, segments, strict=True)
    ]
    assert described(steps) == expected


def test_long_pushes_are_cut() -> None:
    steps = RollingWindow(max_frames=3).push([frame(index) for index in range(8)])
    assert [len(step.frames) for step in steps] == [3, 3, 2]
    assert [step.segment_start for step in steps] == [True, False, False]
    assert all(len(step.rows) == len(step.frames) for step in steps)


def test_reset_forgets_the_segment_but_not_its_number() -> None:
    window = RollingWindow()
    window.push([frame(0), frame(1)])
    window.reset()
    (step,) = window.push([frame(2)])
    assert step.segment_start
    assert described(window.flush()) == [(2, 1)]


def test_refuses_an_empty_step_size() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RollingWindow(max_frames=0)


@settings(max_examples=60, deadline=None)
@given(
    jumps=st.lists(st.sampled_from([1, 1, 1, 2, -1, 0]), max_size=20),
    cuts=st.lists(st.integers(1, 6), min_size=20, max_size=20),
    most=st.integers(1, 5),
)
def test_every_frame_once_in_order(
    jumps: list[int], cuts: list[int], most: int
) -> None:
    frames = [frame(int(index)) for index in np.cumsum([10, *jumps])]
    window = RollingWindow(max_frames=most)
    taken: list[int] = []
    steps: list[WindowStep] = []
    start = 0
    for cut in cuts:
        part = frames[start : start + cut]
        for step in window.push(part):
            taken += [start + position for position in step.frames]
            steps.append(step)
        start += cut
    steps += window.flush()
    assert taken == list(range(len(frames)))
    assert [index for index, _ in described(steps)] == [one.index for one in frames]
    flushes = sum(step.is_flush for step in steps)
    assert flushes == sum(step.segment_start for step in steps)
    assert flushes == 1 + sum(jump != 1 for jump in jumps)
