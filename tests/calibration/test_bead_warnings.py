"""What would spoil a PSF quietly is said."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, golden_spline, stack_of

from blinkloop.training.calibration.bead_pairs import twin_distance_px
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

TWO = [(20.3, 22.7), (46.4, 23.6)]


def warnings(pixels, **facts):
    settings = BeadSettings(50.0, 100.0, **facts)
    return " ".join(calibrate_beads([BeadStack(pixels)], settings).warnings)


def stack(beads=TWO, seed=23, **facts):
    rng = np.random.default_rng(seed)
    return stack_of(astigmatic(), beads, rng, shape=(47, 68), **facts)


def test_a_good_stack_has_none_of_these():
    said = warnings(stack())
    assert said == ""


def test_half_a_pixel_of_drift():
    """It tilts the PSF: +-14 nm over 900 nm, where 5000 photons scatter by 5 nm."""
    assert "moves sideways by 4" in warnings(stack(drift_px=(0.4, -0.2)))


def test_a_focus_beyond_the_end():
    high = stack([(x, y, 1.0, 900.0) for x, y in TWO])
    assert "sharpest slice is at the end" in warnings(high)
    assert "sharpest slice" not in warnings(high, focus=31.0)


def test_two_beads_side_by_side_alone_in_the_field():
    said = warnings(stack([(30.3, 22.7), (36.2, 22.2)]))
    assert "two spots 6 px apart" in said


def light_of(psf, beads, slices=33, **facts):
    rng = np.random.default_rng(3)
    none = {"background": 0, "offset_adu": 0, "shape": (61, 66), **facts}
    made = stack_of(psf, beads, rng, slices=slices, **none)
    return made[:, 12:49, 15:46].astype(np.float64)


@pytest.mark.parametrize(("dx", "dy"), [(5.0, 0.3), (0.2, -6.5), (5.5, 5.6), (-8, 1)])
def test_spots_that_keep_their_distance_are_two_beads(dx, dy):
    light = light_of(astigmatic(), [(30.3, 30.2), (30.3 + dx, 30.2 + dy, 0.7)])
    np.testing.assert_allclose(twin_distance_px(light), np.hypot(dx, dy), atol=0.8)


@pytest.mark.parametrize(
    ("psf", "facts"),
    [
        (astigmatic(), {}),
        (astigmatic(), {"photons": 2000.0}),
        (golden_spline(), {"slices": 21}),
        (Lobes("helix"), {}),
        (Lobes("helix", reach_px=3.0), {"photons": 6000.0}),
        (Lobes("tetrapod"), {}),
    ],
    ids=["astigmatic", "dim", "golden", "helix", "dim helix", "tetrapod"],
)
def test_lobes_that_move_are_one(psf, facts):
    assert twin_distance_px(light_of(psf, [(30.3, 30.2)], **facts)) == 0.0


def test_noise_and_nothing_are_no_pair():
    rng = np.random.default_rng(0)
    assert twin_distance_px(rng.normal(0, 1, (21, 31, 33))) == 0.0
    assert twin_distance_px(np.zeros((21, 31, 33))) == 0.0


def test_light_that_was_evened_out_is_not_to_be_evened_out_again():
    made = stack()
    fading = made * np.linspace(2.0, 0.5, len(made))[:, None, None]
    assert "or the beads bleach (--equal-light)" in warnings(fading)
    said = warnings(fading, equal_light=True)
    assert "was evened out, as asked" in said
    assert "(--equal-light)" not in said


def test_dim_beads_are_no_2d_psf():
    """z is off because of noise: the advice is light, not another PSF."""
    said = warnings(stack(photons=700.0, seed=2))
    assert "heights are not reproduced well, as with beads that are dim" in said
    assert "in 2D" not in said


def test_pixels_from_0_to_1_are_fitted_like_counts():
    made = stack()
    settings = BeadSettings(50.0, 100.0)
    counts = calibrate_beads([BeadStack(made)], settings)
    scaled = calibrate_beads([BeadStack(made / np.float32(65535))], settings)
    ranges = (one.calibration.z_range_nm for one in (scaled, counts))
    np.testing.assert_allclose(*ranges, atol=0.1)
    for name in ("refit_rmse_x_nm", "refit_rmse_z_nm", "refit_z_slope"):
        quality = (one.calibration.quality[name] for one in (scaled, counts))
        np.testing.assert_allclose(*quality, rtol=0.02)
