"""The loop: modes, faults on the way, summary, history, what is left at the end."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from feedback_doubles import ClockDouble, LaserDouble, result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from blinkloop.cli._run_warnings import run_warnings
from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
    mean_of_last_third,
    settling_frame,
)
from blinkloop.runtime.protocols import Laser, Observer
from blinkloop.runtime.records import Gap, Roi


def loop_of(
    laser: Laser | None,
    mode: str = "control",
    clock: ClockDouble | None = None,
    region: Roi | None = None,
) -> tuple[FeedbackLoop, LaserGuard]:
    clock = clock or ClockDouble()
    guard = LaserGuard(
        laser,
        LaserLimits(max_value=50.0),
        mode=mode,  # type: ignore[arg-type]
        clock=clock,
        sleep=clock.sleep,
        watchdog=False,
    )
    controller = FeedbackController(
        ControllerSettings(
            target_per_um2=0.5,
            start_power=4.0,
            max_power=50.0,
            update_frames=25,
            delay_frames=0,
        )
    )
    return FeedbackLoop(
        DensityEstimator(100.0, region=region), controller, guard
    ), guard


def test_is_an_observer() -> None:
    observer: Observer = loop_of(None, "off")[0]
    observer.gap(Gap(0, 1, "test"))
    observer.close()


def test_control_writes_start_updates_and_safe_value() -> None:
    laser = LaserDouble(value=33.0)
    loop, guard = loop_of(laser)
    for index in range(60):
        loop.observe([result(index, 5.0)])
    assert_allclose(laser.written, [4.0, 6.0, 9.0])
    assert loop.state == "controlling"
    loop.close()
    loop.close()
    assert_allclose(laser.written, [4.0, 6.0, 9.0, 0.0])
    rows = guard.log.rows()
    assert [r.frame for r in rows] == [-1, 24, 49, -1]
    assert_allclose(rows[1].smoothed_per_um2, 5 / 40.96)
    assert rows[1].target_per_um2 == 0.5
    assert [r.reason for r in rows] == [
        "start",
        "up, slew limit",
        "up, slew limit",
        "safe: end of the run",
    ]


def test_frames_of_one_call_are_not_judged_by_their_own_command() -> None:
    laser = LaserDouble()
    loop, _ = loop_of(laser)
    loop.observe([result(i, 5.0) for i in range(100)])
    assert_allclose(laser.written, [4.0, 6.0])
    loop.observe([result(i, 5.0) for i in range(100, 124)])
    assert_allclose(laser.written, [4.0, 6.0])
    loop.observe([result(124, 5.0)])
    assert_allclose(laser.written, [4.0, 6.0, 9.0])
    loop.close()


def test_advise_starts_each_advice_from_what_the_laser_does() -> None:
    laser = LaserDouble(value=8.0)
    loop, guard = loop_of(laser, "advise")
    for index in range(25 * 20):
        loop.observe([result(index, 5.0)])
    loop.close()
    assert laser.written == []
    advice = [r.requested for r in guard.log.rows()]
    assert_allclose(advice, [12.0] * 20)  # nobody follows: no wind-up
    summary = loop.summary()
    assert summary["laser_commands"] == 0
    assert summary["laser_final"] is None
    assert summary["laser_last_power"] == pytest.approx(12.0)


def test_off_only_measures() -> None:
    laser = LaserDouble()
    loop, guard = loop_of(laser, "off")
    for index in range(60):
        loop.observe([result(index, 20.48)])
    loop.close()
    assert laser.written == []
    assert guard.log.rows() == []
    assert loop.decision is None
    assert loop.state == "off"
    assert_allclose(loop.summary()["density_achieved_per_um2"], 0.5)


@pytest.mark.parametrize(
    ("mood", "text", "final"),
    [
        pytest.param("refuses while on", "key switch off", 0.0, id="refuses"),
        pytest.param("other", "reports 12 after 6", 0.0, id="other value"),
        pytest.param("breaks", "by hand", 4.0, id="vanished"),
        pytest.param("stuck", "by hand", 4.0, id="stuck"),
    ],
)
def test_device_fault_is_raised_once_and_observing_goes_on(
    mood: str, text: str, final: float
) -> None:
    laser = LaserDouble(mood, since_write=1)
    loop, guard = loop_of(laser)
    with pytest.raises(DeviceError, match=text):
        loop.observe([result(index, 5.0) for index in range(40)])
    assert laser.value == final
    loop.observe([result(index, 20.48) for index in range(40, 100)])
    assert loop.history()["frame"].size == 85
    summary = loop.summary()
    assert summary["laser_state"] == ("safe" if final == 0 else "failed")
    assert text in summary["feedback_error"]
    assert text in loop.state or final == 0
    json.dumps(summary)
    if final:
        with pytest.raises(DeviceError, match="by hand"):
            loop.close()
        laser.mood = "good"
        guard.close()
    else:
        loop.close()
    assert laser.value == 0.0


def test_start_that_fails_is_safe_and_said() -> None:
    laser = LaserDouble("other")
    loop, _ = loop_of(laser)
    with pytest.raises(DeviceError, match="reports 8 after 4"):
        loop.start()
    assert laser.value == 0.0


def test_exception_on_the_way_makes_safe_and_goes_up() -> None:
    laser = LaserDouble()
    loop, _ = loop_of(laser)
    loop.observe([result(0)])
    assert laser.value == 4.0
    with pytest.raises(InputError, match="shape"):
        loop.observe([result(1, blocks=np.zeros((3, 3)))])
    assert laser.value == 0.0
    loop.close()
    assert laser.written == [4.0, 0.0]


def test_ctrl_c_on_the_way_makes_safe_and_goes_up() -> None:
    class Pressed(LaserDouble):
        def read(self) -> float:
            if len(self.written) == 2 and self.written[-1] > 0:
                raise KeyboardInterrupt
            return super().read()

    laser = Pressed()
    loop, _ = loop_of(laser)
    with pytest.raises(KeyboardInterrupt):
        loop.observe([result(index, 5.0) for index in range(40)])
    assert laser.value == 0.0


def test_nan_estimates_hold_then_dark_and_rearm() -> None:
    laser, clock = LaserDouble(), ClockDouble()
    loop, guard = loop_of(laser, clock=clock)
    index = 0
    while guard.state != "safe":
        clock.sleep(0.02)
        loop.observe([result(index, math.nan if index >= 20 else 5.0)])
        index += 1
        assert index < 1000
    assert_allclose(index * 0.02, 20 * 0.02 + 5.0, atol=0.05)
    assert laser.written == [4.0, 0.0]
    assert "no fresh estimate" in loop.state
    holds = [r.reason for r in guard.log.rows() if r.reason.startswith("hold")]
    assert any("no fresh estimate" in r for r in holds)
    assert any("frames in the average" in r or "no finite" in r for r in holds)
    loop.observe([result(index + i, 5.0) for i in range(60)])
    assert laser.written == [4.0, 0.0]  # dark until a person says so
    loop.rearm()
    loop.observe([result(index + 60 + i, 5.0) for i in range(26)])
    assert_allclose(laser.written, [4.0, 0.0, 4.0, 6.0])
    assert loop.summary()["laser_updates_held"] >= 2
    loop.close()


def test_region_off_the_image_never_drives_the_laser_up() -> None:
    laser, clock = LaserDouble(), ClockDouble()
    loop, guard = loop_of(laser, clock=clock, region=Roi(900, 900, 8, 8))
    for index in range(400):
        clock.sleep(0.02)
        loop.observe([result(index)])
    assert laser.written == [4.0, 0.0]
    assert guard.state == "safe"
    assert loop.summary()["density_achieved_per_um2"] is None
    json.dumps(loop.summary(), allow_nan=False)


def test_stall_goes_dark() -> None:
    laser = LaserDouble()
    loop, _ = loop_of(laser)
    loop.start()
    loop.stall(1.0)
    assert laser.value == 4.0
    loop.stall(6.0)
    assert laser.value == 0.0
    assert "stalled" in loop.state


def test_long_gap_waits_for_a_fresh_average() -> None:
    laser = LaserDouble()
    loop, _ = loop_of(laser)
    loop.observe([result(i, 5.0) for i in range(24)])
    loop.gap(Gap(24, 100, "overflow"))
    loop.observe([result(i, 20.48) for i in range(124, 148)])
    assert laser.written == [4.0]
    loop.observe([result(148, 20.48)])
    assert loop.decision is not None
    assert loop.decision.hold  # on target, nothing of before the gap in it


def test_no_frames_at_all() -> None:
    laser = LaserDouble(value=9.0)
    loop, _ = loop_of(laser)
    loop.observe([])
    loop.close()
    assert laser.value == 0.0
    summary = loop.summary()
    assert summary["density_achieved_per_um2"] is None
    assert summary["density_settled_frame"] is None
    json.dumps(summary, allow_nan=False)
    assert loop.history()["frame"].shape == (0,)


def test_history_has_a_row_per_frame() -> None:
    loop, _ = loop_of(LaserDouble())
    loop.observe([result(3), result(4, math.nan), result(6)])
    rows = loop.history()
    assert_array_equal(rows["frame"], [3, 4, 6])
    assert_array_equal(rows["power"], 4.0)
    assert_array_equal(np.isnan(rows["density_per_um2"]), [False, True, False])
    assert_array_equal(rows["target_per_um2"], 0.5)
    assert_allclose(rows["time_s"], [0.06, 0.08, 0.12])
    loop.close()


@given(
    st.lists(
        st.one_of(
            st.sampled_from([0.0, math.nan, math.inf, -5.0, 1e30]),
            st.floats(0, 200),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_seen_stays_in_the_limits(counts: list[float]) -> None:
    laser = LaserDouble()
    loop, _ = loop_of(laser)
    loop.start()
    index = 0
    for count in counts:
        loop.observe([result(index + i, count) for i in range(25)])
        index += 25
    for before, after in zip(laser.written, laser.written[1:], strict=False):
        assert 0.0 <= after <= 50.0
        assert after <= max(before * 1.5, 0.05) * (1 + 1e-9)
    loop.close()
    assert laser.value == 0.0


@pytest.mark.parametrize(
    ("values", "settled"),
    [
        pytest.param([1.0] * 10, 0, id="from the start"),
        pytest.param([3.0] * 4 + [1.0] * 6, 4, id="later"),
        pytest.param([1.0] * 6 + [3.0] * 4, None, id="left at the end"),
        pytest.param([1.0] * 4 + [9.0] + [1.0] * 6, 5, id="left and back"),
        pytest.param([1.0, math.nan, 1.0, 1.0], 0, id="nan left out"),
        pytest.param([math.nan] * 5, None, id="nothing known"),
        pytest.param([1.0], None, id="too short"),
        pytest.param([], None, id="empty"),
    ],
)
def test_settling(values: list[float], settled: int | None) -> None:
    got = settling_frame(np.array(values), 1.0, window_frames=2)
    assert got == settled


def test_last_third() -> None:
    assert mean_of_last_third(np.arange(9.0)) == 7.0
    assert mean_of_last_third(np.array([5.0])) == 5.0
    assert mean_of_last_third(np.zeros(0)) is None
    assert mean_of_last_third(np.array([1.0, 2.0, math.nan])) is None
    assert settling_frame(np.ones(5), 0.0) is None


def test_emitters_gone_are_said() -> None:
    """In the status line while it waits, and at the end of the run."""
    loop, _ = loop_of(LaserDouble())
    loop.observe([result(i, 20.48) for i in range(400)])
    for k in range(400, 600):
        loop.observe([result(k, 0.0, 0.0)])
    assert loop.state.startswith("emitters gone (focus")
    summary = loop.summary()
    assert (summary["emitters_gone"], summary["emitters_gone_given_up"]) == (1, 0)
    loop.close()
    report = SimpleNamespace(frames_skipped=0, frames_seen=600, extra=dict(summary))
    (line,) = run_warnings(report)  # type: ignore[arg-type]
    assert line.startswith("the emitters were gone at once 1 times (focus")
    assert "\n" not in line
