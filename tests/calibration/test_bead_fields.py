"""Fields as people have them: full, dusty, with hot pixels, cut out, scanned far."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, places, stack_of

from blinkloop.training.calibration.bead_finding import find_beads
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads


def calibrate(*pixels, **facts):
    settings = BeadSettings(**{"dz_nm": 100.0, "pixel_size_nm": 100.0, **facts})
    return calibrate_beads([BeadStack(one) for one in pixels], settings)


def few(rng, **more):
    beads = [(25.2, 24.6), (60.9, 26.3), (95.4, 25.1)]
    return stack_of(
        astigmatic(), beads, rng, shape=(50, 121), slices=17, dz_nm=100, **more
    )


@pytest.mark.parametrize(
    ("psf", "apart"),
    [(astigmatic(), 15), (Lobes("tetrapod", size_px=2.0, reach_px=6.0), 30)],
    ids=["astigmatic", "tetrapod"],
)
def test_beads_of_a_field_full_of_light_are_found(psf, apart):
    rng = np.random.default_rng(1)
    shape = (3 * apart + 5, 4 * apart + 3)
    truth = places(rng, shape, apart, apart // 2)
    stack = stack_of(psf, truth, rng, shape=shape, slices=21, dz_nm=100)
    seen = find_beads(stack.astype(np.float64))
    strong = seen.response > 0.25 * seen.response[0]
    found = np.stack([seen.column[strong], seen.row[strong]], 1)
    assert len(truth) == 12
    away = np.abs(np.array(truth)[:, None] - found).max(2).min(1)
    assert (away <= 2.5).sum() >= 10


def test_hot_pixels_are_taken_out_wherever_they_are():
    rng = np.random.default_rng(2)
    stack = few(rng)
    clean = calibrate(stack)
    rows, columns = np.mgrid[3:50:11, 3:121:13]
    stack[:, rows, columns] = rng.integers(2000, 30000, rows.shape)
    stack[:, 0, 40] = stack[:, 49, 80] = stack[:, 30, 120] = 30000
    result = calibrate(stack)
    assert len(result.used) == len(clean.used) == 3
    got, expected = (
        r.calibration.psf().render(
            *([np.array([12.0])] * 2),
            np.zeros(1),
            np.ones(1),
            np.zeros(1, int),
            1,
            25,
            25,
        )
        for r in (result, clean)
    )
    np.testing.assert_allclose(got, expected, atol=0.03 * expected.max())


def test_dust_in_front_of_the_camera_is_no_bead():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:50, :121]
    dust = 3000 * np.exp(-((x - 60) ** 2 + (y - 44) ** 2) / (2 * 5.0**2))
    clean = few(rng)
    stack = rng.poisson(np.minimum(clean + dust, 60_000)).astype(np.uint16)
    used = {round(bead.x_px) for bead in calibrate(stack).used}
    assert {25, 95} <= used <= {25, 61, 95}


def test_beads_cut_out_closely_are_used():
    rng = np.random.default_rng(4)
    cut = [
        stack_of(astigmatic(), [place], rng, shape=(23, 25), slices=17, dz_nm=100)
        for place in ((12.2, 11.3), (11.7, 10.8), (12.4, 11.1))
    ]
    result = calibrate(*cut)
    assert len(result.used) == 3
    np.testing.assert_allclose(
        result.calibration.quality["refit_z_slope"], 1, atol=0.05
    )


def test_slices_far_out_of_focus_end_the_range_not_the_calibration():
    rng = np.random.default_rng(5)
    stack = stack_of(
        astigmatic(),
        [(30.2, 29.6), (90.9, 31.3)],
        rng,
        shape=(60, 121),
        slices=61,
        dz_nm=100,
    )
    result = calibrate(stack)
    low, high = result.calibration.z_range_nm
    assert low < -500 < 500 < high
    assert 0.9 < result.calibration.quality["refit_z_slope"] < 1.1
