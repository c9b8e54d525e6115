"""Bursts at each height are seen and averaged; other stacks are left as they are."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, stack_of

from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.bead_repeats import averaged, frames_per_height
from blinkloop.training.calibration.beads import calibrate_beads

TWO = [(20.3, 22.7), (46.4, 23.6)]


def burst(n, rng, slices=21, dz_nm=100.0, psf=None, photons=20_000.0):
    """`n` frames with noise of their own at each height."""
    options = {"slices": slices, "dz_nm": dz_nm, "shape": (47, 68), "noise": False}
    psf = astigmatic() if psf is None else psf
    still = stack_of(psf, TWO, rng, photons=photons, **options)
    return rng.poisson(np.repeat(still, n, 0)).astype(np.uint16)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("psf", [astigmatic(), Lobes("helix", reach_px=3.0)], ids="ah")
def test_frames_of_a_height_are_counted(n, psf):
    rng = np.random.default_rng(n)
    assert frames_per_height(burst(n, rng, psf=psf)) == n


@pytest.mark.parametrize("n", [2, 5, 6])
@pytest.mark.parametrize(
    ("dz_nm", "slices", "photons"), [(20.0, 51, 20_000.0), (50.0, 31, 5000.0)]
)
def test_small_steps_of_dim_beads_are_counted_too(n, dz_nm, slices, photons):
    rng = np.random.default_rng(n)
    stack = burst(n, rng, slices=slices, dz_nm=dz_nm, photons=photons)
    assert frames_per_height(stack) == n


@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_uneven_steps_are_no_bursts(wrong):
    """Every second step is smaller than the others."""
    rng = np.random.default_rng(1)
    fine = stack_of(
        astigmatic(), TWO, rng, slices=201, dz_nm=10.0, shape=(47, 68), noise=False
    )
    at = np.arange(0, 200, 10)
    at[1::2] -= int(10 * wrong)
    assert frames_per_height(rng.poisson(fine[at])) == 1


def test_noise_and_fine_steps_are_no_bursts():
    rng = np.random.default_rng(0)
    assert frames_per_height(rng.poisson(50, (24, 31, 43))) == 1
    assert frames_per_height(burst(1, rng, slices=60, dz_nm=10.0, photons=3000.0)) == 1
    assert frames_per_height(np.full((20, 31, 43), 7)) == 1


def test_a_full_pixel_stays_full():
    pixels = np.full((10, 9, 11), 100, np.uint16)
    pixels[3, 4, 5] = 4095
    mean = averaged(BeadStack(pixels, saturated_adu=4095.0), 2).pixels
    assert mean.shape == (5, 9, 11)
    assert mean[1, 4, 5] == 4095
    assert mean[0, 4, 5] == 100


def test_the_psf_is_that_of_one_frame_per_height():
    rng = np.random.default_rng(5)
    stack = burst(3, rng)
    settings = BeadSettings(100.0, 100.0, focus=31.0)
    result = calibrate_beads([BeadStack(stack)], settings)
    assert "3 frames at each height were averaged" in result.notes[0]
    low, high = result.calibration.z_range_nm
    np.testing.assert_allclose((low, high), (-1000, 1000), atol=110)
    np.testing.assert_allclose(
        result.calibration.quality["refit_z_slope"], 1, atol=0.05
    )
