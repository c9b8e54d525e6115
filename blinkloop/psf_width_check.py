"""Whether the spots in the data have a width that an amortized model knows.

Such a model was trained for a range of Gaussian PSFs. What it found is compared with
Gaussians of several widths, by `PsfCheck`; the best one tells the width.

Design notes
------------
Local by nature: the lobes of a Tetrapod or a double helix are such spots each, so a PSF
of several lobes is not recognised here. It says nothing of z, which these models do not
give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import GaussianPsf
from blinkloop.psf_check import PsfCheck
from blinkloop.schema import (
    CameraSettings,
    GaussianPsfSettings,
    VariedGaussianPsfSettings,
)

__all__ = ["PsfWidthAgreement", "PsfWidthCheck"]

_WIDTHS = 9
_BEYOND = 1.6
"""Widths are tried this factor beyond both ends of the range."""
# The mean spot of a sample in depth is no Gaussian. Simulated samples, in focus and
# through +-500 nm, astigmatic or not, reach 0.99 with the nearest of nine widths.
_WARN_BELOW = 0.93


@dataclass(frozen=True, slots=True)
class PsfWidthAgreement:
    """How wide the mean spot is.

    Parameters
    ----------
    patches
        Patches compared.
    correlation
        With the best width; NaN when there was too little to compare.
    interval
        Its central 95 %.
    sigma_px
        That width; NaN likewise.
    known_px
        Widths the model knows, defocus included.
    """

    patches: int
    correlation: float
    interval: tuple[float, float]
    sigma_px: float
    known_px: tuple[float, float]

    @property
    def warning(self) -> str | None:
        """One line when the spots are not what the model knows, else None."""
        low, high = self.known_px
        if self.sigma_px > high:
            width = "wider"
        elif self.sigma_px < low:
            width = "narrower"
        elif self.interval[1] < _WARN_BELOW:
            return (
                f"the spots in the data do not look like Gaussians of any width "
                f"(correlation {self.correlation:.2f} in {self.patches} detections): "
                f"positions and photons cannot be trusted; use a model trained for "
                f"the PSF of this microscope"
            )
        else:
            return None
        return (
            f"the spots in the data are {width} (SD {self.sigma_px:.2g} px) than the "
            f"model knows ({low:.2g} to {high:.2g} px): check --pixel-size-nm and the "
            f"focus, or train for the PSF of this microscope"
        )


class PsfWidthCheck:
    """Compares frames with Gaussians of several widths; used as `PsfCheck` is.

    Parameters
    ----------
    psf
        What the model was trained for.
    camera
        For the noise.
    """

    def __init__(self, psf: VariedGaussianPsfSettings, camera: CameraSettings) -> None:
        low, high = psf.sigma0_px
        depth = max(abs(z) for z in psf.emitter_z_range_nm) / psf.depth_nm[0]
        # Half of the samples lie nearer to the focus than half the depth.
        self._known = (low, high * float(np.sqrt(1 + (depth / 2) ** 2)))
        self._widths = np.geomspace(
            low / _BEYOND, self._known[1] * _BEYOND, _WIDTHS
        ).tolist()
        self._checks = [
            PsfCheck(GaussianPsf(_flat(width)), camera) for width in self._widths
        ]

    @property
    def enough(self) -> bool:
        """True when further frames would be ignored."""
        return self._checks[0].enough

    def add(
        self,
        photons: npt.NDArray[Any],
        localizations: npt.NDArray[np.void],
        *,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Compare one frame; parameters as for `PsfCheck.add`."""
        for check in self._checks:
            check.add(photons, localizations, origin=origin)

    def result(self) -> PsfWidthAgreement:
        """What was found so far."""
        found = [check.result() for check in self._checks]
        correlations = np.array([one.correlation for one in found])
        if np.isnan(correlations).all():
            nothing = (np.nan, np.nan)
            return PsfWidthAgreement(
                found[0].patches, np.nan, nothing, np.nan, self._known
            )
        best = int(np.nanargmax(correlations))
        return PsfWidthAgreement(
            found[best].patches,
            found[best].correlation,
            found[best].interval,
            self._widths[best],
            self._known,
        )


def _flat(sigma_px: float) -> GaussianPsfSettings:
    return GaussianPsfSettings(
        sigma0_px=sigma_px, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0)
    )
