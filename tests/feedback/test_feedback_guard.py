"""Laser guard: limits, faults as rows, watchdog, threads."""

from __future__ import annotations

import math
import threading
import time

import pytest
from feedback_doubles import ClockDouble, LaserDouble, estimate
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from blinkloop.errors import DeviceError, DisarmedError, InputError
from blinkloop.runtime.feedback import (
    LaserGuard,
    LaserLimits,
)


def guard_of(
    laser: LaserDouble | None, mode: str = "control", **limits: object
) -> tuple[LaserGuard, ClockDouble]:
    clock = ClockDouble()
    guard = LaserGuard(
        laser,
        LaserLimits.model_validate({"max_value": 50.0, **limits}),
        mode=mode,  # type: ignore[arg-type]
        clock=clock,
        sleep=clock.sleep,
        watchdog=False,
    )
    return guard, clock


@pytest.mark.parametrize("mode", ["off", "advise"])
def test_only_control_writes(mode: str) -> None:
    laser = LaserDouble(value=7.0)
    guard, _ = guard_of(laser, mode)
    guard.arm(3.0)
    row = guard.command(9.0, estimate=estimate(0.2, index=4), reason="up")
    guard.alive()
    guard.check()
    assert guard.make_safe("stop")
    assert guard.close()
    assert laser.written == []
    assert math.isnan(row.written)
    assert (row.requested, row.frame, row.mode, row.reason) == (9.0, 4, mode, "up")


def test_advice_needs_no_laser_control_does() -> None:
    guard, _ = guard_of(None, "advise")
    assert math.isnan(guard.command(9.0).read_back)
    assert guard.close()
    with pytest.raises(InputError, match="needs a laser"):
        guard_of(None)
    with pytest.raises(InputError, match="'auto'"):
        guard_of(LaserDouble(), "auto")


@pytest.mark.parametrize(
    ("requested", "written"),
    [
        (12.0, 12.0),
        (30.0, 20.0),  # twice the 10 before
        (1e300, 20.0),
        (0.2, 0.2),
        (-5.0, 0.0),
        (0, 0.0),
    ],
)
def test_clamp_and_step(requested: float, written: float) -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    row = guard.command(requested)
    assert laser.written == [10.0, written]
    assert (row.written, row.read_back, guard.value) == (written, written, written)


def test_step_up_from_zero_begins_at_the_floor() -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser, step_floor=0.5)
    guard.arm()
    for _ in range(3):
        guard.command(40.0)
    assert laser.written == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "5", None, True, [5.0], 10**400, object()],
    ids=repr,
)
def test_non_numbers_are_refused_and_make_safe(value: object) -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    with pytest.raises(InputError, match="number"):
        guard.command(value)  # type: ignore[arg-type]
    assert laser.written == [10.0, 0.0]
    assert guard.state == "safe"


@pytest.mark.parametrize(
    ("mood", "text", "state", "last"),
    [
        pytest.param("refuses", "interlock open", "failed", 10.0, id="refuses all"),
        pytest.param("breaks", "port gone", "failed", 10.0, id="vanished"),
        pytest.param("refuses while on", "key switch", "safe", 0.0, id="refuses on"),
        pytest.param("other", "reports 24 after 12", "safe", 0.0, id="other value"),
        pytest.param("stuck", "reports 10 after 12", "failed", 10.0, id="stuck"),
    ],
)
def test_faults(mood: str, text: str, state: str, last: float) -> None:
    laser = LaserDouble(mood, since_write=1)
    told: list[str] = []
    clock = ClockDouble()
    guard = LaserGuard(
        laser,
        LaserLimits(max_value=50.0),
        mode="control",
        clock=clock,
        sleep=clock.sleep,
        watchdog=False,
        on_fault=told.append,
    )
    guard.arm(10.0)
    with pytest.raises(DeviceError, match=text):
        guard.command(12.0)
    assert (guard.state, laser.value) == (state, last)
    assert len(told) == (state == "failed")
    with pytest.raises(DeviceError, match="takes no commands"):
        guard.command(1.0)
    assert guard.close() == (state == "safe")
    assert any(text in row.reason for row in guard.log.rows())


