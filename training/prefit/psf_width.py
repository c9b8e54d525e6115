"""The width of an unmeasured PSF, and whether it is astigmatic.

Of an astigmatic Gaussian PSF, sigma_x and sigma_y lie on a curve whatever z is:

    (sigma_x/s0)^2 - 1 = (u + alpha)^2,   (sigma_y/s0)^2 - 1 = (u - alpha)^2

with alpha = a/d (REFERENCE section 5). The curve gives s0 and alpha. One movie cannot
give the scale of z, nor on which side of the focus x is the broad axis: both need a
calibration, and the recipe this one is made from keeps its word on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.fitting import Fits

__all__ = ["PsfWidth", "measure_width"]

Floats = npt.NDArray[np.float64]

_ASTIGMATIC = 0.12
"""Spread of ln(sigma_x / sigma_y) beyond its errors from which x and y differ."""

_MOST_POINTS = 2000


@dataclass(frozen=True, slots=True)
class PsfWidth:
    """Standard deviation in focus with its 95 % interval, and a / d; 0 = round."""

    sigma0_px: float
    low: float
    high: float
    astigmatism: float
    fits: int


def measure_width(fits: Fits) -> PsfWidth:
    """Width from fits of `fit_widths(separate=True)`; the bright half is used."""
    bright = fits.good & (fits.photons >= np.median(fits.photons[fits.good]))
    sigma_x, sigma_y = fits.sigma_x_px[bright], fits.sigma_y_px[bright]
    # For a Gaussian in no background, var(sigma) = var(x) / 2; with one, rather more.
    error = np.hypot(
        fits.x_sigma_px[bright] / sigma_x, fits.y_sigma_px[bright] / sigma_y
    )
    ratio = np.log(sigma_x / sigma_y)
    # Of ratios around their own middle: lenses may be a little oval, always.
    spread = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
    beyond = math.sqrt(max(spread**2 - float(np.median(error)) ** 2, 0.0))
    if beyond < _ASTIGMATIC:
        middle = np.sqrt(sigma_x * sigma_y)
        sigma0 = float(np.median(middle))
        half = 1.96 * 1.25 * float(middle.std()) / math.sqrt(len(middle))
        return PsfWidth(sigma0, sigma0 - half, sigma0 + half, 0.0, len(middle))
    step = max(1, len(sigma_x) // _MOST_POINTS)
    return _curve(sigma_x[::step], sigma_y[::step])


def _curve(sigma_x: Floats, sigma_y: Floats) -> PsfWidth:
    """Fit s0 and alpha to points on the curve."""
    optimize = extras.require("scipy.optimize", "Measuring the PSF's width", "train")
    start = [math.log(float(np.quantile(np.minimum(sigma_x, sigma_y), 0.1))), 0.0]
    u = np.linspace(-2.5, 2.5, 201)

    def away(at: Floats, x: Floats, y: Floats) -> float:
        s0, alpha = math.exp(at[0]), math.exp(at[1])
        curve_x = at[0] + 0.5 * np.log(1 + (u + alpha) ** 2)
        curve_y = at[0] + 0.5 * np.log(1 + (u - alpha) ** 2)
        square = (np.log(x)[:, None] - curve_x) ** 2 + (
            np.log(y)[:, None] - curve_y
        ) ** 2
        # Distances beyond 20 % are overlaps, not noise: they must not pull.
        return float(np.sum(np.minimum(square.min(1), 0.04))) + 0.0 * s0

    def best(x: Floats, y: Floats) -> Floats:
        found = optimize.minimize(
            away, start, args=(x, y), method="Nelder-Mead", options={"xatol": 1e-4}
        )
        return np.asarray(np.exp(found.x), np.float64)

    s0, alpha = best(sigma_x, sigma_y)
    # The interval from ten parts of the points, each fitted alone.
    parts = min(10, len(sigma_x) // 10)
    alone = [best(sigma_x[k::parts], sigma_y[k::parts])[0] for k in range(parts)]
    half = 1.96 * float(np.std(alone)) / math.sqrt(max(parts, 1)) if parts > 1 else s0
    return PsfWidth(float(s0), float(s0 - half), float(s0 + half), alpha, len(sigma_x))
