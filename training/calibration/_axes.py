"""Axes of other programs' coefficients turned into ours: x along columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.psf_file import PsfCalibration

__all__ = ["flip_columns", "flip_rows", "swap_xy", "transposed"]


def swap_xy(coefficients: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """(A, B, Z, 64), index 16 kz + 4 kb + ka, to (B, A, Z, 64), 16 kz + 4 ka + kb."""
    a, b, z, _ = coefficients.shape
    cube = coefficients.reshape(a, b, z, 4, 4, 4).transpose(1, 0, 2, 3, 5, 4)
    return np.ascontiguousarray(cube, np.float32).reshape(b, a, z, 64)


def transposed(calibration: PsfCalibration) -> PsfCalibration:
    """The PSF of transposed frames."""
    x, y, z = calibration.reference
    return replace(
        calibration,
        coefficients=swap_xy(calibration.coefficients),
        reference=(y, x, z),
    )


def flip_columns(calibration: PsfCalibration) -> PsfCalibration:
    """The PSF of frames mirrored left to right; `em_mirrored` is left alone."""
    return replace(calibration.mirrored(), em_mirrored=calibration.em_mirrored)


def flip_rows(calibration: PsfCalibration) -> PsfCalibration:
    """The PSF of frames mirrored top to bottom."""
    return transposed(flip_columns(transposed(calibration)))
