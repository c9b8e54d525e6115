from __future__ import annotations

import math

import numpy as np
import pytest

from blinkloop.runtime.latency import LATENCY_KEYS, LatencyMeter


@pytest.mark.parametrize("seed", [0, 1])
def test_quantiles_agree_with_numpy_to_one_percent(seed: int) -> None:
    seconds = np.random.default_rng(seed).lognormal(-5, 1, 5000)
    meter = LatencyMeter()
    for value in seconds:
        meter.add(value)
    for fraction in (0.5, 0.95, 0.99):
        expected = np.quantile(seconds, fraction, method="inverted_cdf")
        np.testing.assert_allclose(meter.quantile(fraction), expected, rtol=0.01)
    assert meter.summary_ms()["max"] == seconds.max() * 1e3
    assert tuple(meter.summary_ms()) == LATENCY_KEYS


def test_empty_is_nan() -> None:
    assert all(math.isnan(value) for value in LatencyMeter().summary_ms().values())


def test_one_value_is_every_quantile() -> None:
    meter = LatencyMeter()
    meter.add(0.0123)
    assert set(meter.summary_ms().values()) == {0.0123 * 1e3}


def test_extremes_do_not_break_it() -> None:
    meter = LatencyMeter()
    for value in (-1.0, 0.0, 1e-9, 1e9):
        meter.add(value)
    assert meter.quantile(1) == 1e9
    assert meter.quantile(0) == 0.0
    assert meter.count == 4
    with pytest.raises(ValueError, match="quantile"):
        meter.quantile(1.5)
