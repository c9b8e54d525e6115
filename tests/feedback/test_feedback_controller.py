"""Controller: one rule per row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feedback_doubles import estimate
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError

from blinkloop.runtime.feedback import ControllerSettings, FeedbackController
from blinkloop.runtime.feedback.controller import ControlDecision


def settings(**changes: object) -> ControllerSettings:
    """Updates of 25 frames (a slew limit of 1.5 each); commands are seen at once."""
    base = {
        "target_per_um2": 0.5,
        "start_power": 10.0,
        "max_power": 100.0,
        "update_frames": 25,
        "delay_frames": 0,
    }
    return ControllerSettings.model_validate({**base, **changes})


def step(
    controller: FeedbackController, density: float, **kw: float
) -> ControlDecision:
    """Feed frames up to the next update."""
    for _ in range(1000):
        decision = controller.update(estimate(density, **kw))  # type: ignore[arg-type]
        if decision is not None:
            return decision
    raise AssertionError("no update in 1000 frames")


def test_one_update_per_update_frames() -> None:
    controller = FeedbackController(settings(update_frames=20))
    got = [controller.update(estimate(0.2)) is not None for _ in range(60)]
    assert [i for i, yes in enumerate(got) if yes] == [19, 39, 59]


@pytest.mark.parametrize(
    ("density", "power"),
    [
        pytest.param(0.4, 12.5, id="a bit low"),
        pytest.param(0.6, 10 / 1.2, id="a bit high"),
        pytest.param(0.05, 15.0, id="low: slew limit up"),
        pytest.param(5.0, 1.0, id="high: no limit down"),
        pytest.param(0.0, 15.0, id="no emitters"),
        pytest.param(0.5, 10.0, id="on target"),
        pytest.param(0.504, 10.0, id="in the dead band"),
    ],
)
def test_first_step_is_the_whole_way(density: float, power: float) -> None:
    got = step(FeedbackController(settings()), density, sd=1e-4)
    assert_allclose(got.power, power, rtol=1e-6)


def test_no_emitters_at_all_is_a_finite_error() -> None:
    controller = FeedbackController(settings(max_step_up=None, start_power=1.0))
    got = step(controller, 0.0, sd=1e-4)
    assert_allclose(got.error, math.log(50))
    assert_allclose(got.power, 50.0, rtol=1e-6)


def test_noise_is_believed_in_part_and_a_step_at_once() -> None:
    controller = FeedbackController(settings(drift_share=0.0))
    share = controller.settings.gain(0)
    assert_allclose(share, 1 - math.exp(-25 / 50))  # two updates
    for _ in range(3):  # the first three are averaged
        step(controller, 0.5, sd=0.05)
    noisy = step(controller, 0.5 * math.exp(0.2), sd=0.05).power
    assert_allclose(math.log(noisy / 10), -share * 0.2, atol=6e-3)
    # Beyond 3 SD it is no noise: of ln 4, at most 3 SD are not believed at once.
    controller.reset()
    step(controller, 0.5, sd=0.005)
    fourfold = step(controller, 2.0, sd=0.005).power
    assert_allclose(fourfold, 2.5, rtol=0.03)


def test_the_mean_of_a_noisy_logarithm_is_set_right() -> None:
    """Averages of a plant with a relative SD of 25 %, drawn at random."""
    rng = np.random.default_rng(0)
    controller = FeedbackController(settings(drift_share=0.0, update_frames=5))
    densities = []
    for _ in range(4000):
        drawn = 0.05 * controller.power * rng.gamma(16, 1 / 16)
        step(controller, drawn, sd=0.25 * math.sqrt(0.5 * drawn))
        densities.append(drawn)
    # Without the term it would be 3 % more, which is 8 SD of this mean.
    assert_allclose(np.mean(densities[100:]), 0.5, rtol=0.01)


def test_slew_down_when_asked_for() -> None:
    got = step(FeedbackController(settings(max_step_down=1.2)), 5.0)
    assert_allclose(got.power, 10 / 1.2)
    assert got.reason == "down, slew limit"


@pytest.mark.parametrize(
    ("wrong", "density", "limit"),
    [
        pytest.param("low", 0.01, 100.0, id="stuck at the top"),
        pytest.param("high", 50.0, 1.0, id="stuck at the bottom"),
    ],
)
def test_nothing_winds_up_at_a_limit(wrong: str, density: float, limit: float) -> None:
    controller = FeedbackController(settings(min_power=1.0))
    for _ in range(40):
        got = step(controller, density)
    assert_allclose(got.power, limit)
    back = 0.5 * math.exp(0.3 if wrong == "low" else -0.3)
    after = step(controller, back).power
    assert (after < limit) if wrong == "low" else (after > limit)


def test_goes_on_from_what_was_applied() -> None:
    controller = FeedbackController(settings())
    step(controller, 0.1)
    controller.applied(3.0)  # the guard allowed less
    assert_allclose(step(controller, 0.1).power, 4.5)
    controller.applied(math.nan)  # nothing known: as before
    assert_allclose(controller.power, 4.5)
    controller.applied(1e9)
    assert_allclose(controller.power, 100.0)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        pytest.param({"density": math.nan}, "no finite density", id="nan"),
        pytest.param({"density": math.inf}, "no finite density", id="inf"),
        pytest.param({"density": -1.0}, "no finite density", id="negative"),
        pytest.param(
            {"density": 0.1, "sd": math.nan}, "no finite density", id="sd nan"
        ),
        pytest.param(
            {"density": 0.1, "sd": math.inf}, "no finite density", id="sd inf"
        ),
        pytest.param({"density": 0.1, "sd": 0.26}, "uncertain", id="uncertain"),
        pytest.param({"density": 0.1, "n_frames": 4}, "only 4 frames", id="few frames"),
    ],
)
def test_hold(kwargs: dict[str, float], text: str) -> None:
    got = step(FeedbackController(settings()), **kwargs)
    assert got.hold
    assert text in got.reason
    assert got.power == pytest.approx(10.0)


def test_uncertainty_is_judged_against_target_and_density() -> None:
    assert not step(FeedbackController(settings()), 0.0, sd=0.2).hold
    assert not step(FeedbackController(settings()), 5.0, sd=2.0).hold
    assert step(FeedbackController(settings()), 5.0, sd=2.6).hold


@pytest.mark.parametrize("smallest", [0.0, 2.0])
def test_target_zero_is_the_smallest_power(smallest: float) -> None:
    controller = FeedbackController(settings(min_power=smallest))
    controller.set_target(0.0)
    assert step(controller, 3.0).power == smallest
    controller.set_target(0.5)
    assert step(controller, 0.1).power <= max(2.0 * 1.5, 0.1)


def test_target_can_change_without_a_kick() -> None:
    controller = FeedbackController(settings())
    step(controller, 0.5)
    controller.set_target(0.6)
    got = step(controller, 0.5)
    assert_allclose(got.power, 12.0, rtol=1e-3)
    with pytest.raises(ValueError, match="finite"):
        controller.set_target(math.nan)


def test_off_and_on_again_through_the_floor() -> None:
    controller = FeedbackController(settings(power_floor=1.0))
    powers = [step(controller, 50.0).power for _ in range(4)]
    assert powers[-2:] == [0.0, 0.0]
    assert 1.0 in [pytest.approx(p) for p in powers]
    assert step(controller, 0.1).power == pytest.approx(1.0)
    assert step(controller, 0.1).power == pytest.approx(1.5)


def test_starts_from_zero_power() -> None:
    controller = FeedbackController(settings(start_power=0.0))
    assert controller.power == 0.0
    powers = [step(controller, 0.0).power for _ in range(3)]
    assert_allclose(powers, [0.1, 0.15, 0.225])


def test_long_gap_starts_the_wait_anew() -> None:
    controller = FeedbackController(settings())
    for _ in range(24):
        assert controller.update(estimate(0.1)) is None
    controller.gap(25)
    assert controller.update(estimate(0.1)) is None
    controller.reset()
    for _ in range(24):
        assert controller.update(estimate(0.1)) is None
    controller.gap(2)
    assert controller.update(estimate(0.1)) is not None


def _respond(
    response: float, start: float, updates: int = 12, **changes: object
) -> FeedbackController:
    """A plant whose density is power^response, always too low."""
    controller = FeedbackController(settings(start_power=start, **changes))
    for _ in range(updates):
        if controller.tripped:
            break
        step(controller, 0.3 * (controller.power / start) ** response, sd=0.01)
    return controller


def test_negative_response_goes_dark_until_reset() -> None:
    controller = _respond(-1.0, 10.0)
    assert controller.tripped
    got = step(controller, 0.1)
    assert (got.power, got.hold) == (0.0, False)
    assert "negative response" in got.reason
    controller.reset()
    assert not controller.tripped
    assert step(controller, 0.1).power == pytest.approx(15.0)


@pytest.mark.parametrize(
    "controller",
    [
        pytest.param(lambda: _respond(0.0, 10.0), id="no response: exhausted, slow"),
        pytest.param(lambda: _respond(-1.0, 0.1, 8), id="weak laser, fading emitters"),
        pytest.param(
            lambda: _respond(-1.0, 10.0, stop_on_negative_response=False),
            id="asked not",
        ),
    ],
)
def test_no_false_negative_response(controller: object) -> None:
    assert not controller().tripped  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"min_power": 200.0}, "below max_power"),
        ({"start_power": 200.0}, "start_power"),
        ({"start_power": 1.0, "min_power": 2.0}, "start_power"),
        ({"power_floor": 100.0}, "power_floor"),
        ({"update_frames": 4}, "update_frames"),
        ({"delay_frames": -1}, "delay_frames"),
        ({"target_per_um2": math.nan}, "target_per_um2"),
        ({"target_per_um2": -0.1}, "target_per_um2"),
        ({"gain": 1.0}, "gain"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        settings(**changes)


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(allow_nan=True, allow_infinity=True),
            st.integers(0, 30),
        ),
        max_size=40,
    ),
    st.sampled_from([0.0, 0.5]),
)
def test_whatever_comes_in_stays_in_the_limits(
    values: list[tuple[float, float, int]], smallest: float
) -> None:
    controller = FeedbackController(settings(min_power=smallest))
    before = controller.power
    for density, sd, frames in values:
        got = step(controller, density, sd=sd, n_frames=frames)
        assert smallest <= got.power <= 100.0 * (1 + 1e-12)
        assert got.power <= max(before, 0.1 / 1.5) * 1.5 * (1 + 1e-9)
        before = got.power
