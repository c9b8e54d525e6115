"""How far from an emitter its light still counts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array
from blinkloop.optics.gaussian import GaussianPsf
from blinkloop.optics.mixed import MixedPsf
from blinkloop.optics.varied import VariedGaussianPsf

__all__ = ["reach_px"]

_SDS = 3.5
"""Beyond so many standard deviations are 0.02 % of a Gaussian's light, per side."""


def reach_px(
    psf: object, z_range_nm: tuple[float, float], movies: int
) -> npt.NDArray[np.float64]:
    """(S,) px: emitters farther than this outside the field send no light into it.

    Parameters
    ----------
    psf
        A Gaussian: 3.5 SDs of its widest spot within the range of z. A spline: half its
        window. A mixture: that of each movie. Anything else: 10.
    z_range_nm
        Where emitters lie.
    movies
        Number of movies S; a varied PSF has as many entries per movie each.
    """
    ends = np.array(z_range_nm, np.float64)
    widest: npt.NDArray[np.float64]
    if isinstance(psf, MixedPsf):
        reach = reach_px(psf.gaussians, z_range_nm, movies)
        which = psf.which.reshape(movies, -1)[:, 0]
        for movie in np.flatnonzero(which >= 0):
            reach[movie] = reach_px(psf.splines[which[movie]], z_range_nm, 1)[0]
        return reach
    if isinstance(psf, VariedGaussianPsf):
        frames = np.arange(len(psf.sigma0_px)).reshape(movies, -1)[:, 0]
        # Both widths grow with the distance from their focus: widest at an end.
        sigmas = [psf.sigmas_px(np.full(movies, z), frames) for z in ends]
        widest = np.max(np.array(sigmas), axis=(0, 1))
        return np.ceil(_SDS * widest)
    if isinstance(psf, GaussianPsf):
        widest = np.max(np.array(psf.sigmas_px(ends)))
        return np.full(movies, np.ceil(_SDS * widest))
    window: Array | None = getattr(psf, "window_shape", None)
    return np.full(movies, 10.0 if window is None else math.ceil(max(window) / 2))
