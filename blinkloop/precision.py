"""Theoretical precision of localizing one emitter with a Gaussian PSF."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["precision_px"]

Floats = npt.NDArray[np.float64]


def precision_px(sigma_px: Floats, photons: Floats, background: Floats) -> Floats:
    """Localization precision of one axis in px for a Gaussian PSF.

    Approximation of the Cramer-Rao bound of Rieger and Stallinga (2014),
    doi:10.1002/cphc.201300711, eq. 5: with s^2 = sigma^2 + 1/12 and
    t = 2 pi b s^2 / N, var = s^2 / N (1 + 4 t + sqrt(2 t / (1 + 4 t))).
    """
    n = np.maximum(photons, 1.0)
    s2 = sigma_px**2 + 1 / 12
    t = 2 * np.pi * np.maximum(background, 0.0) * s2 / n
    return np.asarray(np.sqrt(s2 / n * (1 + 4 * t + np.sqrt(2 * t / (1 + 4 * t)))))
