"""What is known of a camera, in the words of its data sheet."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CameraSettings"]


class CameraSettings(BaseModel):
    """Camera facts. Unknown keys are refused; every unit is in the field's name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["ideal", "scmos", "emccd"] = Field(
        "scmos", description="Noise model: shot noise only, + read noise, + EM gain."
    )
    baseline_adu: float = Field(100.0, description="Offset of a dark pixel in ADU.")
    e_per_adu: float = Field(
        0.5, gt=0, description="Electrons (after EM gain) per ADU."
    )
    em_gain: float = Field(1.0, ge=1, description="Electron multiplication; 1 = none.")
    quantum_efficiency: float = Field(
        1.0, gt=0, le=1, description="Photoelectrons per photon; 1 = count electrons."
    )
    read_noise_e: float = Field(
        1.5, ge=0, description="Read noise (SD) in electrons, after EM gain."
    )
    spurious_e: float = Field(
        0.0, ge=0, description="Clock-induced charge per pixel and frame in electrons."
    )
    bit_depth: int = Field(16, ge=1, le=16, description="The ADC saturates at 2^n - 1.")
    pixel_size_nm: float = Field(100.0, gt=0, description="Pixel size in the sample.")
    exposure_ms: float | None = Field(None, description="Exposure time, if known.")
