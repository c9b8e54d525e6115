"""Three-state kinetics against their closed forms, and a pool that loses nobody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.integrations.virtual.kinetics import BlinkingPool


def _pool(n: int, seed: int = 0, **changes: float) -> BlinkingPool:
    facts = {
        "on_time_ms": 60.0,
        "bleach_fraction": 0.0,
        "photons": 1000.0,
        "photons_spread": 0.0,
    } | changes
    return BlinkingPool(n, rng=np.random.default_rng(seed), **facts)


@given(
    st.integers(0, 300),
    st.lists(
        st.tuples(st.floats(0, 0.5), st.floats(0.1, 100)), min_size=1, max_size=12
    ),
    st.floats(0, 1),
    st.integers(0, 100),
)
def test_everybody_is_accounted_for(n, steps, bleach, seed) -> None:
    pool = _pool(n, seed, bleach_fraction=bleach, photons_spread=0.3)
    for rate, duration in steps:
        blinks = pool.step(rate, duration)
        assert pool.n_dark + pool.n_on + pool.n_bleached == n
        assert np.all(np.diff(blinks.id) > 0)
        assert np.all((blinks.id >= 0) & (blinks.id < n))
        assert np.all(blinks.photons > 0)
        assert blinks.on_mean <= n + 1e-9
        assert blinks.id.size >= pool.n_on


def test_each_one_bleaches_once() -> None:
    """An emitter lost or doubled in the list of dark ones would show here."""
    pool = _pool(500, bleach_fraction=0.2, on_time_ms=3.0)
    seen: set[int] = set()
    for _ in range(20_000):
        seen.update(pool.step(0.05, 10.0).id.tolist())
        if pool.n_bleached == 500:
            break
    assert pool.n_bleached == 500
    assert seen == set(range(500))
    assert pool.step(0.05, 10.0).id.size == 0


@pytest.mark.parametrize("frame_ms", [10.0, 20.0, 300.0])
def test_equilibrium_and_light(frame_ms: float) -> None:
    """on / (on + dark) = k tau / (1 + k tau), whatever the length of a frame."""
    n, rate, tau = 4000, 0.002, 60.0
    pool = _pool(n, on_time_ms=tau)
    pool.step(rate, 2000.0)
    steps = [pool.step(rate, frame_ms) for _ in range(int(15_000 / frame_ms))]
    on = np.array([s.on_mean for s in steps])
    expected = n * rate * tau / (1 + rate * tau)
    # 250 correlation times of a binomial number: 0.4 %.
    np.testing.assert_allclose(on.mean(), expected, rtol=0.02)
    light = np.array([s.photons.sum() for s in steps])
    np.testing.assert_allclose(light, 1000.0 * on, rtol=1e-9)


def test_frames_per_blink_are_the_on_time_plus_one() -> None:
    n, tau_frames = 20_000, 3.0
    pool = _pool(n, on_time_ms=tau_frames * 20.0, bleach_fraction=1.0)
    rows = sum(pool.step(0.0005, 20.0).id.size for _ in range(2500))
    assert pool.n_bleached + pool.n_on > 0.99 * n
    np.testing.assert_allclose(rows / (n - pool.n_dark), tau_frames + 1, rtol=0.03)


def test_total_on_time_until_bleached() -> None:
    """Exponential with mean tau / b: 1 / sqrt(n) = 0.7 % uncertainty."""
    n, tau, bleach = 20_000, 5.0, 0.25
    pool = _pool(n, on_time_ms=tau, bleach_fraction=bleach)
    total_ms = 0.0
    while pool.n_bleached < n:
        total_ms += 50.0 * pool.step(0.05, 50.0).on_mean
    np.testing.assert_allclose(total_ms / n, tau / bleach, rtol=0.035)


def test_spread_of_brightness() -> None:
    pool = _pool(20_000, on_time_ms=1e9, photons_spread=0.3)
    pool.step(10.0, 10.0)
    photons = pool.step(0.0, 10.0).photons
    np.testing.assert_allclose(photons.mean(), 1000.0, rtol=0.02)
    np.testing.assert_allclose(photons.std() / photons.mean(), 0.3, rtol=0.05)


@pytest.mark.parametrize(("n", "rate"), [(0, 0.1), (100, 0.0)], ids=["empty", "dark"])
def test_no_light(n: int, rate: float) -> None:
    blinks = _pool(n).step(rate, 20.0)
    assert blinks.id.size == blinks.photons.size == 0
    assert blinks.on_mean == 0.0


def test_a_change_of_rate_acts_in_the_next_frame() -> None:
    pool = _pool(100_000)
    assert pool.step(0.0, 20.0).id.size == 0
    n = pool.step(0.001, 20.0).id.size
    np.testing.assert_allclose(n, 100_000 * -np.expm1(-0.02), rtol=0.12)
