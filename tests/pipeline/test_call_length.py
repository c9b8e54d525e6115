"""Frames of a camera one by one, unless several at once are faster or too many wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.runtime.call_length import CallLength


def _learned(single_s: float, joint_s: float, *, joint: int = 8) -> CallLength:
    length = CallLength(16, 1.0, 128)
    for _ in range(30):
        length.took(1, single_s)
        length.took(joint, joint * joint_s)
    return length


def test_a_camera_is_followed_frame_by_frame_before_anything_was_tried() -> None:
    length = CallLength(16, 1.0, 128)
    assert length.frames(0) == length.frames(1) == length.frames(10) == 1


@pytest.mark.parametrize(
    ("joint_s", "expected"),
    [
        pytest.param(0.006, 1, id="several at once gain nothing"),
        pytest.param(0.0055, 1, id="they gain next to nothing"),
        pytest.param(0.001, 16, id="a graphics card"),
    ],
)
def test_what_waits_is_taken_together_where_that_is_faster(
    joint_s: float, expected: int
) -> None:
    assert _learned(0.006, joint_s).frames(5) == expected


def test_when_the_ring_fills_all_are_taken_together() -> None:
    length = _learned(0.006, 0.006)
    assert length.frames(32) == 1
    assert length.frames(33) == 16
    small = CallLength(4, 1.0, 8)
    assert (small.frames(2), small.frames(3)) == (1, 4)


def test_a_movie_that_waits_is_taken_in_long_calls() -> None:
    length = CallLength(16, 1.0, 64, waits=True)
    assert length.frames(0) == 16
    for _ in range(10):
        length.took(16, 0.32)
    assert length.frames(0) == 16


def test_long_calls_stay_within_the_time_allowed() -> None:
    length = CallLength(16, 0.06, 64, waits=True)
    length.took(16, 0.16)
    assert length.frames(64) == 6
    length.took(6, 0.6)
    assert length.frames(64) == 4  # never fewer than context needs
    length.took(4, 0.004)
    assert length.frames(64) == 8  # doubled at most


def test_one_slow_call_is_forgotten() -> None:
    length = _learned(0.006, 0.002)
    length.took(8, 2.0)
    assert length.frames(5) == 1
    for _ in range(20):
        length.took(8, 0.016)
    assert length.frames(5) == 16


@given(
    st.lists(st.tuples(st.integers(0, 16), st.floats(-1, 10)), max_size=30),
    st.integers(0, 1024),
    st.integers(1, 1024),
)
def test_never_more_than_allowed_and_never_none(
    calls: list[tuple[int, float]], waiting: int, capacity: int
) -> None:
    length = CallLength(16, 0.5, capacity)
    for frames, seconds in calls:
        length.took(frames, seconds)
    assert 1 <= length.frames(waiting) <= 16
