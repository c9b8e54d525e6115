"""A PSF that differs along x, y and z, and its calibration."""

from __future__ import annotations

import numpy as np

from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration.spline_fit import spline_coefficients

SIZE = 13
SLICES = 9


def samples_xyz(size=SIZE, slices=SLICES):
    """(x, y, z), each plane's light near 1; tails to the right, tilted, astigmatic."""
    middle = (size - 1) / 2
    x, y, z = np.meshgrid(
        np.arange(size) - middle,
        np.arange(size) - middle,
        np.linspace(-1, 1, slices),
        indexing="ij",
    )
    wide, tall = 1.5 + 0.4 * z, 1.2 - 0.3 * z
    values = np.exp(-0.5 * (x / wide) ** 2 - 0.5 * (y / tall) ** 2)
    values += 0.2 * np.exp(-0.5 * (x - 2) ** 2 - 0.5 * (y - 1) ** 2)
    return values / values.sum(axis=(0, 1), keepdims=True).max()


def calibration(**changes):
    facts = {
        "coefficients": spline_coefficients(samples_xyz(), closed=True).astype("f4"),
        "reference": (6.0, 6.0, 4.0),
        "dz_nm": 50.0,
        "pixel_size_nm": 110.0,
        "z_range_nm": (-200.0, 200.0),
    }
    return PsfCalibration(**{**facts, **changes})


def picture(psf, x=9.3, y=7.6, z=30.0, height=17, width=21):
    """One emitter of 1000 photons in a frame that is not square."""
    values = [np.array([v]) for v in (x, y, z, 1000.0)]
    return psf.render(*values, np.zeros(1, np.int64), 1, height, width)[0]