@pytest.mark.parametrize("mood", ["mute", "reads nan"])
def test_laser_that_cannot_be_read(mood: str) -> None:
    laser = LaserDouble(mood)
    guard, _ = guard_of(laser)
    with pytest.raises(DeviceError, match="reports nan"):
        guard.arm()
    assert laser.written == []
    with pytest.raises(DeviceError):
        guard.arm(5.0)
    assert laser.written[-1] == 0.0
    blind, _ = guard_of(laser, read_back=False)
    blind.arm(5.0)
    assert blind.command(6.0).written == 6.0
    assert blind.close()
    assert laser.value == 0.0


def test_failed_laser_is_tried_again_until_it_obeys() -> None:
    laser = LaserDouble("breaks", since_write=1)
    guard, clock = guard_of(laser)
    guard.arm(10.0)
    assert not guard.make_safe("stop")
    assert guard.fault is not None
    assert "by hand" in guard.fault
    guard.check()
    assert guard.fault is not None
    laser.mood = "good"
    clock.sleep(2.5)
    guard.check()
    assert (guard.state, laser.value) == ("safe", 0.0)
    assert not guard.fault


def test_make_safe_is_idempotent_and_final_until_armed() -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser, safe_value=0.5)
    guard.arm(10.0)
    assert guard.make_safe("first")
    assert guard.make_safe("second")
    assert laser.written == [10.0, 0.5]
    with pytest.raises(DeviceError, match="first"):
        guard.command(1.0)
    assert laser.written == [10.0, 0.5]
    guard.arm()
    guard.command(0.8)
    assert laser.value == 0.8
    guard.close()
    guard.close()
    assert laser.written[-2:] == [0.8, 0.5]
    with pytest.raises(DeviceError, match="closed"):
        guard.arm()


def test_never_armed_control_ends_safe_too() -> None:
    laser = LaserDouble(value=30.0)
    guard, _ = guard_of(laser)
    assert guard.close()
    assert laser.value == 0.0


def test_limits_must_be_the_devices() -> None:
    with pytest.raises(InputError, match=r"max_value 500 .*0 \.\. 100"):
        guard_of(LaserDouble(), max_value=500.0)
    with pytest.raises(InputError, match="safe_value 0 "):
        guard_of(LaserDouble(limits=(1.0, 100.0)), min_value=1.0)

    class Mute(LaserDouble):
        limits = property(lambda _: 1 / 0)

        def __init__(self) -> None:
            pass

    with pytest.raises(DeviceError, match="limits cannot be read"):
        guard_of(Mute())


def test_unknown_state_of_the_laser_is_refused() -> None:
    laser = LaserDouble(value=90.0)
    guard, _ = guard_of(laser)
    with pytest.raises(DeviceError, match="reports 90"):
        guard.arm()
    assert guard.state == "idle"
    guard.arm(5.0)
    assert laser.value == 5.0


def test_missing_estimates_hold_then_dark() -> None:
    laser = LaserDouble()
    guard, clock = guard_of(laser, stale_s=2.0, dark_after_s=5.0)
    guard.arm(10.0)
    clock.sleep(1.9)
    guard.check()
    assert not guard.holding
    clock.sleep(0.2)
    guard.check()
    guard.check()
    assert (guard.holding, laser.value) == (True, 10.0)
    assert [r.reason for r in guard.log.rows()][1:] == [
        "hold: no fresh estimate for 2.1 s"
    ]
    guard.alive()
    guard.check()
    assert not guard.holding
    clock.sleep(5.1)
    guard.check()
    assert (guard.state, laser.value) == ("safe", 0.0)
    assert "no fresh estimate for 5.1 s" in guard.reason


def test_stalled_camera() -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    guard.stalled(4.0)
    assert laser.value == 10.0
    guard.stalled(5.5)
    assert laser.value == 0.0


