"""An uneven stage, and light that moves sideways: beads of a pupil model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from blinkloop.training.calibration.bead_jitter import warn_of_scatter
from blinkloop.training.calibration.bead_placement import warn_of_motion
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from pupil import Pupil, bead_stack
finally:
    sys.path.pop(0)

PLACES = [(19.3, 20.1), (58.7, 19.6)]


def calibrated(pupil, heights, rng, photons=2e4, places=PLACES, **settings):
    light = bead_stack(
        pupil, places, (41, 39 * len(places) + 1), heights, 100.0, photons, 20.0, 18
    )
    adu = (rng.poisson(light) + 100).astype(np.uint16)
    return calibrate_beads(
        [BeadStack(adu, baseline_adu=100.0)], BeadSettings(50.0, 100.0, **settings)
    )


@pytest.mark.parametrize("beads", [1, 2])
@pytest.mark.parametrize("scatter_nm", [0.0, 25.0])
def test_a_stage_that_moves_unevenly_is_warned_of(scatter_nm, beads):
    rng = np.random.default_rng(3)
    even = (15 - np.arange(31)) * 50.0
    heights = even + rng.normal(0, scatter_nm, 31)
    pupil = Pupil(1.4, {"astigmatism": 0.12})
    found = calibrated(pupil, heights, rng, places=PLACES[:beads])
    said = [text for text in found.warnings if "beside even steps" in text]
    measured = found.calibration.quality["stage_scatter_nm"]
    if scatter_nm:
        assert len(said) == 1
        # Some of the steps are those of beads that the spline follows.
        assert 7 < measured < 1.3 * scatter_nm
    else:
        assert said == []
        assert measured < 5


def test_scatter_is_unknown_where_z_is_not_told_or_noise_is_all():
    rng = np.random.default_rng(4)
    even = (15 - np.arange(31)) * 50.0
    flat = calibrated(Pupil(1.4), even, rng, places=PLACES[:1])
    assert np.isnan(flat.calibration.quality["stage_scatter_nm"])
    astigmatic = Pupil(1.4, {"astigmatism": 0.12})
    dim = calibrated(astigmatic, even, rng, photons=3e3, places=PLACES[:1])
    assert np.isnan(dim.calibration.quality["stage_scatter_nm"])
    assert not any("even steps" in text for text in flat.warnings + dim.warnings)


def test_what_is_said_of_scatter():
    assert warn_of_scatter(float("nan"), 50.0) == []
    assert warn_of_scatter(11.0, 100.0) == []
    assert "steps of 100 nm by 21 nm" in warn_of_scatter(21.0, 100.0)[0]


def test_taking_out_drift_takes_the_tilt_of_the_psf_with_it():
    """Nothing drifts here: coma moves the light, and the line through it is taken."""
    pupil = Pupil(1.4, {"astigmatism": 0.12, "coma": 0.06})
    even = (15 - np.arange(31)) * 50.0
    found = calibrated(pupil, even, np.random.default_rng(5), correct_drift=True)
    assert found.calibration.quality["walk_x_nm"] > 60
    said = [text for text in found.warnings if "sideways" in text]
    assert len(said) == 1
    assert "if the PSF is tilted, x and y are now wrong" in said[0]


def test_what_is_said_of_light_that_moves():
    assert warn_of_motion((20.0, 10.0), True) == []
    assert "by 50 nm over the stack: a tilted PSF" in warn_of_motion((30, 40), False)[0]
    assert "by 50 nm over the stack; a straight" in warn_of_motion((30, 40), True)[0]
