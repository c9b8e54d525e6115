"""The golden spline as a PSF calibration, for tests that need a measured PSF.

Importable as `golden_psf` because pytest puts the folder of `conftest.py` on the path.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blinkloop.psf_file import PsfCalibration

__all__ = ["GOLDEN", "golden_calibration"]

GOLDEN = Path(__file__).parent / "golden" / "decode_spline.npz"


def golden_calibration(scale: float = 1.0) -> PsfCalibration:
    """The spline at 100 nm pixels over +-400 nm; `scale` makes it another one."""
    with np.load(GOLDEN) as golden:
        return PsfCalibration(
            scale * golden["coeff"].astype(np.float32),
            tuple(float(value) for value in golden["ref0"]),
            float(golden["vx"][2]),
            pixel_size_nm=100.0,
            z_range_nm=(-400.0, 400.0),
        )
