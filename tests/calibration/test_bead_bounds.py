"""The bound that is printed is that of the PSF, not that of the noise of the beads."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, places, stack_of

from blinkloop.optics import SplinePsf
from blinkloop.training.calibration.bead_bounds import bounds
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads
from blinkloop.training.calibration.spline_fit import spline_coefficients


def calibrate(pixels):
    return calibrate_beads([BeadStack(pixels)], BeadSettings(50.0, 100.0))


def splined(truth, size=25):
    """The image former as a PSF without noise."""
    z, middle = np.linspace(800, -800, 33), np.full(33, (size - 1) / 2)
    at = (middle, middle, z, np.ones(33), np.arange(33), 33, size, size)
    samples = truth.render(*at).transpose(2, 1, 0)
    coefficients = spline_coefficients(samples, closed=True)
    return SplinePsf(coefficients, (middle[0], middle[0], 16.0), 50.0)


def printed(result):
    quality = result.calibration.quality
    return np.array([quality[f"crlb_{axis}_nm_5000_photons"] for axis in "xyz"])


@pytest.mark.parametrize(
    ("psf", "one"),
    [
        pytest.param(astigmatic(), (30.3, 42.7), id="astigmatic"),
        pytest.param(Lobes("helix"), (30.3, 41.7), id="helix"),
    ],
)
@pytest.mark.parametrize(
    ("many", "photons", "off"),
    [
        (False, 3000, 0.25),
        (True, 1000, 0.3),
        (True, 3000, 0.1),
        (False, 60_000, 0.05),
    ],
    ids=["one dim", "dim ones", "dim", "bright"],
)
def test_bounds_are_those_of_the_psf(psf, one, many, photons, off):
    """Once: 3.4 nm in z from a bead of 3000 photons, where 9.1 nm is true."""
    rng = np.random.default_rng(3)
    beads = places(rng, (90, 147), 36, 24) if many else [one]
    stack = stack_of(psf, beads, rng, shape=(90, 147), photons=photons)
    result = calibrate(stack)
    true = bounds(splined(psf), result.calibration.z_range_nm, 100.0)
    expected = [np.median(sd) for sd in (true.x_sd_nm, true.y_sd_nm, true.z_sd_nm)]
    np.testing.assert_allclose(printed(result), expected, rtol=off)


def test_of_beads_that_are_hardly_seen_no_bound_is_known():
    stack = stack_of(
        astigmatic(), [(30.3, 22.7)], np.random.default_rng(3), photons=300.0
    )
    result = calibrate(stack)
    assert np.isinf(printed(result)).all()
    assert any("the beads are dim" in text for text in result.warnings)


def test_halves_that_agree_are_one_psf_without_noise():
    psf = splined(astigmatic())
    plain = bounds(psf, (-400.0, 400.0), 100.0)
    halved = bounds(psf, (-400.0, 400.0), 100.0, halves=(psf, psf))
    for name in ("x_sd_nm", "y_sd_nm", "z_sd_nm"):
        np.testing.assert_allclose(
            getattr(halved, name), getattr(plain, name), rtol=1e-6
        )
    # Of two that share nothing but light, nothing about z is known.
    still = splined(Flat())
    blind = bounds(psf, (-400.0, 400.0), 100.0, halves=(psf, still))
    assert np.isinf(blind.z_sd_nm).all()


class Flat:
    """An image that is the same at all heights."""

    def render(self, x, y, z, *rest):
        return astigmatic().render(x, y, 0 * z, *rest)
