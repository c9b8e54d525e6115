"""Stacks over more than half a turn of a double helix, which then comes again."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, places, stack_of

from blinkloop.optics import GaussianPsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.calibration.bead_quality import Refit, clear_range
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads


def calibrate(psf, slices, many, photons=20_000):
    rng = np.random.default_rng(5)
    shape = (110, 160) if many else (80, 85)
    beads = places(rng, shape, 50, 28) if many else [(40.3, 38.7)]
    stack = stack_of(psf, beads, rng, shape=shape, slices=slices, photons=photons)
    return calibrate_beads([BeadStack(stack)], BeadSettings(50.0, 100.0))


@pytest.mark.parametrize(
    ("slices", "many"), [(33, True), (41, False), (41, True), (61, True)]
)
def test_z_ends_where_the_psf_comes_again(slices, many):
    """Once: RMSE of z 163 to 723 nm, where 3 nm are possible; half a turn is 1600."""
    result = calibrate(Lobes("helix"), slices, many)
    quality = result.calibration.quality
    assert quality["refit_rmse_z_nm"] < 4
    np.testing.assert_allclose(quality["refit_z_slope"], 1, atol=0.01)
    np.testing.assert_allclose(result.calibration.z_range_nm, (-775, 775), atol=3)
    said = [text for text in result.warnings if "can be" in text]
    assert len([text for text in said if "comes again" in text]) == 1


def test_a_flat_psf_keeps_its_range_and_its_warning():
    flat = GaussianPsf(GaussianPsfSettings(astigmatism_nm=0, z_range_nm=(-800, 800)))
    result = calibrate(flat, 41, True)
    low, high = result.calibration.z_range_nm
    assert high - low > 1800
    assert any("z cannot be told" in text for text in result.warnings)
    assert not any("comes again" in text for text in result.warnings)


def refit_of(stage, fitted):
    none = np.zeros(len(stage))
    return Refit(none.astype(np.int64), stage, fitted, none, none, none, 0)


def test_a_single_wrong_fit_is_no_turn():
    stage = np.arange(-800.0, 801.0, 50.0)
    whole = (-800.0, 800.0)
    assert clear_range(refit_of(stage, stage), whole, 50.0) == whole
    wrong = stage.copy()
    wrong[10] += 700
    assert clear_range(refit_of(stage, wrong), whole, 50.0) == whole
    # One at the end that jumps to the other is one of the two that can.
    wrong = stage.copy()
    wrong[0] += 1600
    assert clear_range(refit_of(stage, wrong), whole, 50.0) == (-775, 775)
    # An uneven stack: as much as there is, around z = 0 as far as it goes.
    wrong = np.where(stage > 0, stage - 1200, stage)
    moved = clear_range(refit_of(stage + 500, wrong + 500), (-300, 1300), 50.0)
    np.testing.assert_allclose(moved, (-300, 850))
