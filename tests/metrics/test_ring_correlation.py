"""Fourier ring correlation against what sources of known precision must give."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.metrics.ring_correlation import THRESHOLD, ring_correlation

Floats = npt.NDArray[np.float64]


def sources(
    field_nm: tuple[float, float], sigma_nm: float, times: int, count: int
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Points at random, each found in every block with an error of its own."""
    rng = np.random.default_rng(3)
    blocks = 2 * times
    places = np.repeat(rng.uniform(0, field_nm, (count, 2)), blocks, 0)
    places += rng.normal(0, sigma_nm, places.shape)
    return places[:, 0], places[:, 1], np.tile(10 * np.arange(blocks), count)


@pytest.mark.parametrize(
    ("field_nm", "sigma_nm", "times"),
    [((4000, 4000), 10, 10), ((7000, 2500), 20, 5), ((1900, 3300), 8, 30)],
)
def test_points_of_known_precision(
    field_nm: tuple[float, float], sigma_nm: float, times: int
) -> None:
    # n localizations in each half, e = exp(-(2 pi q s)^2): |F|^2 is 1 + (n - 1) e per
    # localization and F1 F2* is n e, so the ratio is 1/7 where e = 1 / (6 n + 1).
    wanted_nm = 2 * math.pi * sigma_nm / math.sqrt(math.log(6 * times + 1))
    found = ring_correlation(
        *sources(field_nm, sigma_nm, times, 700), pixel_nm=4, frames_per_block=10
    )
    assert found.resolution_nm == pytest.approx(wanted_nm, rel=0.05)
    assert 0 < found.sd_nm < 0.1 * wanted_nm
    assert found.correlation[2:6].min() > 0.6
    after = found.frequency_per_nm > 1.5 / wanted_nm
    assert found.correlation[after].max() < THRESHOLD


def test_a_large_field_is_cut_and_gives_the_same() -> None:
    x, y, frame = sources((8000, 6000), 20, 5, 4000)
    found = ring_correlation(x, y, frame, pixel_nm=4, frames_per_block=10)
    assert len(found.frequency_per_nm) == 513  # tiles of 1024 px
    wanted_nm = 2 * math.pi * 20 / math.sqrt(math.log(31))
    assert found.resolution_nm == pytest.approx(wanted_nm, rel=0.05)


def test_it_goes_with_the_scale_not_with_place_or_order() -> None:
    x, y, frame = sources((4000, 3000), 10, 5, 300)
    one = ring_correlation(x, y, frame, pixel_nm=4, frames_per_block=10)
    order = np.random.default_rng(0).permutation(len(x))
    moved = ring_correlation(
        3 * x[order] - 5e4,
        3 * y[order] + 1e5,
        frame[order] + 77,
        pixel_nm=12,
        frames_per_block=10,
    )
    assert moved.resolution_nm == pytest.approx(3 * one.resolution_nm, rel=0.01)


def test_one_error_over_several_frames_is_not_taken_for_precision() -> None:
    # Each blink has one error for ten frames: dealt out in single frames, the halves
    # share it.
    rng = np.random.default_rng(1)
    places = np.repeat(rng.uniform(0, 3000, (300, 2)), 20, 0)
    places += rng.normal(0, 30, places.shape)
    x, y = np.repeat(places, 10, 0).T
    frame = np.tile(np.arange(200), 300)
    whole = ring_correlation(x, y, frame, pixel_nm=5, frames_per_block=10)
    torn = ring_correlation(x, y, frame, pixel_nm=5, frames_per_block=1)
    assert math.isfinite(whole.resolution_nm)
    assert not torn.resolution_nm > 0.7 * whole.resolution_nm


def test_nothing_in_common_has_no_resolution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 5000, (2, 20000))
    found = ring_correlation(x, y, rng.integers(0, 1000, 20000))
    assert math.isnan(found.resolution_nm)
    assert math.isnan(found.sd_nm)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pixel_nm": 0.0}, "pixel must be positive"),
        ({"pixel_nm": math.nan}, "pixel must be positive"),
        ({"frames_per_block": 51}, "two halves"),
        ({"frames_per_block": 0}, "two halves"),
        ({"splits": 0}, "at least one split"),
    ],
)
def test_bad_parameters(change: dict[str, float], says: str) -> None:
    x, y, frame = sources((1000, 1000), 10, 5, 30)
    with pytest.raises(InputError, match=says):
        ring_correlation(x, y, frame, **change)


def test_too_few_and_not_finite() -> None:
    x, y, frame = sources((1000, 1000), 10, 5, 20)
    x[5:150] = np.nan
    with pytest.raises(InputError, match="55 localizations are too few"):
        ring_correlation(x, y, frame)
    with pytest.raises(InputError, match="one length"):
        ring_correlation(x, y[1:], frame)
    with pytest.raises(InputError, match="two halves of 1 frames"):
        ring_correlation(np.arange(200.0), np.arange(200.0), np.zeros(200, int))
