"""The model inside the controller: powers to densities, gain, drift, delay; margins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feedback_margins import margins
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from blinkloop.runtime.feedback import ControllerSettings
from blinkloop.runtime.feedback.gains import GainFilters
from blinkloop.runtime.feedback.plant import PlantModel
from blinkloop.runtime.feedback.sample import Sample


@pytest.mark.parametrize("tau", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("delay", [0, 7])
def test_model_answers_a_step_late_and_exponentially(tau: float, delay: int) -> None:
    model = PlantModel(tau, delay)
    model.restart(2.0)
    model.advance(4)
    assert model.mean(1) == pytest.approx(2.0)
    model.command(5.0)
    seen = []
    for index in range(5, 40):
        model.advance(index)
        seen.append(model.mean(1, delay))
    frames = np.arange(1, 36) - delay  # the first frame after the command is 1
    expected = np.where(frames > 0, 5.0 - 3.0 * np.exp(-frames / tau), 2.0)
    assert_allclose(seen, expected, rtol=1e-9)
    assert_allclose(model.mean(10, delay), expected[-10:].mean(), rtol=1e-9)


def test_frames_in_hand_when_the_power_changed_do_not_count_for_the_delay() -> None:
    """A batch of 8: the command came of its first frame."""
    model = PlantModel(0.01, 2)
    model.restart(1.0)
    model.advance(10)
    model.command(3.0)
    levels = []
    for index in (18, 19, 20, 21):
        model.advance(index)
        levels.append(model.mean(1, 2))
    assert_allclose(levels, [1.0, 1.0, 3.0, 3.0], atol=1e-9)


def test_model_bridges_gaps_and_restarts() -> None:
    model = PlantModel(3.0, 0)
    model.restart(1.0)
    model.advance(0)
    model.command(2.0)
    model.advance(1)
    model.advance(10**9)  # not one by one
    assert_allclose(model.mean(1000), 2.0)
    model.command(7.0)
    model.advance(3)  # the camera counts anew: the same light for long
    assert_allclose(model.mean(5), 7.0)
    assert PlantModel(3.0, 0).mean(5) == 0.0  # no frame at all


class OneDelay:
    """The law as it is written: a power takes effect `delay` frames late."""

    def __init__(self, tau: float, delay: int, power: float) -> None:
        self.stay, self.delay = math.exp(-1 / tau), delay
        self.restart(power)

    def restart(self, power: float) -> None:
        self.power = self.level = self.last = power
        self.coming: list[tuple[int, float]] = []
        self.levels: list[float] = []

    def advance(self, first: int, index: int, commanded: float | None) -> None:
        if commanded is not None:
            self.coming.append((index + self.delay, commanded))
            self.last = commanded
        for frame in range(first, index + 1):
            while self.coming and self.coming[0][0] <= frame:
                self.power = self.coming.pop(0)[1]
            self.level = self.level * self.stay + self.power * (1 - self.stay)
            self.levels.append(self.level)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(1, 40), st.just(-1)),
            st.one_of(st.none(), st.floats(0, 100)),
        ),
        max_size=40,
    ),
    st.integers(1, 30),
)
def test_one_history_serves_every_delay(
    steps: list[tuple[int, float | None]], n: int
) -> None:
    """Frames, gaps, counting anew, commands: as a model of its own for each delay."""
    delays = (0, 1, 6, 33)
    model = PlantModel(3.0, max(delays))
    model.restart(2.0)
    own = [OneDelay(3.0, delay, 2.0) for delay in delays]
    index = -1
    for step, power in steps:
        if power is not None:
            model.command(power)
        first = index + 1 if index >= 0 else index + max(step, 1)
        index += step if step > 0 else -index if index >= 0 else 1
        for one in own:
            if first > index:  # counts anew
                one.restart(one.last if power is None else power)
                one.advance(index, index, None)
            else:
                one.advance(first, index, power)
        model.advance(index)
        expected = [float(np.mean(one.levels[-n:])) for one in own]
        assert_allclose(model.means(n, delays), expected, rtol=1e-9, atol=1e-9)


def test_history_reaches_back_however_long_the_run() -> None:
    """What is thrown away is not asked for: mean over all that is kept, at the end."""
    model = PlantModel(1e-3, 9)  # follows at once
    model.restart(0.0)
    for index in range(14_000):
        model.command(float(index))
        model.advance(index)
        if index % 1000 == 999 or index > 13_990:
            n = min(index - 8, 4096)
            expected = index - 9 - (n - 1) / 2
            assert_allclose(model.mean(n, 9), expected, rtol=1e-9)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["in order", "gap", "anew"]),
            st.one_of(st.none(), st.floats(0.1, 100)),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_what_is_foreseen_changes_nothing(
    steps: list[tuple[str, float | None, bool]],
) -> None:
    """Whatever frame comes then, but after a gap: its frames have the new power."""
    samples = [Sample(3.0, (0, 7), GainFilters([0.4, 0.3], 0.1, 1)) for _ in range(2)]
    for sample in samples:
        sample.reset(2.0)
    index, before = 0, None
    for number, (what, power, foresees) in enumerate(steps):
        if foresees:
            samples[0].foresee(index, 4)
        jump = 5 if what == "gap" and before is None else 0
        index = 0 if what == "anew" else index + jump
        for sample in samples:
            sample.advance(index)
            sample.take(1.0 + number % 3, 0.5, 4, least=1e-3, scale=1.0)
            if power is not None:
                sample.command(power)
        index, before = index + 1, power
        assert_allclose(samples[0].log_gain_ahead(), samples[1].log_gain_ahead())


def test_drift_is_learned_from_noise_and_not_from_steps() -> None:
    filters = GainFilters([0.4], 0.05, 10)
    rng = np.random.default_rng(0)
    for update in range(800):
        filters.take([1.0 - 0.01 * update + rng.normal(0.0, 0.05)], 0.05)
    before = filters.drifts_per_frame
    assert_allclose(before, -1e-3, rtol=0.5)
    # Ahead: a delay of 10 frames and one update, from the middle of the last one.
    assert_allclose(filters.updates(10), 2)
    assert_allclose(filters.ahead([2]), 1.0 - 0.01 * 801, atol=0.1)
    filters.take([5.0], 0.05)
    assert filters.drifts_per_frame == before
    assert filters.ahead([1])[0] > 4.8


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=50), st.floats(0, 2))
def test_follower_stays_among_what_it_saw(values: list[float], sd: float) -> None:
    """However wild: the drift is bounded, so that it cannot run away."""
    filters = GainFilters([0.4], 0.25, 10)
    for value in values:
        filters.take([value], sd)
    assert abs(filters.drifts_per_frame[0]) <= 3e-3
    span = 0.03 * len(values) / 0.4 + 0.1
    assert min(values) - span <= filters.ahead([1])[0] <= max(values) + span


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=20),
    st.floats(0, 2),
    st.floats(0.5, 4),
)
def test_filters_do_not_see_each_other(
    values: list[tuple[float, float]], sd: float, scale: float
) -> None:
    both = GainFilters([0.4, 0.1], 0.25, 10)
    own = [GainFilters([gain], 0.25, 10) for gain in (0.4, 0.1)]
    for pair in values:
        surprises = both.take(pair, sd, scale)
        apart = [
            one.take([value], sd, scale) for one, value in zip(own, pair, strict=True)
        ]
        assert surprises == [value for (value,) in apart]
    assert both.ahead([1, 3]) == [own[0].ahead([1])[0], own[1].ahead([3])[0]]


def test_light_that_the_laser_did_not_make_teaches_nothing() -> None:
    sample = Sample(3.0, (0, 10), GainFilters([0.4, 0.4], 0.05, 10))
    sample.reset(0.0)
    sample.advance(0)
    sample.take(0.5, 0.1, 10, least=1e-3, scale=1.0)
    assert not sample.known
    sample.command(1.0)
    for index in range(1, 60):
        sample.advance(index)
    sample.take(0.5, 0.1, 10, least=1e-3, scale=1.0)
    assert sample.known
    assert_allclose(sample.log_gain_ahead()[0], math.log(0.5), atol=0.01)


def test_largest_credible_gain_holds_a_rise_back() -> None:
    """Power up, answer not there yet: a long delay would explain that."""
    sample = Sample(3.0, (0, 50), GainFilters([0.4, 0.4], 0.0, 10))
    sample.reset(1.0)
    for update in range(5):
        for index in range(10 * update, 10 * update + 10):
            sample.advance(index)
        sample.take(0.5, 0.3, 10, least=1e-3, scale=1.0)
        sample.command(2.0)
    mean, _, largest = sample.log_gain_ahead()
    assert_allclose(largest, math.log(0.5), atol=0.05)  # of the long one
    assert mean < largest
    # Far beyond noise: the delay of 0 has proven wrong, and no longer counts.
    for update in range(5, 30):
        for index in range(10 * update, 10 * update + 10):
            sample.advance(index)
        sample.take(0.5 if update < 10 else 1.0, 0.03, 10, least=1e-3, scale=1.0)
    mean, _, largest = sample.log_gain_ahead()
    assert largest - mean < 0.02


def settings(**changes: object) -> ControllerSettings:
    base = {"target_per_um2": 0.5, "start_power": 1.0, "max_power": 10.0}
    return ControllerSettings.model_validate({**base, **changes})


@pytest.mark.parametrize("update", [5, 10, 25, 40])
@pytest.mark.parametrize("on_time", [2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("delay", [0, 6, 26, 50])
def test_margins_at_the_delay_believed_in(
    update: int, on_time: float, delay: int
) -> None:
    got = margins(settings(update_frames=update), delay, on_time, delay)
    assert got.stable
    assert got.gain > 3.0
    assert got.phase_deg > 55
    assert got.sensitivity < 1.7


@pytest.mark.parametrize("on_time", [2.0, 5.0, 10.0])
@pytest.mark.parametrize("believed", [0, 6, 26, 50])
def test_margins_when_the_delay_is_10_frames_off(believed: int, on_time: float) -> None:
    for delay in (max(believed - 10, 0), believed + 10):
        got = margins(settings(), believed, on_time, delay)
        assert got.stable
        assert got.gain > 2.0
        assert got.phase_deg > 40
        assert got.sensitivity < 2.3


def test_a_loop_without_margin_is_found_out() -> None:
    """The measure can fail: a fast loop that believes in no delay at all."""
    fast = settings(response_frames=1.0)
    assert not margins(fast, 0, 3.0, 30).stable
    assert margins(fast, 0, 3.0, 30).gain < 1


def test_known_delay_is_the_only_one_in_question() -> None:
    assert settings(delay_frames=17).delays_frames == (17,)
    assert settings().delays_frames[-1] == 85
    assert settings(update_frames=100).delays_frames[-1] == 850
    assert settings(update_frames=5).delays_frames[-1] == 85
