"""Blinking: statistics of the emitters, photons per frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.optics import bin_to_frames, sample_blinks

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_misc.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file if name.startswith("bin_")}


def blinks(seed=5, movies=1, active=20.0, tau=3.0, flux=1000.0, frames=2000, sd=0.2):
    return sample_blinks(
        np.random.default_rng(seed),
        emitters_per_frame=np.full(movies, active),
        on_time_frames=np.full(movies, tau),
        flux_photons=np.full(movies, flux),
        flux_relative_sd=sd,
        n_frames=frames,
    )


def test_photons_are_the_official_ones(golden):
    emitter, frame, photons = bin_to_frames(
        golden["bin_t0"].astype(float),
        golden["bin_on"].astype(float),
        golden["bin_flux"],
    )
    order = np.lexsort((golden["bin_frame"], golden["bin_id"]))
    np.testing.assert_array_equal(emitter, golden["bin_id"][order])
    np.testing.assert_array_equal(frame, golden["bin_frame"][order])
    np.testing.assert_allclose(photons, golden["bin_phot"][order], rtol=1e-3, atol=1e-2)


def test_torch_gives_the_same_numbers(golden):
    torch = pytest.importorskip("torch")
    values = [golden[name].astype(float) for name in ("bin_t0", "bin_on", "bin_flux")]
    ours = bin_to_frames(*values)
    others = bin_to_frames(*(torch.from_numpy(value) for value in values))
    for mine, other in zip(ours, others, strict=True):
        np.testing.assert_allclose(other.numpy(), mine, rtol=1e-9, atol=1e-9)


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 30), st.floats(0, 1e5)), max_size=20
    )
)
def test_no_photon_is_lost(rows):
    start, on_time, flux = np.array(rows, float).reshape(-1, 3).T
    emitter, frame, photons = bin_to_frames(start, on_time, flux)
    total = np.bincount(emitter, photons, minlength=len(start))
    np.testing.assert_allclose(total, flux * on_time, rtol=1e-9, atol=1e-6)
    assert np.all(photons >= 0)
    assert np.all(photons <= flux[emitter] * (1 + 1e-12))
    assert np.all(frame >= np.floor(start)[emitter])
    assert np.all(frame <= np.floor(start + on_time)[emitter])


@pytest.mark.parametrize(
    ("start", "on_time", "expected"),
    [
        pytest.param(2.25, 0.5, {2: 50.0}, id="within a frame"),
        pytest.param(2.25, 1.0, {2: 75.0, 3: 25.0}, id="over a border"),
        pytest.param(-1.5, 3.0, {-2: 50.0, -1: 100.0, 0: 100.0, 1: 50.0}, id="below 0"),
        pytest.param(3.0, 2.0, {3: 100.0, 4: 100.0}, id="whole frames"),
    ],
)
def test_known_overlaps(start, on_time, expected):
    _, frame, photons = bin_to_frames(
        np.array([start]), np.array([on_time]), np.array([100.0])
    )
    found = {int(f): float(n) for f, n in zip(frame, photons, strict=True) if n > 0}
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()))


def test_on_time_is_exponential_with_its_mean():
    on_time = blinks(active=100.0).on_time
    error = 5 * 3.0 / np.sqrt(len(on_time))
    np.testing.assert_allclose(on_time.mean(), 3.0, atol=error)
    np.testing.assert_allclose(on_time.std(), 3.0, atol=2 * error)
    np.testing.assert_allclose(np.median(on_time), 3.0 * np.log(2), atol=2 * error)


def test_flux_has_its_mean_and_spread():
    flux = blinks(active=100.0).flux
    np.testing.assert_allclose(flux.mean(), 1000.0, rtol=0.01)
    np.testing.assert_allclose(flux.std(), 200.0, rtol=0.03)
    assert flux.min() > 0


@pytest.mark.parametrize("tau", [0.5, 3.0, 12.0])
def test_active_emitters_per_frame_are_stationary(tau):
    found = blinks(active=20.0, tau=tau)
    _, frame, _ = bin_to_frames(found.start, found.on_time, found.flux)
    count = np.bincount(frame[(frame >= 0) & (frame < 2000)], minlength=2000)
    # Neighbouring frames share emitters: about tau + 1 of them count as one.
    error = 5 * np.sqrt(20.0 / (2000 / (2 * tau + 1)))
    np.testing.assert_allclose(count.mean(), 20.0, atol=error)
    quarter = 5 * np.sqrt(20.0 / (500 / (2 * tau + 1)))
    np.testing.assert_allclose(count.reshape(4, -1).mean(1), 20.0, atol=quarter)


def test_movies_keep_their_own_settings():
    found = sample_blinks(
        np.random.default_rng(1),
        emitters_per_frame=np.array([0.0, 50.0, 5.0]),
        on_time_frames=np.array([3.0, 1.0, 6.0]),
        flux_photons=np.array([1.0, 100.0, 900.0]),
        flux_relative_sd=0.0,
        n_frames=300,
    )
    assert set(np.unique(found.sample)) == {1, 2}
    np.testing.assert_allclose(found.flux, np.array([1, 100, 900])[found.sample])
    mean = [found.on_time[found.sample == movie].mean() for movie in (1, 2)]
    np.testing.assert_allclose(mean, [1.0, 6.0], rtol=0.3)


def test_no_emitters():
    found = blinks(active=0.0)
    assert len(found.start) == 0
    for array in bin_to_frames(found.start, found.on_time, found.flux):
        assert len(array) == 0


def test_the_first_frame_is_as_full_as_the_last():
    # Emitters that were on before the movie count: nothing builds up at its start.
    found = blinks(movies=4000, active=5.0, tau=6.0, frames=3)
    emitter, frame, _ = bin_to_frames(found.start, found.on_time, found.flux)
    movie = found.sample[emitter]
    for number in range(3):
        count = np.bincount(movie[frame == number], minlength=4000)
        np.testing.assert_allclose(count.mean(), 5.0, atol=5 * np.sqrt(5 / 4000))
        np.testing.assert_allclose(count.var(), 5.0, rtol=0.15)
