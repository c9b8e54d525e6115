"""Background light: slow in space and time, bleaching; and emitters out of focus."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.settings import BackgroundSettings
from blinkloop.optics.gaussian import gaussian_shares

__all__ = ["Background", "out_of_focus_pattern"]

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


def out_of_focus_pattern(
    sites: npt.NDArray[np.float64], sigma_px: float, height: int, width: int
) -> npt.NDArray[np.float32]:
    """Share of the out-of-focus light that falls on each pixel, (height, width).

    That light comes from above and below the structure, so it has its shape, blurred:
    a Gaussian around every site, integrated over the pixels.

    Parameters
    ----------
    sites
        (n, 3) x_px, y_px, z_nm of all emitters, those beside the chip included.
    sigma_px
        SD of the blur.
    """
    if not len(sites):
        return np.zeros((height, width), np.float32)
    # Whole pixels are fine enough for a blur of many of them.
    margin = max(0, math.ceil(float(max(-sites[:, :2].min(), 0.0))))
    beyond = sites[:, :2].max(axis=0) - [width - 1, height - 1]
    margin = max(margin, math.ceil(float(max(beyond.max(), 0.0)))) + 1
    column, row = (np.rint(sites[:, axis]).astype(int) + margin for axis in (0, 1))
    counts = np.zeros((height + 2 * margin, width + 2 * margin))
    np.add.at(counts, (row, column), 1.0 / len(sites))
    down = _blur(height, margin, sigma_px)
    across = _blur(width, margin, sigma_px)
    return np.asarray(down @ counts @ across.T, np.float32)


def _blur(size: int, margin: int, sigma_px: float) -> npt.NDArray[np.float64]:
    """(size, size + 2 margin): light of a source in each pixel of one axis."""
    sources = np.arange(size + 2 * margin, dtype=np.float64) - margin
    return np.asarray(gaussian_shares(sources, np.full_like(sources, sigma_px), size)).T


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
