"""Gains from a step test, on plants that answer in known ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feedback_doubles import estimate
from numpy.testing import assert_allclose

from blinkloop.runtime.feedback import ControllerSettings, FeedbackController


def tuned(exponent: float, **more: object) -> tuple[FeedbackController, list[str]]:
    """A controller after 20 updates on a plant with density = 0.5 (P / 4)^exponent."""
    settings = {"target_per_um2": 0.5, "start_power": 4.0, "max_power": 50.0, **more}
    settings = {"update_frames": 25, "delay_frames": 0, **settings}
    controller = FeedbackController(
        ControllerSettings.model_validate({"tune": True, **settings})
    )
    said = []
    for _ in range(14):
        decision = None
        while decision is None:
            density = 0.5 * (max(controller.power, 1e-9) / 4.0) ** exponent
            decision = controller.update(estimate(density))
        said.append(decision.reason)
        assert decision.power <= 6.0 + 1e-9
    return controller, said


@pytest.mark.parametrize(
    ("exponent", "scale"), [(1.0, 1.0), (0.7, 1 / 0.7), (0.3, 2.0), (3.0, 0.5)]
)
def test_response_is_measured_and_sets_the_gains(exponent: float, scale: float) -> None:
    controller, said = tuned(exponent)
    assert controller.tuned is not None
    assert_allclose(controller.tuned.response, exponent, rtol=1e-9)
    assert_allclose(controller.tuned.scale, scale, rtol=1e-9)
    assert said[3] == "tuning: steps up"
    assert said[8].startswith("tuned: response")
    # Back at the power before the step, and in control from then on.
    assert said[9] == "hold: in the dead band"
    assert_allclose(controller.power, 4.0)


def test_negative_response_switches_off() -> None:
    controller, said = tuned(-0.8)
    assert controller.tripped
    assert controller.power == 0.0
    assert said[8].endswith("negative; laser down")


def test_noise_leaves_the_gains_as_they_are() -> None:
    controller, _ = tuned(0.02)
    assert controller.tuned is not None
    assert controller.tuned.scale == 1.0
    assert not controller.tripped


def test_at_the_largest_power_the_step_goes_down() -> None:
    controller, said = tuned(1.0, start_power=5.0, max_power=5.0)
    assert said[3] == "tuning: steps down"
    assert controller.tuned is not None
    assert_allclose(controller.tuned.response, 1.0)


@pytest.mark.parametrize("densities", [np.zeros(40), np.full(40, math.nan)])
def test_nothing_to_measure(densities: np.ndarray) -> None:
    controller = FeedbackController(
        ControllerSettings(
            target_per_um2=0.5, start_power=4.0, max_power=50.0, tune=True
        )
    )
    for density in densities:
        for _ in range(25):
            controller.update(estimate(float(density), index=1))
    assert not controller.tripped
    if math.isnan(densities[0]):
        assert controller.tuned is None  # on hold all the time
    else:
        assert controller.tuned is not None
        assert math.isnan(controller.tuned.response)
