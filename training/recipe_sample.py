"""What the simulated samples of a recipe look like: emitters, background, cameras."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blinkloop.schema import TrainingRanges

__all__ = ["CameraVariation", "SampleSettings"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SampleSettings(_Strict):
    """What the simulated samples look like. Ranges are drawn log-uniformly."""

    photons: tuple[float, float] = Field(
        (1000.0, 6000.0), description="Mean photons of an emitter in a full frame."
    )
    photons_relative_sd: float = Field(
        0.2, ge=0, description="SD between emitters of one movie, relative."
    )
    signal_to_noise_min: float = Field(
        0.0,
        ge=0,
        description="A movie whose mean emitter would be dimmer draws its photons "
        "again above this: N / sqrt(N + 4 pi s^2 (background + read noise^2)), in "
        "focus; 0 = off.",
    )
    background_photons: tuple[float, float] = Field(
        (5.0, 60.0), description="Per pixel and frame."
    )
    background_structure: float = Field(
        0.2, ge=0, lt=1, description="Largest relative slope across the patch."
    )
    background_structure_max: float = Field(
        0.0, ge=0, lt=1, description="Largest relative amplitude of smooth structure."
    )
    background_structure_px: tuple[float, float] = Field(
        (8.0, 40.0), description="Length of that structure."
    )
    background_drift_max: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Largest relative change from the first frame of a movie to its "
        "last.",
    )
    defocused_fraction: float = Field(
        0.0,
        ge=0,
        description="Emitters far out of focus per emitter in focus: wide spots, part "
        "of the background, no targets.",
    )
    defocused_sigma_px: tuple[float, float] = Field(
        (4.0, 12.0), description="SDs of those spots."
    )
    companion_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the emitters that blink beside another one, as on "
        "filaments and in clusters.",
    )
    companion_distance_px: float = Field(
        4.0, gt=0, description="At most so far from it, all distances alike."
    )
    spaced_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the movies in which emitters keep apart: isolated ones, "
        "and many of them.",
    )
    spaced_distance_px: float = Field(8.0, gt=0, description="How far apart.")
    density_per_um2: tuple[float, float] = Field(
        (0.05, 2.0),
        description="Emitters touching a frame, at the pixel size of `camera`.",
    )
    empty_fraction: float = Field(
        0.03, ge=0, le=1, description="Share of movies without any emitter."
    )
    on_time_frames: tuple[float, float] = Field((2.0, 6.0), description="Mean on-time.")
    margin_px: int | None = Field(
        None,
        ge=0,
        description="Emitters this far outside send light into the frame; null = as "
        "far as the PSF reaches.",
    )
    photons_floor: float = Field(
        50.0, ge=0, description="Dimmer emitters are light, but not targets."
    )

    @model_validator(mode="after")
    def _background_stays_positive(self) -> SampleSettings:
        if self.background_structure + self.background_structure_max >= 1:
            raise ValueError(
                "background_structure + background_structure_max must be below 1, or "
                "the background becomes negative"
            )
        return self

    def training_ranges(self) -> TrainingRanges:
        """The ranges a model card names."""
        return TrainingRanges(
            photons=self.photons,
            background_photons=self.background_photons,
            density_per_um2=(0.0, self.density_per_um2[1]),
            on_time_frames=self.on_time_frames,
        )


class CameraVariation(_Strict):
    """Every simulated movie is taken by a camera of its own.

    For networks that must serve cameras nobody measured. Electrons are counted before
    multiplication, so an EMCCD's read noise and e_per_adu are divided by its gain. What
    is not ideal and no EMCCD is an sCMOS. Quantum efficiency is 1: photons are
    photoelectrons. Baseline and bit depth are those of the recipe's `camera`.
    """

    ideal_fraction: float = Field(0.1, ge=0, le=1, description="Shot noise only.")
    emccd_fraction: float = Field(
        0.35, ge=0, le=1, description="With excess noise and spurious charge."
    )
    read_noise_e: tuple[float, float] = Field(
        (0.0, 3.0), description="Of an sCMOS; drawn uniformly."
    )
    emccd_read_noise_e: tuple[float, float] = Field(
        (0.05, 0.5), description="Of an EMCCD, divided by its gain; uniform."
    )
    emccd_spurious_e: tuple[float, float] = Field(
        (0.0, 0.05), description="Clock-induced charge per pixel and frame; uniform."
    )
    e_per_adu: tuple[float, float] = Field(
        (0.1, 1.0), description="Electrons (before gain) per ADU; log-uniform."
    )

    @model_validator(mode="after")
    def _shares_and_ranges(self) -> CameraVariation:
        if self.ideal_fraction + self.emccd_fraction > 1:
            raise ValueError("ideal_fraction + emccd_fraction must not exceed 1")
        for name in ("read_noise_e", "emccd_read_noise_e", "emccd_spurious_e"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be (low, high), both at least 0")
        if not 0 < self.e_per_adu[0] <= self.e_per_adu[1]:
            raise ValueError("e_per_adu must be (low, high), both above 0")
        return self
