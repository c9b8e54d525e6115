"""How well single molecules can be localized with a PSF made from beads: the bound.

Noise of the beads is structure of the PSF, and structure is information that no
molecule carries: of dim beads the Cramer-Rao bound would be far too good. Between two
PSFs with nothing in common but the truth, noise cancels in products, so the Fisher
information is taken between them: sum over pixels of (d_a m1)(d_b m2) / m.

Design notes: knows no beads and no fits; the two PSFs are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.optics import SplinePsf, crlb

__all__ = ["Bounds", "bounds"]

Floats = npt.NDArray[np.float64]

_LEAST_EIGENVALUE = 1e-6
"""Below, noise has left no information on some direction."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Cramer-Rao bounds (SD, nm) over z for one emitter in the middle of a pixel."""

    z_nm: Floats
    x_sd_nm: Floats
    y_sd_nm: Floats
    z_sd_nm: Floats
    photons: float
    background: float


def bounds(
    psf: SplinePsf,
    z_range_nm: tuple[float, float],
    pixel_size_nm: float,
    *,
    halves: tuple[SplinePsf, SplinePsf] | None = None,
    photons: float = 5000.0,
    background: float = 20.0,
    points: int = 41,
) -> Bounds:
    """Cramer-Rao bounds over z with shot noise alone.

    Parameters
    ----------
    halves
        Two PSFs of one emitter whose noise has nothing in common. None: the noise of
        `psf` counts as its structure, and the bounds are too good by that.
    """
    z = np.linspace(*z_range_nm, points)
    sd = _from_noisy(psf, z, photons, background)
    if halves is not None:
        low = max(half.z_range_nm[0] for half in halves)
        high = min(half.z_range_nm[1] for half in halves)
        # Beyond the slices of a half nothing changes with z: the nearest height.
        both = np.clip(z, low, high)
        honest = _from_halves(psf, halves, both, photons, background)
        sd = sd * np.maximum(honest / _from_noisy(psf, both, photons, background), 1.0)
    x, y, height = sd.T
    return Bounds(z, x * pixel_size_nm, y * pixel_size_nm, height, photons, background)


def _from_noisy(
    psf: SplinePsf, z_nm: Floats, photons: float, background: float
) -> Floats:
    """(N, 3) bounds in px, px and nm, as if the PSF had no noise."""
    middle, light = np.zeros(len(z_nm)), np.full(len(z_nm), photons)
    model = _expected(psf, z_nm, photons, background)
    slopes = psf.derivatives(middle, middle, z_nm, light)
    result: Floats = np.sqrt(crlb(slopes, model)[:, :3])
    return result


def _from_halves(
    psf: SplinePsf,
    halves: tuple[SplinePsf, SplinePsf],
    z_nm: Floats,
    photons: float,
    background: float,
) -> Floats:
    """(N, 3) bounds from the information that both PSFs have; infinite without any."""
    middle, light = np.zeros(len(z_nm)), np.full(len(z_nm), photons)
    model = _expected(psf, z_nm, photons, background)
    one, other = (half.derivatives(middle, middle, z_nm, light) for half in halves)
    shared = np.einsum("nahw,nbhw,nhw->nab", one, other, 1 / model)
    shared = (shared + shared.transpose(0, 2, 1)) / 2
    result = np.full((len(z_nm), 3), np.inf)
    diagonal = np.diagonal(shared, axis1=1, axis2=2)
    for number in np.flatnonzero((diagonal > 0).all(1)):
        scale = np.sqrt(diagonal[number])
        scaled = shared[number] / np.outer(scale, scale)
        if np.linalg.eigvalsh(scaled)[0] > _LEAST_EIGENVALUE:
            variance = np.diag(np.linalg.inv(scaled)) / scale**2
            result[number] = np.sqrt(variance[:3])
    return result


def _expected(
    psf: SplinePsf, z_nm: Floats, photons: float, background: float
) -> Floats:
    middle, light = np.zeros(len(z_nm)), np.full(len(z_nm), photons)
    drawn = psf.roi(middle, middle, z_nm, light)[0]
    result: Floats = np.maximum(drawn, 0.0) + background
    return result
