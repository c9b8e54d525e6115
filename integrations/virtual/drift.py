"""The sample's drift: steady, and a random walk."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.settings import DriftSettings

__all__ = ["Drift"]


class Drift:
    """Where the sample has moved to; starts at 0.

    Parameters
    ----------
    settings
        Steady speed and random walk.
    pixel_size_nm
        For the positions, which are px, px, nm.
    rng
        Of the random walk.
    """

    def __init__(
        self, settings: DriftSettings, pixel_size_nm: float, rng: np.random.Generator
    ) -> None:
        s = settings
        self._speed = np.array([s.x_nm_per_s, s.y_nm_per_s, s.z_nm_per_s])
        self._random_nm = s.random_nm
        self._units = np.array([pixel_size_nm, pixel_size_nm, 1.0])
        self._rng = rng
        self.nm = np.zeros(3)
        """x, y, z so far, nm."""

    def advance(self, seconds: float) -> npt.NDArray[np.float64]:
        """Move on; how far the emitters lie from their places now: px, px, nm."""
        self.nm = self.nm + self._speed * seconds
        if self._random_nm > 0:
            step = self._rng.normal(0.0, self._random_nm, 3)
            self.nm = self.nm + step * math.sqrt(seconds)
        return np.asarray(self.nm / self._units)