def test_dose_is_the_integral_and_has_a_limit() -> None:
    laser = LaserDouble()
    guard, clock = guard_of(laser, max_dose=100.0)
    guard.arm(10.0)
    for value in (20.0, 5.0):
        clock.sleep(2.0)
        guard.command(value)
    clock.sleep(1.0)
    guard.alive()
    guard.check()
    assert_allclose(guard.dose, 10 * 2 + 20 * 2 + 5)
    for _ in range(10):
        clock.sleep(1.0)
        guard.alive()
        guard.check()
    assert guard.state == "safe"
    assert "dose limit" in guard.reason
    assert_allclose(guard.dose, 100.0)
    clock.sleep(50.0)
    assert_allclose(guard.dose, 100.0)
    with pytest.raises(DeviceError, match="used up"):
        guard.arm()


def test_no_command_once_the_dose_is_used_up() -> None:
    """Nobody has looked since: the command itself finds out."""
    laser = LaserDouble()
    guard, clock = guard_of(laser, max_dose=100.0)
    guard.arm(10.0)
    clock.sleep(11.0)
    with pytest.raises(DisarmedError, match="dose limit"):
        guard.command(12.0)
    assert laser.value == 0.0
    assert 12.0 not in laser.written
    assert guard.state == "safe"


def test_dose_counts_up_to_the_stop() -> None:
    guard, clock = guard_of(LaserDouble())
    guard.arm(10.0)
    clock.sleep(3.0)
    guard.make_safe("stop")
    assert_allclose(guard.dose, 30.0)


def test_watchdog_thread_goes_dark_alone() -> None:
    laser = LaserDouble()
    limits = LaserLimits(max_value=50.0, stale_s=0.05, dark_after_s=0.1)
    guard = LaserGuard(laser, limits, mode="control")
    guard.arm(10.0)
    deadline = time.monotonic() + 60.0
    while guard.state == "armed" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (guard.state, laser.value) == ("safe", 0.0)
    guard.close()
    assert not [t for t in threading.enumerate() if t.name == "laser-guard"]


def test_made_safe_inside_a_write_stays_safe() -> None:
    """A signal handler may run between any two lines of the main thread."""

    class Interrupted(LaserDouble):
        def write(self, value: float) -> None:
            if value == 12.0:
                assert guard.make_safe("SIGTERM")
            super().write(value)

    laser = Interrupted()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    with pytest.raises(DeviceError, match="SIGTERM"):
        guard.command(12.0)
    assert laser.written == [10.0, 0.0, 12.0, 0.0]
    assert laser.value == 0.0


def test_thread_stuck_in_the_device_is_not_waited_for() -> None:
    entered, release = threading.Event(), threading.Event()

    class Stuck(LaserDouble):
        def write(self, value: float) -> None:
            if value == 12.0:
                entered.set()
                assert release.wait(60.0)
            super().write(value)

    laser = Stuck()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            guard.command(12.0)
        except DeviceError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(60.0)
    assert guard.make_safe("stop")
    assert laser.value == 0.0
    release.set()
    thread.join(60.0)
    assert laser.value == 0.0
    assert laser.written == [10.0, 0.0, 12.0, 0.0]
    assert len(errors) == 1


def test_ctrl_c_while_making_safe_does_not_leave_it_on() -> None:
    class Impatient(LaserDouble):
        presses = 2

        def write(self, value: float) -> None:
            if value == 0.0 and self.presses:
                self.presses -= 1
                raise KeyboardInterrupt
            super().write(value)

    laser = Impatient()
    guard, _ = guard_of(laser)
    guard.arm(10.0)
    assert guard.make_safe("stop")
    assert laser.value == 0.0


@given(st.lists(st.one_of(st.floats(), st.integers(), st.booleans()), max_size=30))
def test_whatever_is_asked_stays_in_the_limits(values: list[float]) -> None:
    laser = LaserDouble()
    guard, _ = guard_of(laser, min_value=0.5, max_step_up_factor=1.5)
    guard.arm(1.0)
    for value in values:
        try:
            guard.command(value)
        except InputError:
            assert laser.value == 0.0
            guard.arm(1.0)
    for before, after in zip(laser.written, laser.written[1:], strict=False):
        assert after == 0.0 or 0.5 <= after <= 50.0
        if before > 0 and after > 1.0:
            assert after <= before * 1.5 * (1 + 1e-12)
    guard.close()
    assert laser.value == 0.0
