"""Stacks of which some were scanned up and others down are no one calibration."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import astigmatic, places, stack_of

from blinkloop.errors import InputError
from blinkloop.optics import GaussianPsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

SHAPE = (70, 147)


def calibrate(first, second):
    stacks = [BeadStack(first, "a.tif"), BeadStack(second, "b.tif")]
    return calibrate_beads(stacks, BeadSettings(50.0, 100.0))


def two(count, psf, photons):
    rng = np.random.default_rng(2)
    grid = places(rng, SHAPE, 26, 17)
    higher = [(x, y, 1.0, 150.0) for x, y in grid[:count]]
    return (
        stack_of(psf, beads, rng, shape=SHAPE, photons=photons)
        for beads in (higher, grid[-count:])
    )


@pytest.mark.parametrize(("count", "photons"), [(1, 60_000), (4, 60_000), (4, 3000)])
def test_a_stack_in_the_other_order_is_refused(count, photons):
    """Once: the beads of the smaller stack dropped, and z of perhaps the wrong sign."""
    up, other = two(count, astigmatic(), photons)
    with pytest.raises(InputError, match=r"scanned the other way than .*--falling"):
        calibrate(up, other[::-1])
    assert len(calibrate(up, other).used) == 2 * count


def test_of_a_flat_psf_the_order_is_not_known():
    flat = GaussianPsf(GaussianPsfSettings(astigmatism_nm=0, z_range_nm=(-800, 800)))
    up, other = two(3, flat, 60_000)
    assert len(calibrate(up, other[::-1]).used) == 6
