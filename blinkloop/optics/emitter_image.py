"""What the optics make of a frame's emitters: expected photons per pixel.

A Gaussian is drawn within five standard deviations (6e-7 of its light is outside) and
by bands of rows; any other PSF draws itself.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.optics.gaussian import GaussianPsf, gaussian_shares
from blinkloop.optics.spline import SplinePsf

__all__ = ["emitter_image"]

_Floats = npt.NDArray[np.float32]
_REACH = 5.0
_BAND_PX = 64


def emitter_image(
    psf: GaussianPsf | SplinePsf,
    positions: npt.NDArray[np.float64],
    photons: npt.NDArray[np.float64],
    height: int,
    width: int,
) -> _Floats:
    """Expected photons of emitters on a chip.

    Parameters
    ----------
    psf
        Image of a point.
    positions
        (E, 3) x_px, y_px, z_nm; also beyond the chip.
    photons
        (E,) of each.
    height, width
        Of the chip in px.

    Returns
    -------
    ndarray
        (height, width) float32.
    """
    x, y, z = positions.astype(np.float32).T
    light = photons.astype(np.float32)
    if not isinstance(psf, GaussianPsf):
        frame = np.zeros(light.size, np.int64)
        drawn = psf.render(x, y, z, light, frame, 1, height, width)[0]
        return np.asarray(drawn, np.float32)
    image = np.zeros((height, width), np.float32)
    if not light.size:
        return image
    order = np.argsort(y)
    x, y, light = x[order], y[order], light[order]
    sigma_x, sigma_y = (np.asarray(s, np.float32) for s in psf.sigmas_px(z[order]))
    columns = _lines(x, sigma_x, width)
    half = math.ceil(_REACH * float(sigma_y.max()))
    for top in range(0, height, _BAND_PX):
        rows = min(_BAND_PX, height - top)
        first, last = np.searchsorted(y, [top - half - 1.0, top + rows + half])
        near = slice(int(first), int(last))
        lines = _lines(y[near] - np.float32(top), sigma_y[near], rows)
        lines *= light[near, None]
        np.matmul(lines.T, columns[near], out=image[top : top + rows])
    return image


def _lines(centre_px: _Floats, sigma_px: _Floats, size: int) -> _Floats:
    """(E, size): share of each emitter's light in each pixel along one axis."""
    n = centre_px.size
    # One more at either end takes what falls beside the chip.
    table = np.zeros((n, size + 2), np.float32)
    if not n:
        return table[:, 1:-1]
    half = math.ceil(_REACH * float(sigma_px.max()))
    first = np.floor(centre_px + np.float32(0.5)) - np.float32(half)
    pixels = np.arange(2 * half + 1)
    share = gaussian_shares(centre_px - first, sigma_px, pixels.size)
    places = np.clip(first[:, None] + (pixels + 1), 0, size + 1)
    table[np.arange(n)[:, None], places.astype(np.intp)] = share
    return table[:, 1:-1]
