"""Laser limits: the pure rules."""

from __future__ import annotations

import math

import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError

from blinkloop.runtime.feedback import LaserLimits


def test_values_are_rounded_down_to_the_grid() -> None:
    limits = LaserLimits(max_value=50.0, resolution=0.1, min_value=0.25)
    assert_allclose([limits.clamp(v) for v in (0.3, 7.19, 60.0)], [0.3, 7.1, 50.0])
    assert limits.clamp(0.0) == 0.25


def test_a_coarse_laser_may_always_take_one_step() -> None:
    """Else 0 .. 5 in steps of 1 would stay dark: twice 0.05 is rounded down to 0."""
    limits = LaserLimits(max_value=5.0, resolution=1.0)
    assert_allclose([limits.allow(5.0, v) for v in (0.0, 1.0, 2.0)], [1.0, 2.0, 4.0])
    slower = LaserLimits(max_value=5.0, resolution=1.0, max_step_up_factor=1.2)
    assert_allclose([slower.allow(9.0, v) for v in (0.0, 1.0, 5.0)], [1.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_value": 0.0}, "max_value"),
        ({"max_value": math.inf}, "max_value"),
        ({"max_value": 5.0, "min_value": 5.0}, "below max_value"),
        ({"max_value": 5.0, "safe_value": 6.0}, "safe_value"),
        ({"max_value": 5.0, "dark_after_s": 1.0}, "dark_after_s"),
        ({"max_value": 5.0, "max_step_up_factor": 1.0}, "max_step_up_factor"),
        ({"max_value": 5.0, "colour": "blue"}, "colour"),
    ],
)
def test_bad_limits_are_refused(limits: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        LaserLimits.model_validate(limits)
