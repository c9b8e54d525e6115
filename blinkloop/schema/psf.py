"""Which point spread function a network was made for."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "GaussianPsfSettings",
    "ObjectiveSettings",
    "PsfSettings",
    "SplinePsfSettings",
    "VariedGaussianPsfSettings",
]


class GaussianPsfSettings(BaseModel):
    """Pixel-integrated Gaussian, astigmatic when `astigmatism_nm` is not 0.

    sigma_x(z) = sigma0 sqrt(1 + ((z + a) / d)^2), sigma_y with z - a.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gaussian"] = "gaussian"
    sigma0_px: float = Field(1.1, gt=0, description="SD in focus, px.")
    astigmatism_nm: float = Field(
        250.0, description="Focus shift a of x and y, nm; 0 = not astigmatic."
    )
    depth_nm: float = Field(280.0, gt=0, description="Focal depth d, nm.")
    z_range_nm: tuple[float, float] = Field(
        (-500.0, 500.0), description="Range of z, nm; (0, 0) = 2D."
    )


class SplinePsfSettings(BaseModel):
    """Cubic-spline PSF measured on beads, kept in its own file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["spline"] = "spline"
    file: str = Field(description="Calibration file the coefficients come from.")
    sha256: str = Field("", description="Hash of that file.")
    pixel_size_nm: float = Field(100.0, gt=0, description="Pixel of the calibration.")
    z_range_nm: tuple[float, float] = Field(description="Calibrated range of z, nm.")


class ObjectiveSettings(BaseModel):
    """Objectives with aberrations, for movies whose PSF is no Gaussian.

    Vectorial pupils (`blinkloop.optics.pupil`); their spots are as wide as those of the
    Gaussians beside them. `count` of them are made once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fraction: float = Field(
        0.5, ge=0, le=1, description="Share of movies with such a PSF."
    )
    count: int = Field(48, ge=1, description="How many different ones.")
    seed: int = Field(0, ge=0, description="Of their random numbers.")
    numerical_aperture: tuple[float, float] = Field(
        (1.0, 1.49), description="Numerical aperture in oil, n = 1.518."
    )
    wavelength_nm: tuple[float, float] = Field(
        (520.0, 720.0), description="Wavelength in vacuum, nm."
    )
    aberration_waves: tuple[float, float] = Field(
        (0.0, 0.12),
        description="RMS of Zernike terms 5 to 11 together, waves.",
    )
    astigmatism_waves: tuple[float, float] = Field(
        (0.05, 0.2),
        description="More astigmatism, waves, in the movies that are to have some.",
    )
    focus_nm: tuple[float, float] = Field(
        (-200.0, 200.0), description="Where their focus is, nm."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ObjectiveSettings:
        for name in (
            "numerical_aperture",
            "wavelength_nm",
            "aberration_waves",
            "astigmatism_waves",
            "focus_nm",
        ):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be (low, high), not ({low}, {high})")
        if not 0 < self.numerical_aperture[0] <= self.numerical_aperture[1] < 1.518:
            raise ValueError("numerical_aperture must lie between 0 and 1.518 (oil)")
        if self.wavelength_nm[0] <= 0:
            raise ValueError("wavelength_nm must be above 0")
        return self


class VariedGaussianPsfSettings(BaseModel):
    """A range of Gaussian PSFs: every simulated movie draws one of its own.

    For networks that must serve microscopes nobody measured (amortized). Width and
    astigmatism vary, so nothing tells how far from focus an emitter is: such a network
    localizes in 2D and its z is 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gaussian-range"] = "gaussian-range"
    sigma0_px: tuple[float, float] = Field(
        (0.75, 2.2), description="SD in focus, px; drawn log-uniformly."
    )
    astigmatism_nm: tuple[float, float] = Field(
        (0.0, 400.0), description="Focus shift a of x and y, nm; either sign is drawn."
    )
    depth_nm: tuple[float, float] = Field(
        (250.0, 600.0), description="Focal depth d, nm."
    )
    symmetric_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of movies without astigmatism."
    )
    emitter_z_range_nm: tuple[float, float] = Field(
        (-400.0, 400.0), description="Where emitters lie, nm; defocus widens them."
    )
    z_range_nm: tuple[float, float] = Field(
        (0.0, 0.0), description="Always (0, 0): the network gives no z."
    )
    objectives: ObjectiveSettings | None = Field(
        None, description="Share the movies with PSFs that are no Gaussians."
    )

    @model_validator(mode="after")
    def _ordered(self) -> VariedGaussianPsfSettings:
        for name in ("sigma0_px", "astigmatism_nm", "depth_nm", "emitter_z_range_nm"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be (low, high), not ({low}, {high})")
        if self.sigma0_px[0] <= 0 or self.depth_nm[0] <= 0:
            raise ValueError("sigma0_px and depth_nm must be above 0")
        if self.z_range_nm != (0.0, 0.0):
            raise ValueError(
                "z_range_nm is always (0, 0) for a range of PSFs; emitters lie in "
                "emitter_z_range_nm"
            )
        return self

    def middle(self) -> GaussianPsfSettings:
        """A usual member of the range: middle width and depth, not astigmatic."""
        return GaussianPsfSettings(
            sigma0_px=math.sqrt(math.prod(self.sigma0_px)),
            astigmatism_nm=0.0,
            depth_nm=math.sqrt(math.prod(self.depth_nm)),
            z_range_nm=self.emitter_z_range_nm,
        )


PsfSettings = Annotated[
    GaussianPsfSettings | SplinePsfSettings | VariedGaussianPsfSettings,
    Field(discriminator="kind"),
]
"""One of the PSF descriptions; `kind` tells which."""
