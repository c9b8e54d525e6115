"""Settings of the virtual microscope: what stands under the objective and behind it."""

from __future__ import annotations

from math import isclose
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from blinkloop.schema import CameraSettings, GaussianPsfSettings, PsfSettings

__all__ = [
    "BackgroundSettings",
    "DriftSettings",
    "FaultSettings",
    "KineticsSettings",
    "SensorSettings",
    "Structure",
    "VirtualSettings",
]

Structure = Literal["filaments", "rings", "clusters", "uniform"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KineticsSettings(_Strict):
    """Three states: dark <-> on -> bleached, all steps exponential in time."""

    activation_per_mw_s: float = Field(
        0.01, ge=0, description="Rate dark -> on per mW of activation laser and s."
    )
    spontaneous_per_s: float = Field(
        0.0, ge=0, description="Rate dark -> on without activation laser, per s."
    )
    on_time_ms: float = Field(60.0, gt=0, description="Mean time on before switching.")
    bleach_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of off-switches that are for ever."
    )


class BackgroundSettings(_Strict):
    """Light that comes from no single emitter."""

    photons: float = Field(20.0, ge=0, description="Mean per pixel and frame at start.")
    structure: float = Field(
        0.2, ge=0, le=1, description="Slow variation over the field, SD / mean."
    )
    bleach_time_s: float | None = Field(
        None, gt=0, description="Decays to 1/e in this time; None = never."
    )
    drift: float = Field(
        0.05, ge=0, lt=1, description="Amplitude of a slow wave in time, relative."
    )
    drift_period_s: float = Field(20.0, gt=0, description="Period of that wave.")
    out_of_focus: float = Field(
        0.0,
        ge=0,
        description="Light of emitters above and below, relative to those in focus; "
        "it blinks with them and follows the structure.",
    )
    out_of_focus_sigma_px: float = Field(
        8.0, gt=0, description="SD of the blur of that light."
    )


class DriftSettings(_Strict):
    """How the sample moves under the objective."""

    x_nm_per_s: float = Field(0.0, description="Steady, along the columns.")
    y_nm_per_s: float = Field(0.0, description="Steady, along the rows.")
    z_nm_per_s: float = Field(0.0, description="Steady, along the axis.")
    random_nm: float = Field(
        0.0, ge=0, description="SD of a random walk after 1 s, along each axis."
    )


class SensorSettings(_Strict):
    """How the pixels of the chip differ: an sCMOS has an amplifier for each."""

    offset_sd_adu: float = Field(0.0, ge=0, description="SD of the baseline, ADU.")
    gain_sd: float = Field(
        0.0, ge=0, le=0.3, description="Relative SD of electrons per ADU."
    )
    read_noise_spread: float = Field(
        0.0, ge=0, le=2, description="SD of ln(read noise): some pixels are noisy."
    )

    @property
    def uneven(self) -> bool:
        """Whether pixels differ at all."""
        return bool(self.offset_sd_adu or self.gain_sd or self.read_noise_spread)


class FaultSettings(_Strict):
    """Something that goes wrong at a frame of a sequence (frames count from 0).

    `stall`: no frame for `seconds` (None: never again). `vanish`: the camera is gone.
    `empty`, `saturated`: no light, or too much, for `frames` frames. `exposure`, `roi`:
    somebody sets another one. `laser-refuses`: every power but 0. `laser-lies`: reads
    back `power_mw`.
    """

    kind: Literal[
        "stall",
        "vanish",
        "empty",
        "saturated",
        "exposure",
        "roi",
        "laser-refuses",
        "laser-lies",
    ] = Field(description="What happens.")
    frame: int = Field(ge=0, description="The first frame that it happens to.")
    frames: int = Field(1, ge=1, description="To how many frames.")
    seconds: float | None = Field(None, gt=0, description="Length of a stall.")
    exposure_ms: float | None = Field(None, gt=0, description="The other exposure.")
    roi: tuple[int, int, int, int] | None = Field(
        None, description="The other ROI: x, y, width, height, px."
    )
    power_mw: float = Field(25.0, ge=0, description="What the laser says it has.")

    @model_validator(mode="after")
    def _complete(self) -> FaultSettings:
        if self.kind in ("exposure", "roi"):
            name = "exposure_ms" if self.kind == "exposure" else "roi"
            if getattr(self, name) is None:
                raise ValueError(f"a fault of kind {self.kind!r} needs {name}")
        return self


