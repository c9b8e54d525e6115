"""Background maps: range, smoothness, independence of the movies."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.optics.background import background_maps, smooth_fields


@given(
    level=st.floats(0.1, 500),
    height=st.integers(1, 45),
    width=st.integers(1, 45),
    slope=st.floats(0, 0.5),
    structure=st.floats(0, 0.49),
    seed=st.integers(0, 1000),
)
def test_background_stays_near_its_level(level, height, width, slope, structure, seed):
    maps = background_maps(
        np.random.default_rng(seed),
        np.full(3, level),
        height,
        width,
        slope_max=slope,
        structure_max=structure,
    )
    assert maps.shape == (3, height, width)
    assert maps.dtype == np.float32
    assert (maps > 0).all()
    assert np.abs(maps / level - 1).max() <= slope + structure + 1e-5


def test_nothing_asked_for_is_flat():
    maps = background_maps(
        np.random.default_rng(0), np.array([7.0, 20.0]), 9, 13, slope_max=0.0
    )
    np.testing.assert_array_equal(maps, np.full((2, 9, 13), [[[7.0]], [[20.0]]]))


def test_fields_fill_their_range_and_differ():
    fields = smooth_fields(np.random.default_rng(1), np.full(5, 9.0), 30, 41)
    np.testing.assert_allclose(np.abs(fields).max(axis=(1, 2)), 1.0)
    assert np.abs(np.corrcoef(fields.reshape(5, -1)) - np.eye(5)).max() < 0.6


def test_the_length_is_the_size_of_the_structure():
    rng = np.random.default_rng(2)
    slopes = []
    for length in (6.0, 24.0):
        fields = smooth_fields(rng, np.full(40, length), 60, 50)
        fields /= fields.std(axis=(1, 2), keepdims=True)
        slopes.append(np.abs(np.diff(fields, axis=2)).mean())
    # A field four times as long has a quarter of the slope.
    np.testing.assert_allclose(slopes[0] / slopes[1], 4.0, rtol=0.35)


def test_no_movies():
    maps = background_maps(
        np.random.default_rng(0),
        np.zeros(0),
        5,
        7,
        slope_max=0.1,
        structure_max=0.1,
    )
    assert maps.shape == (0, 5, 7)
