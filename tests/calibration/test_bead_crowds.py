"""Fields so full that a wide filter sees several beads as one."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, places, stack_of

from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_crowds import copies
from blinkloop.training.calibration.bead_finding import find_beads
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.bead_selection import look_at, select_beads
from blinkloop.training.calibration.beads import calibrate_beads

WIDE = Lobes("tetrapod", size_px=2.0, reach_px=4.0)


def calibrate(pixels):
    return calibrate_beads([BeadStack(pixels)], BeadSettings(50.0, 100.0))


def random_places(rng, shape, count=40):
    x = rng.uniform(8, shape[1] - 8, count)
    y = rng.uniform(8, shape[0] - 8, count)
    return list(zip(x, y, strict=True))


@pytest.mark.parametrize("psf", [WIDE, Lobes("helix")], ids=["tetrapod", "helix"])
@pytest.mark.parametrize("shape", [(80, 126), (147, 160)])
def test_a_dense_field_of_wide_psfs_is_no_single_bead(psf, shape):
    """Once: one bead in a window of 69 px, x and y off by 210 nm, weak warnings."""
    rng = np.random.default_rng(1)
    truth = np.array(places(rng, shape, 14, 10))
    stack = stack_of(psf, truth, rng, shape=shape)
    seen = find_beads(stack.astype(np.float64))
    found = np.stack([seen.column, seen.row], 1)
    away = np.abs(truth[:, None] - found).max(2).min(1)
    assert (away <= 2.5).mean() > 0.95
    with pytest.raises(InputError, match=r"none can be used: .*sparser sample"):
        calibrate(stack)


def test_lonely_beads_of_a_crowd_make_the_psf():
    """Once: a bead that was off by a pixel, as a wide filter saw two."""
    rng = np.random.default_rng(5)
    shape = (147, 160)
    truth = np.array(random_places(rng, shape))
    result = calibrate(stack_of(astigmatic(), truth, rng, shape=shape))
    assert len(result.used) >= 3
    for bead in result.used:
        away = np.hypot(truth[:, 0] - bead.x_px, truth[:, 1] - bead.y_px).min()
        assert away < 0.06
    np.testing.assert_allclose(
        result.calibration.quality["refit_z_slope"], 1, atol=0.03
    )


def test_lobes_of_one_psf_are_no_copies_beads_are():
    rng = np.random.default_rng(2)
    psf = Lobes("helix")
    beads = places(rng, (110, 160), 50, 28)
    stack = stack_of(psf, beads, rng, shape=(110, 160)).astype(np.float64)
    x, y = (np.rint(part).astype(int) for part in np.array(beads).T)
    assert copies(stack, x, y, 7) == 1.0
    lobes = np.array([4, -4] * len(x))
    # Each lobe is like the same one of the other beads only: less than half of all.
    assert copies(stack, np.repeat(x, 2) + lobes, np.repeat(y, 2), 4) < 0.5
    assert copies(stack, x[:2], y[:2], 7) == 0.0


def test_light_of_others_at_the_rim_drops_a_bead_but_not_a_given_window():
    rng = np.random.default_rng(3)
    beads = [(40.3, 40.2), (100.4, 40.1)]
    stack = stack_of(astigmatic(), beads, rng, shape=(81, 141)).astype(np.float64)
    # A neighbour that is no spot of its own: as wide as a bead out of focus.
    y, x = np.mgrid[:81, :141]
    stack += 1000 * np.exp(-((x - 53) ** 2 + (y - 40) ** 2) / (2 * 4.0**2))
    seen = BeadStack(stack)
    field = look_at(seen, seen.photons())
    used, dropped = select_beads(field, 0, 9)
    assert [one.column for one in used] == [100]
    assert any("light at the rim of its window is" in why for _, why in dropped)
    assert len(select_beads(field, 0, 9, given=True)[0]) == 2


def test_a_slope_of_the_background_is_no_neighbour():
    rng = np.random.default_rng(5)
    beads = [(40.3, 40.2), (100.4, 40.1)]
    light = stack_of(
        astigmatic(), beads, rng, shape=(81, 141), photons=4000, noise=False
    )
    sloping = rng.poisson(light + np.linspace(0, 800, 141)).astype(np.float64)
    seen = BeadStack(sloping)
    used, _ = select_beads(look_at(seen, seen.photons()), 0, 9)
    assert sorted(one.column for one in used) == [40, 100]


def test_disturbed_beads_of_a_crowd_are_said_to_be():
    rng = np.random.default_rng(1)
    shape = (147, 160)
    result = calibrate(stack_of(WIDE, random_places(rng, shape), rng, shape=shape))
    assert any("the field is crowded" in text for text in result.warnings)
