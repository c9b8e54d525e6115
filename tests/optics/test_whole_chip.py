"""Shot noise and image of a whole chip, and its maps in a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blinkloop.errors import InputError
from blinkloop.optics import GaussianPsf
from blinkloop.optics.emitter_image import emitter_image
from blinkloop.optics.sensor import SensorMaps, read_sensor_maps, write_sensor_maps
from blinkloop.optics.shot_noise import draw_counts
from blinkloop.schema import GaussianPsfSettings


@pytest.mark.parametrize("mean", [0.0, 0.03, 1.0, 7.77, 20.0, 63.99, 64.5, 900.0])
def test_counts_are_poisson(mean: float) -> None:
    """Chi-squared against the distribution itself, to 5 SD."""
    n = 200_000
    means = np.full((200, 1000), mean, np.float32)
    counts = draw_counts(means, np.random.default_rng(3))
    assert counts.shape == means.shape
    assert counts.dtype == np.float32
    if mean == 0.0:
        assert not counts.any()
        return
    values = np.arange(int(mean + 8 * math.sqrt(mean) + 9))
    log_p = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in values]
    expected = n * np.exp(log_p)
    seen = np.bincount(counts.ravel().astype(int), minlength=values.size)
    enough = expected > 20
    excess = (seen[: values.size] - expected)[enough] ** 2 / expected[enough]
    freedom = enough.sum() - 1
    assert excess.sum() < freedom + 5 * math.sqrt(2 * freedom) + 5
    np.testing.assert_allclose(counts.mean(), mean, atol=5 * math.sqrt(mean / n))


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 9)),
               elements=st.floats(0, 300, width=32)),
    st.integers(0, 99),
)  # fmt: skip
def test_counts_of_any_image(means, seed) -> None:
    counts = draw_counts(means, np.random.default_rng(seed))
    assert counts.shape == means.shape
    assert np.all(counts[means == 0] == 0)
    np.testing.assert_array_equal(counts, np.rint(counts))
    assert np.all(counts <= means + 12 * np.sqrt(means) + 12)
    np.testing.assert_array_equal(
        counts, draw_counts(means, np.random.default_rng(seed))
    )


def test_neighbours_are_independent() -> None:
    """The small rest of a mean is given out among all pixels: to none too often."""
    means = np.full((300, 301), 0.12, np.float32)
    counts = draw_counts(means, np.random.default_rng(0))
    np.testing.assert_allclose(counts.var() / counts.mean(), 1.0, atol=0.03)
    shifted = np.corrcoef(counts[:, 1:].ravel(), counts[:, :-1].ravel())[0, 1]
    assert abs(shifted) < 0.02


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 150), st.integers(1, 40), st.integers(0, 99))
def test_image_is_that_of_the_psf(emitters, height, width, seed) -> None:
    rng = np.random.default_rng(seed)
    psf = GaussianPsf(GaussianPsfSettings())
    places = rng.uniform(
        [-20, -20, -400], [width + 20, height + 20, 400], (emitters, 3)
    )
    photons = rng.uniform(10, 5000, emitters)
    x, y, z = places.astype(np.float32).T
    frame = np.zeros(emitters, np.int64)
    wanted = psf.render(
        x, y, z, photons.astype(np.float32), frame, 1, height, width
    )[0]  # fmt: skip
    image = emitter_image(psf, places, photons, height, width)
    assert image.shape == (height, width)
    np.testing.assert_allclose(image, wanted, rtol=1e-4, atol=2e-2)


def test_maps_are_kept_in_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = rng.uniform(0.5, 2.0, (3, 17, 23)).astype(np.float32)
    maps = SensorMaps(*parts)
    again = read_sensor_maps(write_sensor_maps(maps, tmp_path / "maps.npz"))
    for name in ("offset_adu", "e_per_adu", "read_noise_e"):
        np.testing.assert_array_equal(getattr(again, name), getattr(maps, name))
    with pytest.raises(InputError, match=r"\.npz"):
        write_sensor_maps(maps, tmp_path / "maps.txt")
