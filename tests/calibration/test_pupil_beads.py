"""Beads of an image former that shares nothing with the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from pupil import Pupil, bead_stack
finally:
    sys.path.pop(0)


def test_all_light_is_one_and_lies_around_the_emitter():
    image = Pupil().image((121, 143), 70.3, 58.8, 0.0, 100.0)
    np.testing.assert_allclose(image.sum(), 0.99, atol=0.01)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (column, row) == (70, 59)
    # A Gaussian of the same core has all of its light within 5 px.
    assert image[54:65, 65:76].sum() < 0.95


def test_beads_of_a_vectorial_pupil_give_its_psf():
    pupil = Pupil(1.4, {"astigmatism": 0.12})
    heights = (15 - np.arange(31)) * 50.0
    light = bead_stack(
        pupil, [(19.3, 20.1), (58.7, 19.6)], (41, 79), heights, 100.0, 6e4, 20.0, 18
    )
    adu = (np.random.default_rng(1).poisson(light) + 100).astype(np.uint16)
    found = calibrate_beads(
        [BeadStack(adu, baseline_adu=100.0)], BeadSettings(50.0, 100.0)
    )
    assert found.warnings == []
    np.testing.assert_allclose(found.calibration.quality["refit_z_slope"], 1, atol=0.03)
    psf = found.calibration.psf()
    at, z = np.full(5, 12.0), np.linspace(-500, 500, 5)
    drawn = psf.render(at, at, z, np.ones(5), np.arange(5), 5, 25, 25)
    true = np.stack([pupil.image((25, 25), 12.0, 12.0, height, 100.0) for height in z])
    alike = (drawn * true).sum((1, 2)) / np.sqrt(
        (drawn**2).sum((1, 2)) * (true**2).sum((1, 2))
    )
    assert alike.min() > 0.985
