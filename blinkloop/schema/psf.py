"""Which point spread function a network was made for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GaussianPsfSettings", "PsfSettings", "SplinePsfSettings"]


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


PsfSettings = Annotated[
    GaussianPsfSettings | SplinePsfSettings, Field(discriminator="kind")
]
"""Either PSF description; `kind` tells which."""
