"""PSF, camera and photophysics: the same formulas on NumPy and on torch."""

from __future__ import annotations

from blinkloop.optics.blinking import Blinks, bin_to_frames, sample_blinks
from blinkloop.optics.camera import Camera
from blinkloop.optics.crlb import crlb, pixel_variance
from blinkloop.optics.gaussian import GaussianPsf
from blinkloop.optics.spline import SplinePsf

__all__ = [
    "Blinks",
    "Camera",
    "GaussianPsf",
    "SplinePsf",
    "bin_to_frames",
    "crlb",
    "pixel_variance",
    "sample_blinks",
]
