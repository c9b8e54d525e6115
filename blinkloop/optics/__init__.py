"""PSF, camera and photophysics: the same formulas on NumPy and on torch."""

from __future__ import annotations

from blinkloop.optics.blinking import Blinks, bin_to_frames, sample_blinks
from blinkloop.optics.camera import Camera
from blinkloop.optics.gaussian import GaussianPsf

__all__ = ["Blinks", "Camera", "GaussianPsf", "bin_to_frames", "sample_blinks"]
