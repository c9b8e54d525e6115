"""An optical image former that shares nothing with the package: a vectorial pupil.

The image of a freely turning dipole is the sum over its three directions and two
polarizations of |Fourier transform of the pupil|^2 (Richards & Wolf 1959,
doi:10.1098/rspa.1959.0200; Mortensen et al. 2010, doi:10.1038/nmeth.1447), with
aberrations as Zernike polynomials (Noll 1976, doi:10.1364/JOSA.66.000207). All light of
an emitter is 1, however far from its centre: what a fit or a network leaves out shows.

Coordinates: x = column, y = row in px, 0 at the centre of a pixel; z in nm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Pupil", "bead_stack"]

Floats = npt.NDArray[np.float64]

_SAMPLES = 96
_FINE_NM = 30.0


class Pupil:
    """A microscope objective without immersion mismatch.

    Parameters
    ----------
    na
        Numerical aperture.
    waves
        Zernike coefficients (Noll's normalisation) in waves: `astigmatism`,
        `astigmatism2` (secondary), `coma`, `spherical`.
    helix
        Zones of a spiral phase (double helix; Prasad 2013, doi:10.1364/OL.38.000585);
        0: none.
    wavelength_nm, index
        Of the light in vacuum; of immersion and sample.
    """

    def __init__(
        self,
        na: float = 1.4,
        waves: dict[str, float] | None = None,
        *,
        helix: int = 0,
        wavelength_nm: float = 680.0,
        index: float = 1.518,
    ) -> None:
        wave = 2 * np.pi / wavelength_nm
        step = 2 * wave * na / _SAMPLES
        self._k = (np.arange(_SAMPLES) - (_SAMPLES - 1) / 2) * step
        kx, ky = np.meshgrid(self._k, self._k)
        radius = np.hypot(kx, ky)
        inside = radius < wave * na
        rho, phi = radius / (wave * na), np.arctan2(ky, kx)
        self._kz = np.sqrt(np.maximum((wave * index) ** 2 - radius**2, 1e-12))
        cos_t = np.where(inside, self._kz / (wave * index), 1.0)
        sin_t = np.sqrt(1 - cos_t**2)
        shapes = {
            "astigmatism": np.sqrt(6) * rho**2 * np.cos(2 * phi),
            "astigmatism2": np.sqrt(10) * (4 * rho**4 - 3 * rho**2) * np.cos(2 * phi),
            "coma": np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.cos(phi),
            "spherical": np.sqrt(5) * (6 * rho**4 - 6 * rho**2 + 1),
        }
        phase = np.zeros_like(rho)
        for name, value in (waves or {}).items():
            phase += 2 * np.pi * value * shapes[name]
        if helix:
            phase += (2 * np.floor(rho**2 * helix) + 1) * phi
        field = inside / np.sqrt(cos_t) * np.exp(1j * phase)
        c, s = np.cos(phi), np.sin(phi)
        mixed = (cos_t - 1) * s * c
        parts = (cos_t * c * c + s * s, mixed, -sin_t * c)
        parts += (mixed, cos_t * s * s + c * c, -sin_t * s)
        self._fields = [field * part for part in parts]
        power = sum(float((np.abs(one) ** 2).sum()) for one in self._fields)
        # Of Parseval: the light on an endless camera.
        self._unit = step**2 / ((2 * np.pi) ** 2 * power)
        self._kz -= self._kz[inside].mean()

    def image(
        self, shape: tuple[int, int], x: float, y: float, z_nm: float, pixel_nm: float
    ) -> Floats:
        """(h, w) share of an emitter's light in each pixel."""
        fine = int(np.ceil(pixel_nm / _FINE_NM))
        within = (np.arange(fine) + 0.5) / fine - 0.5
        along = [
            ((np.arange(size)[:, None] + within).ravel() - at) * pixel_nm
            for size, at in zip(shape, (y, x), strict=True)
        ]
        rows, columns = (np.exp(1j * np.outer(at, self._k)) for at in along)
        depth = np.exp(1j * self._kz * z_nm)
        light = np.zeros((len(along[0]), len(along[1])))
        for one in self._fields:
            light += np.abs(rows @ (one * depth) @ columns.T) ** 2
        light *= self._unit * (pixel_nm / fine) ** 2
        summed: Floats = light.reshape(shape[0], fine, shape[1], fine).sum((1, 3))
        return summed


def bead_stack(
    pupil: Pupil,
    beads: list[tuple[float, float]],
    shape: tuple[int, int],
    heights_nm: Floats,
    pixel_nm: float,
    photons: float,
    background: float,
    half_px: int = 20,
) -> Floats:
    """(Z, H, W) expected photons of beads at (x, y), seen at these heights."""
    stack = np.full((len(heights_nm), *shape), background)
    for x, y in beads:
        rows = slice(max(round(y) - half_px, 0), round(y) + half_px + 1)
        columns = slice(max(round(x) - half_px, 0), round(x) + half_px + 1)
        part = stack[:, rows, columns]
        at = (x - columns.start, y - rows.start)
        for image, z in zip(part, heights_nm, strict=True):
            image += photons * pupil.image(image.shape, *at, z, pixel_nm)
    return stack
