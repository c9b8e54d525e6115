"""The light of one emitter, drawn without the package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["HEIGHT", "WIDTH", "spot"]

HEIGHT, WIDTH = 45, 61


def spot(x: float, y: float, photons: float) -> npt.NDArray[np.float64]:
    """(HEIGHT, WIDTH) photons of a Gaussian of 1.3 px (SD)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    squares = (columns - x) ** 2 + (rows - y) ** 2
    return photons / (2 * np.pi * 1.69) * np.exp(-squares / 3.38)
