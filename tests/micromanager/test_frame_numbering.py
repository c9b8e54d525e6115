"""Image numbers to indices: no loss is hidden, whatever the core's habit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.integrations.micromanager import FrameNumbering


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(0, 20))
def test_growing_numbers_are_the_indices(steps: list[int], first: int) -> None:
    numbers = np.cumsum([first, *steps])
    numbering = FrameNumbering(10.0)
    indices = [numbering.index(int(n), 10.0 * n) for n in numbers]
    np.testing.assert_array_equal(indices, numbers)
    assert numbering.renumbered == 0


@pytest.mark.parametrize("period_ms", [2.0, 10.0, 50.0])
@pytest.mark.parametrize("lost", [1, 15, 400])
@pytest.mark.parametrize("expected_ms", [1.0, 10.0], ids=["wrong-guess", "guess"])
def test_a_cleared_and_renumbered_ring_is_a_jump(
    period_ms: float, lost: int, expected_ms: float
) -> None:
    """MMCore 11: ..., 8, 9, 0, 1 with the clock going on."""
    numbering = FrameNumbering(expected_ms)
    true = [*range(10), *range(10 + lost, 20 + lost)]
    numbers = [*range(10), *range(10)]
    indices = [
        numbering.index(n, period_ms * t) for n, t in zip(numbers, true, strict=True)
    ]
    np.testing.assert_array_equal(indices, true)
    assert numbering.renumbered == 1


def test_twice_renumbered() -> None:
    numbering = FrameNumbering(10.0)
    true = [0, 1, 2, 40, 41, 90, 91]
    numbers = [0, 1, 2, 0, 1, 0, 1]
    indices = [numbering.index(n, 10.0 * t) for n, t in zip(numbers, true, strict=True)]
    np.testing.assert_array_equal(indices, true)
    assert numbering.renumbered == 2


@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(-1e4, 1e6)), min_size=1),
    st.floats(0.0, 1e4),
)
def test_indices_always_grow_and_a_restart_is_always_a_gap(
    frames: list[tuple[int, float]], period_ms: float
) -> None:
    numbering = FrameNumbering(period_ms)
    index, number = -1, -1
    for n, elapsed_ms in frames:
        new = numbering.index(n, elapsed_ms)
        assert new > index
        if n <= number:
            assert new >= index + 2
        index, number = new, n
        assert numbering.last == index


@pytest.mark.parametrize("clears", [1, 3, 9])
@pytest.mark.parametrize("wrong", [0.95, 1.0, 1.05])
def test_whole_rings(clears: int, wrong: float) -> None:
    """A clock that is 5 % wrong still says how often a ring of 32 was cleared."""
    numbering = FrameNumbering(10.0, ring_frames=32)
    for n in range(10):
        numbering.index(n, 10.0 * n)
    lost = 32 * clears
    at_ms = 10.0 * (9 + wrong * (lost + 1))
    assert numbering.index(0, at_ms) == 10 + lost
    assert numbering.estimated == lost
    assert numbering.index(1, at_ms + 10.0) == 11 + lost


def test_clears_that_were_counted_outvote_the_clock() -> None:
    """The camera was three times slower while nobody took its frames."""
    numbering = FrameNumbering(10.0, ring_frames=32)
    for n in range(10):
        numbering.index(n, 10.0 * n)
    assert numbering.index(0, 90.0 + 30.0 * 321, rings=10) == 330
