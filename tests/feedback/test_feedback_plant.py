"""The real loop on a numerical plant (a double; see feedback_plant.py), seeded."""

from __future__ import annotations

import numpy as np
import pytest
from feedback_plant import TARGET, Plant, simulate
from numpy.testing import assert_allclose, assert_array_less

from blinkloop.runtime.feedback import settling_frame

LIMIT = 375
"""A quarter of the 1500 frames of a run."""


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(
            Plant(on_time, gain, ratio, delay, update_frames=update, noise=False),
            id=f"tau {on_time:g} gain {gain:g} x{ratio:.2g} delay {delay} T {update}",
        )
        for on_time, gain, ratio, delay, update in [
            (2.0, 0.1, 1 / 3, 0, 10),
            (2.0, 10.0, 3.0, 25, 10),
            (3.0, 1.0, 1 / 3, 4, 20),
            (3.0, 1.0, 3.0, 4, 5),
            (5.0, 10.0, 1 / 3, 25, 25),
            (5.0, 0.1, 3.0, 0, 40),
            (10.0, 1.0, 1 / 3, 25, 10),
            (10.0, 1.0, 3.0, 25, 25),
            (3.0, 1.0, 1 / 30, 4, 10),
            (10.0, 1.0, 20.0, 4, 10),
            (2.0, 1.0, 3.0, 50, 10),
            (5.0, 1.0, 1 / 3, 50, 10),
        ]
    ],
)
def test_settles_without_ringing(plant: Plant) -> None:
    """Nobody tells the controller how late a command is seen."""
    run = simulate(plant, np.random.default_rng(0))
    settled = settling_frame(run.density, TARGET, window_frames=1)
    assert settled is not None
    assert settled <= LIMIT
    # No ringing: never more than 15 % beyond the target on the other side.
    far = run.density / TARGET if plant.start_ratio < 1 else TARGET / run.density
    assert_array_less(far, 1.15)


@pytest.mark.parametrize("ratio", [1 / 3, 3.0], ids=["too low", "too high"])
@pytest.mark.parametrize("delay", [0, 10, 26, 40])
def test_delay_is_learned_while_the_power_moves(delay: int, ratio: float) -> None:
    plant = Plant(dead_frames=delay, start_ratio=ratio, frames=200, noise=False)
    run = simulate(plant, np.random.default_rng(0))
    assert_allclose(run.loop.summary()["laser_delay_frames"], delay, atol=4, rtol=0.25)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ratio", [1 / 3, 3.0], ids=["too low", "too high"])
@pytest.mark.parametrize("on_time", [2.0, 5.0])
def test_settles_with_counting_noise(on_time: float, ratio: float, seed: int) -> None:
    plant = Plant(on_time, start_ratio=ratio)
    run = simulate(plant, np.random.default_rng(seed))
    settled = settling_frame(run.density, TARGET, window_frames=200)
    assert settled is not None
    assert settled <= LIMIT
    assert_allclose(run.density[1000:].mean(), TARGET, rtol=0.15)
    # The controller adds little to the Poisson noise of the sample itself.
    assert run.expected[500:].std() / TARGET < 0.12
    summary = run.loop.summary()
    assert_allclose(summary["density_achieved_per_um2"], TARGET, rtol=0.15)
    assert summary["laser_stopped"] == ""
    assert not summary["negative_response"]
    run.loop.close()
    assert run.laser.value == 0.0


@pytest.mark.parametrize("delay", [4, 25])
def test_bleaching_leaves_no_lag(delay: int) -> None:
    """90 % in 1500 frames; without the drift the lag is rate x (loop + delay)."""
    lags = {}
    for share in (0.0, 0.05):
        plant = Plant(
            gain=10.0,
            dead_frames=delay,
            delay_frames=delay,
            bleached_share=0.99,
            frames=3000,
            noise=False,
            drift_share=share,
        )
        run = simulate(plant, np.random.default_rng(0))
        sd = run.loop.history()["smoothed_sd_per_um2"][2000:].mean() / TARGET
        # What noise would take from the logarithm is not taken by a plant without.
        lags[share] = -np.log(run.density[2000:] / TARGET).mean() - 0.5 * sd**2
    loop_frames = max(delay + 15, 20) + 5 + delay + 3 + 5
    assert_allclose(lags[0.0], np.log(10) / 1500 * loop_frames, rtol=0.15)
    assert abs(lags[0.05]) < 0.2 * lags[0.0]


def test_a_plant_that_is_used_up_goes_to_the_limit_not_beyond() -> None:
    plant = Plant(bleached_share=1 - 1e-6, noise=False)
    run = simulate(plant, np.random.default_rng(0))
    assert max(run.laser.written) <= 100.0
