"""When the ring is asked: few questions, no frame found late."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.integrations.micromanager.frame_clock import FrameClock

_OLD_POLL_S = 0.0005


def ask(arrivals_s: list[float], clock: FrameClock) -> tuple[np.ndarray, int]:
    """How late each frame was found, and the questions it took, as the source asks."""
    now_s, questions, late = 0.0, 0, []
    for arrival_s in arrivals_s:
        waited = False
        questions += 1
        while now_s < arrival_s:
            waited = True
            pause_s = clock.pause_s(now_s)
            assert pause_s > 0
            now_s += pause_s
            questions += 1
        clock.came(now_s, waited=waited)
        late.append(now_s - arrival_s)
    return np.array(late), questions


@pytest.mark.parametrize("period_s", [0.001, 0.0033, 0.01, 0.03, 0.5])
def test_regular_frames_are_found_sooner_with_fewer_questions(period_s: float) -> None:
    arrivals = [period_s * n for n in range(1, 201)]
    late, questions = ask(arrivals, FrameClock())
    assert late[20:].max() <= 0.0002 + 1e-9
    assert questions < max(200 * period_s / _OLD_POLL_S, 3 * 200)


def test_a_jittering_camera_stays_in_step() -> None:
    rng = np.random.default_rng(0)
    arrivals = 0.01 * np.arange(1, 1001) + rng.uniform(-2e-4, 2e-4, 1000)
    clock = FrameClock()
    late, questions = ask(arrivals.tolist(), clock)
    assert clock.in_step
    assert late[20:].max() <= _OLD_POLL_S + 1e-9
    assert questions < 12 * 1000


def test_a_faster_camera_is_found_out_with_its_first_frame() -> None:
    arrivals = [0.01 * n for n in range(1, 51)]
    arrivals += [0.5 + 0.004 * n for n in range(1, 51)]
    late, _ = ask(arrivals, FrameClock())
    assert late[50] <= 0.006
    assert late[52:].max() <= _OLD_POLL_S + 1e-9


def test_a_late_frame_does_not_make_the_next_one_late() -> None:
    arrivals = np.array([0.01 * n for n in range(1, 101)])
    arrivals[60] += 0.0045
    late, _ = ask(arrivals.tolist(), FrameClock())
    assert late[61:].max() <= _OLD_POLL_S + 1e-9


@given(st.lists(st.floats(1e-5, 0.2), min_size=1, max_size=60))
def test_however_frames_come_none_waits_longer_than_a_stop_may(
    intervals_s: list[float],
) -> None:
    late, _ = ask(np.cumsum(intervals_s).tolist(), FrameClock())
    assert late.max() <= 0.01 + 1e-9


def test_without_a_rhythm_it_asks_as_often_as_ever() -> None:
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(0.002 + rng.exponential(0.01, 500))
    clock = FrameClock()
    late, _ = ask(arrivals.tolist(), clock)
    assert not clock.in_step
    assert late.max() <= _OLD_POLL_S + 1e-9
