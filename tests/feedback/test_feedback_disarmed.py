"""A laser made safe from outside in the moment of a command is no fault of the run."""

from __future__ import annotations

from feedback_doubles import LaserDouble, result

from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)


def test_signal_within_a_command_does_not_fail_the_loop() -> None:
    class Interrupted(LaserDouble):
        def write(self, value: float) -> None:
            if value not in (0.0, 4.0):
                loop.make_safe("signal SIGTERM")
            super().write(value)

    laser = Interrupted()
    settings = ControllerSettings(
        target_per_um2=0.5, start_power=4.0, max_power=50.0, update_frames=20
    )
    guard = LaserGuard(
        laser, LaserLimits(max_value=50.0), mode="control", watchdog=False
    )
    loop = FeedbackLoop(DensityEstimator(100.0), FeedbackController(settings), guard)
    loop.start()
    for index in range(200):
        loop.observe([result(index, 2.0)])
    assert any(value not in (0.0, 4.0) for value in laser.written)
    assert laser.value == 0.0
    assert guard.state == "safe"
    assert loop.summary()["feedback_error"] is None
    assert "SIGTERM" in loop.summary()["laser_stopped"]
    loop.close()
