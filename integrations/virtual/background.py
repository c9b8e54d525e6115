"""Background light: slow in space, slow in time, bleaching."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.settings import BackgroundSettings

__all__ = ["Background"]

_WAVES = 6
_SHORTEST_PX = 40.0


class Background:
    """Expected background photons per pixel as a function of time.

    Parameters
    ----------
    settings
        Mean, structure, bleaching, drift.
    height, width
        Of the chip in px.
    rng
        Draws the pattern once.
    """

    def __init__(
        self,
        settings: BackgroundSettings,
        height: int,
        width: int,
        rng: np.random.Generator,
    ) -> None:
        self._settings = settings
        self._map = settings.photons * _pattern(settings.structure, height, width, rng)
        self._phase = rng.uniform(0, 2 * math.pi)

    def factor(self, time_s: float) -> float:
        """Brightness at a time, relative to the mean at the start."""
        s = self._settings
        bleached = (
            1.0 if s.bleach_time_s is None else math.exp(-time_s / s.bleach_time_s)
        )
        wave = math.sin(2 * math.pi * time_s / s.drift_period_s + self._phase)
        return bleached * (1 + s.drift * wave)

    def at(self, time_s: float) -> npt.NDArray[np.float32]:
        """(H, W) expected photons per pixel in a frame at that time."""
        return self._map * np.float32(self.factor(time_s))


def _pattern(
    contrast: float, height: int, width: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """(H, W) of mean 1, a few long waves; SD `contrast`, cut off at 0."""
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * math.pi, _WAVES)
    length = rng.uniform(_SHORTEST_PX, 3 * _SHORTEST_PX, _WAVES)
    phase = rng.uniform(0, 2 * math.pi, _WAVES)
    waves = np.zeros((height, width))
    for a, wavelength, p in zip(angle, length, phase, strict=True):
        along = x * math.cos(a) + y * math.sin(a)
        waves += np.cos(2 * math.pi * along / wavelength + p)
    waves -= waves.mean()
    spread = float(waves.std())
    pattern = 1 + contrast * waves / spread if spread > 0 else np.ones_like(waves)
    pattern = np.clip(pattern, 0, None)
    return np.asarray(pattern / pattern.mean(), dtype=np.float32)
