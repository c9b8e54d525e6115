"""Companions: close in space and time, as many emitters per frame as without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.optics.blinking import HISTORY, Blinks, bin_to_frames, sample_blinks
from blinkloop.optics.companions import place_companions

N_FRAMES = 4


def drawn(seed: int, emitters: list[float], on_time: list[float]) -> Blinks:
    return sample_blinks(
        np.random.default_rng(seed),
        emitters_per_frame=np.asarray(emitters),
        on_time_frames=np.asarray(on_time),
        flux_photons=np.full(len(emitters), 1000.0),
        flux_relative_sd=0.2,
        n_frames=N_FRAMES,
    )


def moved(seed: int, blinks: Blinks, on_time: list[float], fraction: float):
    rng = np.random.default_rng([seed, 1])
    x, y = rng.uniform(0, 500, (2, blinks.sample.size))
    after = place_companions(
        rng,
        blinks,
        x,
        y,
        fraction=fraction,
        distance_px=3.0,
        on_time_frames=np.asarray(on_time),
        n_frames=N_FRAMES,
    )
    return (x, y), after


@given(
    st.integers(0, 1000),
    st.lists(st.sampled_from([0.0, 0.2, 3.0, 30.0]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.15, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_those_who_move_have_a_partner_beside_them(seed, emitters, fraction) -> None:
    on_time = [0.5 + k for k in range(len(emitters))]
    blinks = drawn(seed, emitters, on_time)
    (x, y), (after, new_x, new_y) = moved(seed, blinks, on_time, fraction)
    who = np.flatnonzero((new_x != x) | (new_y != y))
    stay = np.setdiff1d(np.arange(x.size), who)
    np.testing.assert_array_equal(after.start[stay], blinks.start[stay])
    for name in ("sample", "on_time", "flux"):
        np.testing.assert_array_equal(getattr(after, name), getattr(blinks, name))
    low = -HISTORY * np.asarray(on_time)[after.sample]
    assert (after.start >= low).all()
    assert (after.start <= N_FRAMES).all()
    if fraction == 0:
        assert who.size == 0
    for one in who:
        beside = stay[blinks.sample[stay] == blinks.sample[one]]
        assert np.hypot(x[beside] - new_x[one], y[beside] - new_y[one]).min() <= 3.0


def test_they_are_on_together_and_as_many_per_frame_as_before() -> None:
    emitters, on_time = [300.0, 600.0], [1.0, 5.0]
    blinks = drawn(3, emitters, on_time)
    (x, y), (after, new_x, new_y) = moved(3, blinks, on_time, 0.3)
    who = np.flatnonzero((new_x != x) | (new_y != y))
    assert who.size / x.size == pytest.approx(0.3, abs=0.02)
    # Whoever is nearest is the partner, but by chance: 500 px are wide enough.
    together = np.zeros(who.size, bool)
    for at, one in enumerate(who):
        near = np.hypot(x - new_x[one], y - new_y[one]) <= 3.0
        near &= (new_x == x) & (after.sample == after.sample[one])
        begins = np.maximum(after.start[near], after.start[one])
        ends = np.minimum(
            after.start[near] + after.on_time[near],
            after.start[one] + after.on_time[one],
        )
        together[at] = (ends >= begins).any()
    # The rest crossed the end of the circle; with times of their own it would be 0.2.
    assert together.mean() > 0.9
    for movie, expected in enumerate(emitters):
        of_it = after.sample == movie
        blink, frame, _ = bin_to_frames(
            after.start[of_it], after.on_time[of_it], after.flux[of_it]
        )
        del blink
        counts = np.bincount(frame[(frame >= 0) & (frame < N_FRAMES)])
        np.testing.assert_allclose(counts, expected, atol=5 * expected**0.5)
