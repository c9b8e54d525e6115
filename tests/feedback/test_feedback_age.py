"""Old results must not drive the laser; nor may anybody else."""

from __future__ import annotations

import math

import pytest
from feedback_doubles import ClockDouble, LaserDouble, result
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_feedback_loop import loop_of

from blinkloop.errors import DeviceError
from blinkloop.runtime.feedback.age import FrameAge
from blinkloop.runtime.feedback.console import CONSOLE_EVENTS, ConsoleEnd


def test_age_is_what_a_frame_is_late_beyond_the_least() -> None:
    clock = ClockDouble()
    age = FrameAge(clock)
    ages = []
    for index, late_s in enumerate([0.3, 0.1, 0.1, 2.1, 5.1, 0.1]):
        clock.now = 100.0 + index + late_s
        ages.append(age.of(float(index)))
    assert_allclose(ages, [0.0, 0.0, 0.0, 2.0, 5.0, 0.0], atol=2e-3)
    assert age.of(math.nan) == math.inf


def test_age_survives_clocks_that_jump() -> None:
    clock = ClockDouble()
    age = FrameAge(clock)
    assert age.of(50.0) == 0.0
    assert age.of(0.0) == 0.0  # the source's clock began anew
    clock.sleep(1.0)
    assert_allclose(age.of(0.0), 1.0, atol=1e-3)  # frozen: older and older
    assert age.of(1000.0) == 0.0  # jumped ahead
    clock.sleep(0.5)
    assert_allclose(age.of(1000.5), 0.0, atol=1e-3)


@given(st.lists(st.floats(-10, 1e6), min_size=1, max_size=30))
def test_age_is_never_negative(timestamps: list[float]) -> None:
    age = FrameAge(ClockDouble())
    assert all(age.of(value) >= 0 for value in timestamps)


def test_backlog_holds_the_laser_then_makes_it_dark() -> None:
    """Results go on coming, every frame good, but further and further behind."""
    laser, clock = LaserDouble(), ClockDouble()
    loop, guard = loop_of(laser, clock=clock)
    seen = []
    for index in range(400):
        # Analysis takes twice as long as the camera's 20 ms.
        clock.sleep(0.04)
        loop.observe([result(index, 1.0, fps=50.0)])
        seen.append((laser.value, guard.state))
    raised = [i for i in range(1, 400) if seen[i][0] > seen[i - 1][0]]
    # The backlog grows by 20 ms a frame: 2 s at frame 100, 5 s at frame 250.
    assert raised
    assert max(raised) <= 101
    assert [state for _, state in seen].index("safe") in range(250, 254)
    assert laser.value == 0.0
    reasons = [row.reason for row in guard.log.rows()]
    assert sum("hold: no fresh estimate" in reason for reason in reasons) == 1
    assert any("safe: no fresh estimate for 5." in reason for reason in reasons)
    assert_allclose(loop.summary()["frame_age_s_max"], 8.0, atol=0.1)


def test_backlog_that_is_worked_off_ends_the_hold() -> None:
    laser, clock = LaserDouble(), ClockDouble()
    loop, guard = loop_of(laser, clock=clock)
    loop.observe([result(i, 5.0) for i in range(30)])
    clock.sleep(3.0)
    guard.check()
    assert guard.holding
    loop.observe([result(i, 5.0) for i in range(30, 45)])  # taken long ago
    assert guard.holding
    loop.observe([result(i, 5.0) for i in range(45, 180)])  # up to now
    assert not guard.holding
    assert guard.state == "armed"


@pytest.mark.parametrize("density", [20.0, 1.0], ids=["dead band", "command"])
def test_another_writer_is_found_out(density: float) -> None:
    laser, clock = LaserDouble(), ClockDouble()
    loop, guard = loop_of(laser, clock=clock)
    loop.observe([result(i, density) for i in range(24)])
    laser.value = 30.0  # a hand on the slider of another program
    with pytest.raises(DeviceError, match="reports 30, not the 4 written"):
        loop.observe([result(24, density)])
    assert (laser.value, guard.state) == (0.0, "safe")


class KernelDouble:
    """kernel32, as far as it is used."""

    def __init__(self, obeys: bool = True) -> None:
        self.obeys, self.routines = obeys, []

    def SetConsoleCtrlHandler(self, routine, add):
        (self.routines.append if add else self.routines.remove)(routine)
        return self.obeys


def test_console_that_closes_makes_safe() -> None:
    """Plain logic with a double of kernel32; never run on Windows."""
    reasons, kernel = [], KernelDouble()
    end = ConsoleEnd(reasons.append, kernel=kernel, wrap=lambda routine: routine)
    assert end.watch()
    assert end.watch()
    (routine,) = kernel.routines
    # Handed on in all cases, so that Python's handlers and the end itself go on.
    assert [routine(event) for event in (0, 1, 2, 5, 6)] == [False] * 5
    assert reasons == list(CONSOLE_EVENTS.values())
    end.end()
    end.end()
    assert kernel.routines == []

    def breaks(reason: str) -> None:
        raise OSError(reason)

    assert ConsoleEnd(breaks).handle(2) is False
    refused = ConsoleEnd(
        reasons.append, kernel=KernelDouble(False), wrap=lambda routine: routine
    )
    assert not refused.watch()
    assert not refused.watching
