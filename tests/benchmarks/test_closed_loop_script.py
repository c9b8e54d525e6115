"""The closed-loop benchmark: laws by hand, the floor, a short run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import closed_loop_sample
from closed_loop_laws import MAX_POWER, Alica, HtSmlm, Oracle, Ours
from closed_loop_sample import (
    NOMINAL,
    TARGET,
    WANTED,
    Case,
    Counts,
    blinking_floor,
    feedback_floor,
    score,
    simulate,
)


def counts(share: float, frame: int = 0, gone: float = 0.0) -> Counts:
    """A frame with that share of the wanted number."""
    blocks = np.full((16, 16), share * WANTED / 256)
    return Counts(frame, blocks, np.zeros((0, 2)), gone, 77.0)


def test_htsmlm_by_hand() -> None:
    law = HtSmlm(10.0, 0.4, 1)
    # d = 0.1 + 10 x 0.4 x (1 - 0.5) = 2.1, which is beyond 1: forgotten afterwards.
    assert_allclose(law.step(counts(0.5)), 12.1)
    assert law.d == 0.0
    assert_allclose(law.step(counts(1.0)), 12.2)  # the creep upwards
    assert_allclose(law.step(counts(1.0)), 12.4)  # which adds up
    assert law.step(counts(50.0)) == 0.0
    own = HtSmlm(10.0, 0.4, 2, gone=20.0)
    assert own.step(counts(9.0, 0, 10.0)) == 10.0
    assert_allclose(own.step(counts(9.0, 1, 10.0)), 12.1)


def test_alica_by_hand() -> None:
    gain = NOMINAL / WANTED
    law = Alica(100.0, 0.5, 0.2, 2)
    assert law.step(counts(0.0)) == 100.0
    error = 0.75 * WANTED  # mean of a batch of nothing and half
    power = law.step(counts(0.5))
    assert_allclose(power, 100 + 0.2 * gain * error + 0.5 * gain * error)
    for _ in range(2):
        power = law.step(counts(90.0))
    assert power == 0.0
    assert_allclose(law.integral, 0.5 * gain * 89.0 * WANTED)
    for _ in range(100):
        power = law.step(counts(0.0))
    assert_allclose(power, MAX_POWER)  # nothing is wound up beyond it


@pytest.mark.parametrize("on_frames", [3.0, 10.0])
def test_floor_is_that_of_a_correlated_count(on_frames: float) -> None:
    time = np.arange(0, 100, 0.1)
    correlation = np.exp(-np.abs(time[:, None] - time[None]) / on_frames)
    assert_allclose(
        blinking_floor(on_frames, 100), np.sqrt(correlation.mean() / WANTED), rtol=0.01
    )


@pytest.mark.parametrize(("on_frames", "delay"), [(3.0, 4), (5.0, 10)])
def test_no_law_goes_below_the_floor_of_feedback(on_frames: float, delay: int) -> None:
    """Minimum variance control of the linear plant reaches it."""
    rng, stay, frames = np.random.default_rng(0), np.exp(-1 / on_frames), 60_000
    shocks = rng.normal(0.0, np.sqrt(WANTED * (1 - stay**2)), frames)
    coming = [0.0] * delay  # births by commands on their way
    number = total = 0.0
    numbers = np.zeros(frames)
    for frame, shock in enumerate(shocks):
        ahead, expected = number, total
        for births in coming:
            ahead = stay * ahead + births
            expected += ahead
        coming.append(-expected - stay * ahead)  # brings the expected sum to 0
        number = stay * number + coming.pop(0) + shock
        total += number
        numbers[frame] = number
    means = np.convolve(numbers, np.full(200, 1 / 200), "valid") / WANTED
    assert_allclose(means.std(), feedback_floor(on_frames, delay, 200), rtol=0.05)


def test_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_loop_sample, "FRAMES", 600)
    monkeypatch.setattr(closed_loop_sample, "SECONDS", 6)
    monkeypatch.setattr(closed_loop_sample, "SETTLE_S", 0.5)
    case = Case("too high", 3.5, ((4.0, 2.0),), "clusters")
    oracle = simulate(case, lambda start, gone: Oracle(), 3)
    assert_allclose(oracle.expected[50:400].mean(), TARGET, rtol=0.04)
    assert_allclose(oracle.density[50:400].mean(), TARGET, rtol=0.08)
    assert_array_equal(
        simulate(case, lambda start, gone: Oracle(), 3).density, oracle.density
    )
    ours = simulate(case, lambda start, gone: Ours(start), 3)
    assert ours.density[:20].mean() > 2 * TARGET  # the laws come late
    got = score(case, ours)
    assert got["settling_s"] < 3
    assert abs(got["mean_error"]) < 0.15
    assert set(got) == set(score(case, oracle))
