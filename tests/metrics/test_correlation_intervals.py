"""Bootstrap interval of a correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from blinkloop.metrics import bootstrap_correlation


def pair(rng: np.random.Generator, n: int, r: float) -> tuple[np.ndarray, np.ndarray]:
    a, noise = rng.standard_normal((2, n))
    return a, r * a + math.sqrt(1 - r * r) * noise


def test_it_covers_the_true_correlation_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = pair(rng, 400, 0.8)
        low, high = bootstrap_correlation(a, b, np.arange(400), rng, resamples=300)
        inside += low <= 0.8 <= high
    assert 178 <= inside <= 200  # 95 %, within four SDs


def test_rows_that_belong_together_widen_it() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.repeat(values, 8) for values in pair(rng, 100, 0.7))
    frame = np.arange(800)
    alone = bootstrap_correlation(a, b, frame, rng)
    blocks = bootstrap_correlation(a, b, frame, rng, block_frames=8)
    assert blocks[1] - blocks[0] > 2 * (alone[1] - alone[0])


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_a_large_mean_does_no_harm(offset: float) -> None:
    a = np.array([1.0, 2.0, 3.0, 5.0]) + offset
    low, high = bootstrap_correlation(a, a, np.arange(4), np.random.default_rng(0))
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_to_correlate(values: list[float]) -> None:
    interval = bootstrap_correlation(
        values, values, np.arange(len(values)), np.random.default_rng(0)
    )
    assert np.isnan(interval).all()