class VirtualSettings(_Strict):
    """A virtual microscope. `n_emitters` and `labelling_per_um2` exclude each other."""

    width_px: int = Field(96, ge=8, le=4096, description="Columns of the chip.")
    height_px: int = Field(64, ge=8, le=4096, description="Rows of the chip.")
    pixel_size_nm: float = Field(100.0, gt=0, description="Pixel size in the sample.")
    exposure_ms: float = Field(
        20.0,
        gt=0,
        le=1000,
        description="Exposure = time between frames; photons are those of this one.",
    )
    camera: CameraSettings = Field(
        CameraSettings(),
        description="Noise model; its pixel size and exposure are taken from above.",
    )
    psf: PsfSettings = Field(GaussianPsfSettings(), description="Image of a point.")
    structure: Structure = Field("filaments", description="Where emitters sit.")
    unspecific_fraction: float = Field(
        0.1, ge=0, le=1, description="Share of emitters off the structure."
    )
    z_range_nm: tuple[float, float] = Field(
        (-400.0, 400.0), description="Emitters lie within; (0, 0) = all in focus."
    )
    margin_px: float = Field(
        8.0, ge=0, description="The sample reaches this far beyond the chip."
    )
    n_emitters: int | None = Field(
        None, ge=0, description="Pool of emitters, margin included."
    )
    labelling_per_um2: float | None = Field(
        None, ge=0, description="Pool as a density instead, per um^2."
    )
    kinetics: KineticsSettings = KineticsSettings()
    photons: float = Field(
        3000.0, gt=0, description="Mean photons of an emitter on for a whole frame."
    )
    photons_spread: float = Field(
        0.2, ge=0, description="SD of that between blinks, relative."
    )
    background: BackgroundSettings = BackgroundSettings()
    drift: DriftSettings = DriftSettings()
    sensor: SensorSettings = SensorSettings()
    faults: tuple[FaultSettings, ...] = Field(
        (), description="What goes wrong, and at which frame."
    )
    start_power_mw: float = Field(0.0, ge=0, description="Laser power at load.")
    max_power_mw: float = Field(50.0, gt=0, description="Upper limit of the laser.")
    seed: int = Field(0, ge=0, description="Same seed and powers, same frames.")
    realtime: bool = Field(
        True, description="False = frames as fast as they can be made."
    )
    truth_rows_max: int = Field(
        10_000_000, ge=1, description="Truth kept in memory; the oldest goes first."
    )

    @model_validator(mode="after")
    def _consistent(self) -> VirtualSettings:
        if self.n_emitters is not None and self.labelling_per_um2 is not None:
            raise ValueError("give n_emitters or labelling_per_um2, not both")
        if self.z_range_nm[0] > self.z_range_nm[1]:
            raise ValueError("z_range_nm must be (lower, upper)")
        if self.start_power_mw > self.max_power_mw:
            raise ValueError("start_power_mw exceeds max_power_mw")
        if self.psf.kind == "gaussian-range":
            raise ValueError("the virtual microscope has one PSF, not a range")
        if self.psf.kind == "spline" and not isclose(
            self.psf.pixel_size_nm, self.pixel_size_nm, rel_tol=0.01
        ):
            raise ValueError(
                f"the PSF was calibrated with pixels of {self.psf.pixel_size_nm:g} nm; "
                f"pixel_size_nm is {self.pixel_size_nm:g}"
            )
        return self

    @property
    def field_um2(self) -> float:
        """Area of the chip in the sample, um^2."""
        pixel_um = self.pixel_size_nm / 1000
        return self.width_px * self.height_px * pixel_um**2

    def in_field(
        self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which positions lie on the chip; a pixel reaches 0.5 px around its centre."""
        return np.asarray(
            (np.abs(x_px - (self.width_px - 1) / 2) <= self.width_px / 2)
            & (np.abs(y_px - (self.height_px - 1) / 2) <= self.height_px / 2)
        )

    @property
    def sample_um2(self) -> float:
        """Area of the sample, margin included, um^2."""
        pixel_um = self.pixel_size_nm / 1000
        width = self.width_px + 2 * self.margin_px
        height = self.height_px + 2 * self.margin_px
        return width * height * pixel_um**2

    @property
    def pool(self) -> int:
        """Number of emitters in the sample; 50 per um^2 when none is given."""
        if self.n_emitters is not None:
            return self.n_emitters
        density = 50.0 if self.labelling_per_um2 is None else self.labelling_per_um2
        return round(density * self.sample_um2)

    @property
    def camera_facts(self) -> CameraSettings:
        """The camera with this microscope's pixel size and exposure."""
        return self.camera.model_copy(
            update={
                "pixel_size_nm": self.pixel_size_nm,
                "exposure_ms": self.exposure_ms,
            }
        )
