"""Images of a point through a high-NA objective with aberrations: a vectorial pupil.

A molecule that turns freely is the sum of dipoles along x, y and z; each lights the
back focal plane with two polarizations, and each of the six fields is focused by a
Fourier transform (Richards & Wolf 1959, doi:10.1098/rspa.1959.0200; Mortensen et al.
2010, doi:10.1038/nmeth.1447). Aberrations are Zernike polynomials (Noll 1976,
doi:10.1364/JOSA.66.000207). No mismatch of the immersion.

Design notes: knows neither cameras nor training. For sets of PSFs made once, not for
drawing emitters: `SplinePsf` does that from what `samples` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ZERNIKE_TERMS", "Pupil"]

_Floats = npt.NDArray[np.float64]

ZERNIKE_TERMS = 7
"""Noll's 5 to 11: both astigmatisms, comas and trefoils, and spherical aberration."""
_ACROSS = 64
"""Samples of the pupil's diameter; its images repeat after 32 lambda / NA."""
_FINE_NM = 35.0
"""Finest structure of the intensity is lambda / (2 NA), above 170 nm."""
_GAUSSIAN = 0.23
"""SD of the Gaussian that fits the focus best, in lambda / NA (about)."""
_LOOKS = 8


@dataclass(frozen=True, slots=True)
class Pupil:
    """One objective.

    Parameters
    ----------
    na
        Numerical aperture, below `index`.
    wavelength_nm
        In vacuum.
    waves
        Aberrations, RMS waves of each of `ZERNIKE_TERMS`; () = none.
    index
        Of immersion and sample.
    """

    na: float
    wavelength_nm: float
    waves: Sequence[float] = ()
    index: float = 1.518

    @property
    def sigma_nm(self) -> float:
        """About the SD of its spot in focus."""
        return _GAUSSIAN * self.wavelength_nm / self.na

    def samples(
        self, heights_nm: Sequence[float], pixel_nm: float, half_px: int
    ) -> _Floats:
        """Light in the pixels around an emitter at the centre of the middle one.

        The emitter is where the core of its image is, at every height: what aberrations
        shift the image by is no fact of the molecule that a localization could know.

        Parameters
        ----------
        heights_nm
            Heights of the emitter (Z,), 0 in focus.
        pixel_nm, half_px
            Size of a pixel; pixels on either side of the middle one.

        Returns
        -------
        ndarray
            (Z, 2 half_px + 1, 2 half_px + 1), rows before columns; of light 1 on an
            endless camera.
        """
        k, fields, defocus, unit = self._fields()
        fine = int(np.ceil(pixel_nm / _FINE_NM))
        step_nm = pixel_nm / fine
        size = 2 * half_px + 1
        places = _middles(size * fine, step_nm)
        width_nm = 2.0 * max(self.sigma_nm, pixel_nm / 2)
        slices = []
        for height in heights_nm:
            bent = fields * np.exp(1j * defocus * height)
            x, y = _core(_intensity(bent, k, places, places), places, width_nm)
            light = _intensity(bent, k, places + x, places + y) * (unit * step_nm**2)
            slices.append(light.reshape(size, fine, size, fine).sum((1, 3)))
        return np.array(slices)

    def _fields(
        self,
    ) -> tuple[_Floats, npt.NDArray[np.complex128], _Floats, float]:
        """Spatial frequencies, the six fields (6, K, K), phase per nm, and the unit."""
        wave = 2 * np.pi / self.wavelength_nm
        step = 2 * wave * self.na / _ACROSS
        k = _middles(_ACROSS, step)
        kx, ky = np.meshgrid(k, k)
        rho: _Floats = np.hypot(kx, ky) / (wave * self.na)
        phi = np.arctan2(ky, kx)
        open_ = rho < 1.0
        sine = np.where(open_, rho * self.na / self.index, 0.0)
        cosine = np.sqrt(1.0 - sine**2)
        phase = sum(
            (2 * np.pi * amount) * term
            for amount, term in zip(self.waves, _zernike(rho, phi), strict=False)
        )
        light = open_ / np.sqrt(cosine) * np.exp(1j * np.asarray(phase))
        c, s = np.cos(phi), np.sin(phi)
        # Light of a dipole along x, y, z, seen polarized along x, then along y.
        parts = [
            s * s + cosine * c * c,
            (cosine - 1.0) * s * c,
            -sine * c,
            (cosine - 1.0) * s * c,
            c * c + cosine * s * s,
            -sine * s,
        ]
        fields = light * np.array(parts)
        total = float((np.abs(fields) ** 2).sum())
        unit = step**2 / ((2 * np.pi) ** 2 * total)  # Parseval: all light is 1
        defocus: _Floats = wave * self.index * cosine
        defocus -= defocus[open_].mean()
        return k, fields, defocus, unit


def _middles(count: int, step: float) -> _Floats:
    """Of so many steps, symmetric about 0."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * step, np.float64)


def _intensity(
    fields: npt.NDArray[np.complex128], k: _Floats, x_nm: _Floats, y_nm: _Floats
) -> _Floats:
    """(Y, X) light at each place, of no particular unit."""
    rows = np.exp(1j * np.outer(y_nm, k))
    columns = np.exp(1j * np.outer(k, x_nm))
    focused = rows @ fields @ columns
    light: _Floats = (focused.real**2 + focused.imag**2).sum(0)
    return light


def _core(light: _Floats, places: _Floats, width_nm: float) -> tuple[float, float]:
    """x, y in nm of the middle of the light, its surroundings left out."""
    x = y = 0.0
    for _ in range(_LOOKS):
        across = np.exp(-0.5 * ((places - x) / width_nm) ** 2)
        down = np.exp(-0.5 * ((places - y) / width_nm) ** 2)
        seen = light * down[:, None] * across
        total = seen.sum()
        x += float(seen.sum(0) @ (places - x) / total)
        y += float(seen.sum(1) @ (places - y) / total)
    return x, y


def _zernike(rho: _Floats, phi: _Floats) -> list[_Floats]:
    """Noll's polynomials 5 to 11, each with RMS 1 on the pupil."""
    return [
        np.sqrt(6) * rho**2 * np.sin(2 * phi),
        np.sqrt(6) * rho**2 * np.cos(2 * phi),
        np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.sin(phi),
        np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.cos(phi),
        np.sqrt(8) * rho**3 * np.sin(3 * phi),
        np.sqrt(8) * rho**3 * np.cos(3 * phi),
        np.sqrt(5) * (6 * rho**4 - 6 * rho**2 + 1),
    ]
