"""Lasers that report rounded or late: used, not refused; lies are still found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from feedback_doubles import ClockDouble, estimate, result

from blinkloop.errors import DeviceError, DisarmedError
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)


def exact(value: float) -> float:
    return value


def floors(step: float) -> Callable[[float], float]:
    return lambda value: round(step * math.floor(value / step + 1e-9), 9)


def nearest(step: float) -> Callable[[float], float]:
    return lambda value: round(step * round(value / step), 9)


@dataclass
class Answering:
    """A laser that reports `says(value)`, `lag_s` after it was written."""

    clock: ClockDouble
    says: Callable[[float], float] = exact
    lag_s: float = 0.0
    label: str = "405"
    limits: tuple[float, float] = (0.0, 100.0)
    written: list[tuple[float, float]] = field(default_factory=list)
    deaf_from: float = math.inf
    lie: float | None = None

    def write(self, value: float) -> None:
        if len(self.written) < self.deaf_from:
            self.written.append((self.clock(), value))

    def read(self) -> float:
        if self.lie is not None:
            return self.lie
        over = [v for at, v in self.written if self.clock() >= at + self.lag_s]
        return self.says(over[-1]) if over else 0.0

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.written]


def guard_of(laser: Answering, *, learn: bool = True, **limits: object) -> LaserGuard:
    return LaserGuard(
        laser,
        LaserLimits.model_validate({"max_value": laser.limits[1], **limits}),
        mode="control",
        clock=laser.clock,
        sleep=laser.clock.sleep,
        watchdog=False,
        learn=learn,
    )


def follow(guard: LaserGuard, clock: ClockDouble, frames: int = 200) -> None:
    """A command every 10 frames of 10 ms, up and down, a look after every frame."""
    power = guard.value
    for frame in range(frames):
        clock.sleep(0.01)
        guard.alive()
        guard.complain()
        if frame % 10 == 0:
            power *= 1.27 if frame < frames // 2 else 0.83
            guard.command(power)
        elif frame % 10 == 5:
            guard.note(estimate(0.5))
        guard.check()


ANSWERS = [
    pytest.param(exact, 0.0, 1.0, id="exact"),
    pytest.param(exact, 0.0, 0.1, id="exact, little"),
    pytest.param(floors(1), 0.0, 1.0, id="whole, below"),
    pytest.param(nearest(1), 0.0, 1.0, id="whole, nearest"),
    pytest.param(nearest(1), 0.0, 7.31, id="whole, nearest, more"),
    pytest.param(floors(2), 0.0, 3.217, id="even"),
    pytest.param(nearest(0.1), 0.0, 3.217, id="a decimal"),
    pytest.param(nearest(0.5), 0.0, 3.217, id="halves"),
    pytest.param(lambda v: 1.005 * v, 0.0, 20.0, id="0.5 % up"),
    pytest.param(lambda v: 0.995 * v, 0.0, 1.0, id="0.5 % down"),
    pytest.param(lambda v: v + 0.4 if v else 0.1, 0.0, 1.0, id="offset"),
    pytest.param(floors(100 / 255), 0.0, 1.0, id="8 bit, below"),
    pytest.param(nearest(100 / 255), 0.0, 1.0, id="8 bit, nearest"),
    pytest.param(floors(100 / 4095), 0.0, 1.0, id="12 bit"),
    pytest.param(exact, 0.02, 1.0, id="20 ms"),
    pytest.param(exact, 0.1, 1.0, id="100 ms"),
    pytest.param(exact, 0.3, 1.0, id="300 ms"),
    pytest.param(exact, 0.3, 20.0, id="300 ms, more"),
    pytest.param(floors(1), 0.3, 3.217, id="300 ms and whole"),
]


@pytest.mark.parametrize(("says", "lag_s", "start"), ANSWERS)
def test_a_laser_as_they_are_is_used(says, lag_s: float, start: float) -> None:
    clock = ClockDouble()
    laser = Answering(clock, says, lag_s)
    guard = guard_of(laser)
    guard.arm(start)
    assert max(laser.values) == laser.values[0] == start
    follow(guard, clock)
    assert guard.state == "armed"
    assert guard.close()
    assert laser.values[-1] == 0.0
    assert laser.read() <= 0.1
    assert guard.fault is None


def test_what_was_found_out() -> None:
    clock = ClockDouble()
    for says, lag_s, resolution, settle_s in (
        (exact, 0.0, None, 0.0),
        (floors(1), 0.0, 1.0, 0.0),
        (nearest(2), 0.0, 2.0, 0.0),
        (exact, 0.1, None, 0.3),
        (floors(1), 0.02, 1.0, 0.2),
    ):
        guard = guard_of(Answering(clock, says, lag_s))
        guard.arm(3.217)
        assert guard.limits.resolution == resolution
        assert guard.limits.settle_s == pytest.approx(settle_s, abs=0.04)
        assert guard.limits.accuracy == 0.002
        rows = [row.reason for row in guard.log.rows()]
        assert len(rows) == 4 + (resolution is not None or settle_s > 0), rows
        written = [row.written for row in guard.log.rows() if row.written > 0]
        assert len(written) == guard.writes == 4
        guard.make_safe("stop")
        guard.arm(3.217)
        assert guard.writes == 6  # it is known by now
        assert guard.limits.resolution == resolution


@pytest.mark.parametrize(
    ("says", "lag_s", "start", "text"),
    [
        pytest.param(lambda _: 0.0, 0.0, 1.0, "--laser-step", id="deaf"),
        pytest.param(lambda v: 3.0, 0.0, 3.0, "--laser-step", id="stuck"),
        pytest.param(lambda v: 2 * v, 0.0, 3.0, "--laser-step", id="twice"),
        pytest.param(lambda v: v + 7, 0.0, 3.0, "--laser-step", id="more"),
        pytest.param(lambda v: math.nan, 0.0, 3.0, "reports nan", id="no number"),
        pytest.param(floors(5), 0.0, 12.0, "--laser-step 5", id="coarse"),
        pytest.param(exact, 3.0, 3.0, "later than 1 s", id="much too late"),
    ],
)
def test_others_are_refused_in_one_line(says, lag_s, start, text: str) -> None:
    clock = ClockDouble()
    laser = Answering(clock, says, lag_s)
    guard = guard_of(laser)
    with pytest.raises(DeviceError, match=text) as caught:
        guard.arm(start)
    assert "\n" not in str(caught.value)
    assert laser.values[-1] == 0.0
    assert max(laser.values) <= start


def test_given_answers_are_not_found_out() -> None:
    clock = ClockDouble()
    laser = Answering(clock, floors(5), 0.3)
    guard = guard_of(laser, resolution=5.0, settle_s=0.5)
    guard.arm(12.0)
    assert (guard.limits.resolution, guard.limits.settle_s) == (5.0, 0.5)
    assert laser.values[-1] == 10.0
    follow(guard, clock)
    assert guard.close()


@pytest.mark.parametrize("lag_s", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("lie", [50.0, 4.9, 0.0])
def test_another_program_makes_it_dark_however_late_it_is(
    lag_s: float, lie: float
) -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=lag_s)
    guard = guard_of(laser)
    guard.arm(3.0)
    follow(guard, clock, 30)
    clock.sleep(1.0)
    guard.note(estimate(0.5))
    laser.lie = lie
    with pytest.raises(DeviceError, match=f"reports {lie:g}"):
        guard.note(estimate(0.5))
    assert laser.values[-1] == 0.0


def test_a_late_laser_that_goes_deaf_is_found_within_its_time() -> None:
    """By the looks between commands, too, when no command comes any more."""
    clock = ClockDouble()
    laser = Answering(clock, lag_s=0.1)
    guard = guard_of(laser)
    guard.arm(3.0)
    clock.sleep(1.0)
    laser.deaf_from = len(laser.written)
    guard.command(5.0)
    began = clock()
    while guard.state == "armed" and clock() - began < 5.0:
        clock.sleep(0.01)
        guard.check()
    # And as long again until it is looked at, then four attempts at the safe value.
    assert clock() - began <= 2 * 0.35 + 4 * (guard.limits.settle_s + 0.1)
    assert "reports 3, not the 5 written" in guard.log.rows()[-1].reason
    with pytest.raises(DeviceError, match="reports 3"):
        guard.complain()
    guard.complain()


def test_commands_do_not_give_a_deaf_laser_more_time() -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=0.1)
    guard = guard_of(laser)
    guard.arm(3.0)
    clock.sleep(1.0)
    laser.deaf_from = len(laser.written)
    began = clock()

    def slew() -> None:
        for power in range(4, 40):
            guard.command(float(power))
            clock.sleep(0.05)

    with pytest.raises(DeviceError, match="reports 3"):
        slew()
    # 0.3 s until it is known, then four attempts at the safe value, confirmed.
    assert clock() - began <= 0.35 + 4 * (guard.limits.settle_s + 0.1)
    assert guard.state == "failed"


@pytest.mark.parametrize("lag_s", [0.0, 0.3])
def test_left_as_it_is_or_never_armed_it_is_late_all_the_same(lag_s: float) -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=lag_s, written=[(0.0, 4.0)])
    guard = guard_of(laser)
    guard.arm()
    assert laser.values == [4.0]
    follow(guard, clock)
    assert guard.close()
    never = guard_of(Answering(clock, lag_s=lag_s, written=[(0.0, 4.0)]))
    assert never.close()
    assert never.fault is None


def test_the_safe_value_is_waited_for_and_written_once() -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=0.3)
    guard = guard_of(laser)
    guard.arm(3.0)
    before = len(laser.written)
    assert guard.make_safe("stop")
    assert laser.values[before:] == [0.0]
    assert laser.read() == 0.0


@pytest.mark.parametrize("lag_s", [0.0, 0.1])
def test_one_step_above_the_safe_value_is_not_safe(lag_s: float) -> None:
    """The smallest step of a laser may be two per cent of its largest power."""
    laser = Answering(ClockDouble(), nearest(2), lag_s)
    guard = guard_of(laser)
    guard.arm(6.0)
    assert guard.limits.resolution == 2.0
    laser.lie = 2.0
    assert not guard.make_safe("stop")
    assert guard.fault is not None
    assert "reports 2 after 0 was written" in guard.fault
    laser.lie = None
    assert guard.make_safe("stop")


def test_what_may_still_shine_counts_in_the_dose() -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=0.3)
    guard = guard_of(laser, learn=False, settle_s=0.5)
    guard.arm(10.0)
    clock.sleep(1.0)
    guard.command(2.0)
    dose = guard.dose
    clock.sleep(0.4)
    guard.check()
    assert guard.dose - dose == pytest.approx(10.0 * 0.4)


def test_a_signal_while_its_answers_are_found_out_leaves_it_dark() -> None:
    clock = ClockDouble()

    class Interrupted(Answering):
        def write(self, value: float) -> None:
            if len(self.written) == 1:
                super().write(value)
                assert guard.make_safe("SIGTERM")
                # The write that was interrupted comes last.
            super().write(value)

    laser = Interrupted(clock)
    guard = guard_of(laser)
    with pytest.raises(DisarmedError, match="SIGTERM"):
        guard.arm(3.0)
    assert laser.values[-1] == 0.0
    assert guard.state == "safe"


def test_a_start_with_no_change_to_see_is_given_all_the_time() -> None:
    clock = ClockDouble()
    laser = Answering(clock, lag_s=0.3)
    guard = guard_of(laser)
    guard.arm(0.0)
    assert guard.limits.settle_s == 1.0
    assert guard.command(0.5).written == 0.5
    for _ in range(40):
        clock.sleep(0.05)
        guard.alive()
        guard.check()
    assert guard.state == "armed"
    assert guard.close()


def loop_on(laser: Answering) -> FeedbackLoop:
    settings = ControllerSettings(
        target_per_um2=0.5, start_power=3.0, max_power=100.0, update_frames=10
    )
    estimator = DensityEstimator(100.0, average_frames=10)
    return FeedbackLoop(estimator, FeedbackController(settings), guard_of(laser))


def test_steps_that_were_found_out_take_turns() -> None:
    """The right power, 1.7, lies between two of them."""
    laser = Answering(ClockDouble(), floors(1))
    loop = loop_on(laser)
    loop.start()
    seen = []
    for index in range(3000):
        laser.clock.sleep(0.01)
        seen.append(0.5 * laser.read() / 1.7)
        loop.observe([result(index, max(seen[-1], 1e-3) * 40.96)])
    assert np.mean(seen[-1000:]) == pytest.approx(0.5, rel=0.03)
    loop.close()


def test_what_a_look_between_commands_found_ends_the_feedback_with_an_error() -> None:
    laser = Answering(ClockDouble(), lag_s=0.1)
    loop = loop_on(laser)
    loop.start()
    laser.clock.sleep(1.0)
    laser.deaf_from = len(laser.written)
    loop._guard.command(5.0)
    laser.clock.sleep(1.0)
    loop._guard.check()  # the watchdog's
    with pytest.raises(DeviceError, match="reports 3, not the 5 written"):
        loop.observe([result(0, 20.0)])
    assert loop.summary()["feedback_error"].startswith("laser 405: reports 3")
