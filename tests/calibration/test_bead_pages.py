"""Stacks with pages that are no slices: dark ends, channels in turn, bursts."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from bead_samples import astigmatic, stack_of
from click.testing import CliRunner

from blinkloop.cli import main
from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

TWO = [(20.3, 22.7), (46.4, 23.6)]
SHAPE = (47, 68)


def beads(rng, **options):
    return stack_of(astigmatic(), TWO, rng, shape=SHAPE, **options)


def calibrated(pixels, **settings):
    return calibrate_beads([BeadStack(pixels)], BeadSettings(50.0, 100.0, **settings))


@pytest.mark.parametrize("falling", [False, True])
def test_dark_slices_at_an_end_are_left_out(falling):
    rng = np.random.default_rng(1)
    whole = beads(rng)
    closed = rng.poisson(100, (2, *SHAPE)).astype(np.uint16)
    late = np.concatenate([closed, whole[2:]])
    found = calibrated(late, falling=falling, focus=15.0)
    said = [text for text in found.warnings if "dark" in text]
    assert said == [
        "slice 0, 1 of stack is dark and at the end (a shutter that opens late, or "
        "closes early); it was left out"
    ]
    expected = calibrated(whole[2:], falling=falling, focus=13.0)
    assert found.calibration.z_range_nm == expected.calibration.z_range_nm
    np.testing.assert_array_equal(
        found.calibration.coefficients, expected.calibration.coefficients
    )
    assert not any("dark" in text for text in calibrated(whole).warnings)


@pytest.mark.parametrize("other", ["empty", "another focus"])
def test_two_channels_in_turn_are_named(other):
    rng = np.random.default_rng(2)
    pages = np.empty((66, *SHAPE), np.uint16)
    pages[0::2] = beads(rng)
    dim = rng.poisson(100, (33, *SHAPE))
    pages[1::2] = dim if other == "empty" else beads(rng, photons=15_000.0)
    with pytest.raises(InputError, match="two channels or illuminations in turn"):
        calibrated(pages)


def test_dim_frames_of_a_height_are_averaged_when_asked():
    rng = np.random.default_rng(3)
    still = beads(rng, slices=31, photons=1000.0, noise=False)
    burst = rng.poisson(np.repeat(still, 20, 0)).astype(np.uint16)
    found = calibrated(burst, frames_per_slice=20)
    low, high = found.calibration.z_range_nm
    assert 1300 < high - low < 1550
    assert "20 frames at each height were averaged, as asked" in found.notes[0]
    with pytest.raises(InputError, match="620 frames are no groups of 7"):
        calibrated(burst, frames_per_slice=7)
    with pytest.raises(InputError, match="0 frames at each height"):
        BeadSettings(50.0, 100.0, frames_per_slice=0)


def test_a_step_of_imagej_that_means_nothing_is_refused(tmp_path):
    path = tmp_path / "beads.tif"
    tifffile.imwrite(
        path,
        beads(np.random.default_rng(4)),
        imagej=True,
        metadata={"axes": "ZYX", "spacing": 1.0, "unit": "micron"},
        resolution=(10, 10),
    )
    words = ["calibrate", str(path), "-o", str(tmp_path / "psf.h5")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "the files say a z step of 1000 nm" in result.output
    assert CliRunner().invoke(main, [*words, "--dz-nm", "50"]).exit_code == 0
