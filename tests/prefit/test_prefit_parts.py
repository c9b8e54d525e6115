"""Candidates, chains and widths, each alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from blinkloop.fitting import Windows, fit_widths
from blinkloop.optics import Camera, GaussianPsf, bin_to_frames, sample_blinks
from blinkloop.schema import CameraSettings, GaussianPsfSettings
from blinkloop.training.prefit.candidates import SNR_MIN, Candidates, Finder
from blinkloop.training.prefit.chains import link, on_time
from blinkloop.training.prefit.facts import most_misfit
from blinkloop.training.prefit.psf_width import measure_width

IDEAL = Camera(CameraSettings(kind="ideal", e_per_adu=1.0, baseline_adu=0.0))
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)
ASTIGMATIC = GaussianPsf(GaussianPsfSettings())


def blinking(tau, threshold, rng, n_frames=300, emitters=1200):
    """Candidates of emitters that are never close, each seen above a share of light."""
    blinks = sample_blinks(
        rng,
        emitters_per_frame=np.array([emitters * (tau + 1) / (n_frames + 10 * tau)]),
        on_time_frames=np.array([tau]),
        flux_photons=np.array([1.0]),
        flux_relative_sd=0.0,
        n_frames=n_frames,
    )
    emitter, frame, light = bin_to_frames(blinks.start, blinks.on_time, blinks.flux)
    seen = (frame >= 0) & (frame < n_frames) & (light >= threshold)
    emitter, frame, light = emitter[seen], frame[seen], light[seen]
    order = np.argsort(frame, kind="stable")
    emitter, frame, light = emitter[order], frame[order], light[order]
    x, y = 100.0 * (emitter % 40), 100.0 * (emitter // 40)
    whole = (x.astype(np.int64), y.astype(np.int64))
    snr = light / threshold * SNR_MIN
    return Candidates(frame, *whole, snr, np.full(len(x), threshold)), x, y


@pytest.mark.parametrize("tau", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("threshold", [0.05, 0.4])
def test_on_time_does_not_depend_on_the_threshold(tau, threshold):
    rng = np.random.default_rng(int(10 * tau))
    found, x, y = blinking(tau, threshold, rng)
    chains = link(found, x, y, 300, radius_px=1.0, isolation_px=8.0)
    estimate = on_time([(found, chains, np.ones(len(found), bool))])
    assert estimate.low < tau < estimate.high
    np.testing.assert_allclose(estimate.frames, tau, rtol=0.12)
    # The plain mean length of a group does depend on it.
    lengths = chains.place[chains.after < 0] + 1.0
    assert abs(lengths.mean() - 1 - estimate.frames) > 0.05


def test_on_time_survives_runs_that_are_short():
    rng = np.random.default_rng(4)
    parts = []
    for _ in range(20):
        found, x, y = blinking(8.0, 0.1, rng, n_frames=10, emitters=300)
        chains = link(found, x, y, 10, radius_px=1.0, isolation_px=8.0)
        parts.append((found, chains, np.ones(len(found), bool)))
    np.testing.assert_allclose(on_time(parts).frames, 8.0, rtol=0.1)


def test_images_of_two_emitters_tell_no_on_time():
    """Four chains of 5 frames; two in the 2nd, 4th and 5th frame are images of two."""
    frame = np.repeat(np.arange(5), 4)
    x = np.tile(np.array([10.0, 40.0, 70.0, 100.0]), 5)
    ones = np.full(20, 50.0)
    found = Candidates(frame, x.astype(int), x.astype(int), ones, ones)
    chains = link(found, x, x, 6, radius_px=1.0, isolation_px=6.0)
    single = np.ones(20, bool)
    assert on_time([(found, chains, single)]).transitions == 4 * 4
    single[[1 * 4 + 1, 3 * 4 + 2, 4 * 4 + 3]] = False
    # Counted from the second frame on: 4 of the first chain, none of the second, 1 of
    # the third (its next frame but one is of two), 2 of the fourth.
    assert on_time([(found, chains, single)]).transitions == 4 + 0 + 1 + 2


def test_pairs_found_as_one_do_not_say_how_well_one_emitter_fits():
    """Every third lone spot is two; windows of 25 x 25 px. A PSF that is 20 % off."""
    rng = np.random.default_rng(2)
    pixels = np.full(900, 625)
    one = rng.normal(1.2, 0.06, 900)
    spoiled = one + np.where(np.arange(900) % 3, 0.0, rng.uniform(0.5, 9.0, 900))
    fits = SimpleNamespace(pearson=spoiled * 620, pixels=pixels)
    limit = most_misfit(fits, np.arange(900) > 20)
    assert np.quantile(one, 0.95) < limit < 1.6


def test_nothing_followed_is_no_on_time():
    none = np.zeros(0, np.int64)
    empty = Candidates(none, none, none, none.astype(float), none.astype(float))
    chains = link(empty, none, none, 5, radius_px=1.0, isolation_px=5.0)
    assert on_time([(empty, chains, none > 0)]) is None


def test_links_are_mutual_and_neighbours_censor():
    frame = np.array([0, 0, 1, 1, 2, 2])
    x = np.array([10.0, 40.0, 10.4, 40.1, 10.2, 44.0])
    y = np.full(6, 5.0)
    ones = np.full(6, 50.0)
    found = Candidates(frame, x.astype(int), y.astype(int), ones, ones)
    chains = link(found, x, y, 3, radius_px=1.0, isolation_px=6.0)
    np.testing.assert_array_equal(chains.after, [2, 3, 4, -1, -1, -1])
    np.testing.assert_array_equal(chains.before, [-1, -1, 0, 1, 2, -1])
    np.testing.assert_array_equal(chains.place, [0, 0, 1, 1, 2, 0])
    assert chains.alone.all()
    # The one at 40 meets a stranger at 44: whether it went on cannot be seen.
    np.testing.assert_array_equal(
        chains.exposed, [True, True, True, False, False, False]
    )
    assert chains.chain[4] == chains.chain[0] != chains.chain[1]


def finder(psf=None):
    return Finder.for_pixel(100.0) if psf is None else Finder.for_psf(psf, (-450, 450))


@pytest.mark.parametrize("psf", [None, ASTIGMATIC], ids=["no psf", "psf"])
def test_candidates_are_where_emitters_are(psf):
    rng = np.random.default_rng(6)
    x, y = np.array([12.0, 41.0, 60.0]), np.array([20.0, 33.0, 12.0])
    frame = np.array([0, 0, 2])
    n = np.full(3, 2500.0)
    light = ASTIGMATIC.render(x, y, np.zeros(3), n, frame, 3, 45, 75) + 15.0
    found = finder(psf).find(rng.poisson(light).astype(np.float32), IDEAL)
    np.testing.assert_array_equal(found.frame, frame)
    assert np.abs(found.column - x).max() <= 1
    assert np.abs(found.row - y).max() <= 1
    assert (found.least_photons < 600).all()


def test_noise_holds_no_candidates():
    rng = np.random.default_rng(7)
    frames = rng.poisson(8.0, (60, 80, 100)).astype(np.float32)
    # The average of 480,000 pixels above 5.5 SD of normal noise is 0.01.
    assert len(finder().find(frames, IDEAL)) <= 3


def test_an_emitter_of_least_photons_is_found_half_the_time():
    rng = np.random.default_rng(8)
    count, at = 400, np.full(400, 20.0)
    probe = finder(FLAT)
    values = FLAT.render(at, at, 0 * at, at * 0 + 1, np.arange(count), count, 41, 41)
    # An emitter in every fifth frame: one that never blinks would be background.
    blink = (np.arange(count) % 5 == 0)[:, None, None]
    bright = rng.poisson(20.0 + 900.0 * blink * values).astype(np.float32)
    least = float(np.median(probe.find(bright, IDEAL).least_photons))
    dim = rng.poisson(20.0 + least * blink * values).astype(np.float32)
    share = len(np.unique(probe.find(dim, IDEAL).frame)) / (count / 5)
    assert 0.3 < share < 0.75


def widths_of(psf, z, photons=4000.0):
    rng = np.random.default_rng(9)
    at = rng.uniform(7.5, 8.5, len(z))
    n = np.full(len(z), photons)
    light = psf.render(at, at[::-1], z, n, np.arange(len(z)), len(z), 17, 17) + 10.0
    zero = np.zeros(len(z), np.int64)
    return measure_width(
        fit_widths(Windows(rng.poisson(light).astype(float), zero, zero), separate=True)
    )


def test_round_spots_have_one_width():
    width = widths_of(FLAT, np.zeros(400))
    assert width.astigmatism == 0
    assert width.low < 1.3 < width.high or abs(width.sigma0_px - 1.3) < 0.01


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.2])
def test_astigmatic_spots_give_focus_and_alpha(alpha):
    psf = GaussianPsf(GaussianPsfSettings(astigmatism_nm=300.0 * alpha, depth_nm=300.0))
    z = np.random.default_rng(1).uniform(-400, 400, 700)
    width = widths_of(psf, z)
    np.testing.assert_allclose(width.sigma0_px, 1.1, rtol=0.05)
    np.testing.assert_allclose(width.astigmatism, alpha, rtol=0.12)
