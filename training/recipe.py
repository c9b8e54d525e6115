"""The recipe: one YAML file from which a network can be trained again."""

from __future__ import annotations

from difflib import get_close_matches
from math import isclose
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blinkloop.errors import InputError
from blinkloop.schema import (
    Architecture,
    CameraSettings,
    GaussianPsfSettings,
    PsfSettings,
    Scaling,
    SplinePsfSettings,
)
from blinkloop.training.recipe_distillation import DistillationSettings
from blinkloop.training.recipe_sample import CameraVariation, SampleSettings
from blinkloop.training.recipe_schedule import ScheduleSettings

__all__ = [
    "CameraVariation",
    "DistillationSettings",
    "LossSettings",
    "Recipe",
    "SampleSettings",
    "ScheduleSettings",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _alike(key: str) -> str:
    """A hint at the key that was meant."""
    parts = (Recipe, Architecture, CameraSettings, GaussianPsfSettings)
    known = {
        name
        for part in (*parts, SplinePsfSettings, CameraVariation, SampleSettings)
        for name in part.model_fields
    }
    known |= {*LossSettings.model_fields, *ScheduleSettings.model_fields}
    known |= {*DistillationSettings.model_fields}
    near = get_close_matches(key, sorted(known), 1)
    return f" (was {near[0]} meant?)" if near else ""


class LossSettings(_Strict):
    """Weights of the loss (REFERENCE section 3)."""

    official_count_weighting: bool = Field(
        False,
        description="Multiply the count term by the number of emitters, as the "
        "official code does: then nothing punishes detections in empty frames.",
    )
    count_variance_floor: float = Field(
        1.0 / 12.0, ge=0, description="Added to v: counts are whole numbers."
    )
    occupancy_weight: float = Field(
        1.0, ge=0, description="Weight of sum_k BCE(p_k, occupancy); official: 0."
    )
    window_px: int = Field(
        5, ge=0, description="Pixels this far from an emitter may explain it; 0 = all."
    )
    rao_blackwell: bool = Field(
        False,
        description="Compare with the best estimate that the noisy frames allow and "
        "its variance in place of the truth: the same gradient on average, with less "
        "noise.",
    )
    crowding_power: float = Field(
        0.0,
        ge=0,
        description="A frame of density D counts (1 + D / crowding_density_per_um2)^"
        "-power: with 0 every emitter counts alike and dense frames hold most of them.",
    )
    crowding_density_per_um2: float = Field(
        0.25, gt=0, description="Density from which frames count less."
    )


class Recipe(_Strict):
    """All that determines a training, but for hardware and library versions."""

    format_version: Literal[1] = 1
    name: str = "network"
    description: str = ""
    seed: int = 0
    architecture: Architecture = Architecture()
    psf: PsfSettings = GaussianPsfSettings()
    pixel_size_range_nm: tuple[float, float] | None = Field(
        None,
        description="Pixel sizes an amortized network is offered for: those at which "
        "`psf` covers the spots of usual microscopes; None: that of `camera` alone.",
    )
    camera: CameraSettings = CameraSettings()
    camera_variation: CameraVariation | None = Field(
        None, description="Cameras drawn movie by movie in place of `camera`."
    )
    camera_maps: str | None = Field(
        None,
        description="File with the offset, gain and noise of every pixel of an sCMOS "
        "(npz, h5, TIFF); each movie takes a random part of the chip.",
    )
    camera_maps_sha256: str = Field("", description="Hash of that file.")
    sample: SampleSettings = SampleSettings()
    loss: LossSettings = LossSettings()
    distillation: DistillationSettings | None = Field(
        None, description="Learn from a trained network too; None: the truth alone."
    )
    schedule: ScheduleSettings = ScheduleSettings()
    network_units: Scaling | None = Field(
        None, description="Instead of those of `scaling`; a fine-tuned network's."
    )

    @model_validator(mode="after")
    def _one_camera(self) -> Recipe:
        if self.camera_maps is None:
            return self
        if self.camera_variation is not None:
            raise ValueError("give camera_maps or camera_variation, not both")
        if self.camera.kind != "scmos":
            raise ValueError(
                f"camera_maps are for camera.kind scmos, not {self.camera.kind}"
            )
        return self

    @model_validator(mode="after")
    def _one_pixel_size(self) -> Recipe:
        psf, size = self.psf, self.camera.pixel_size_nm
        if isinstance(psf, SplinePsfSettings) and not isclose(
            psf.pixel_size_nm, size, rel_tol=0.01
        ):
            raise ValueError(
                f"the PSF was calibrated with pixels of {psf.pixel_size_nm:g} nm, "
                f"camera.pixel_size_nm is {size:g}; calibrate with beads recorded on "
                f"this camera"
            )
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Recipe:
        multiple, patch = self.architecture.size_multiple, self.schedule.patch_px
        if patch % multiple:
            raise ValueError(
                f"patch_px is {patch}, which is no multiple of the network's "
                f"{multiple}; use {-(-patch // multiple) * multiple}"
            )
        return self

    @property
    def three_dimensional(self) -> bool:
        """False when the z range is empty: then z is neither trained nor given."""
        return self.psf.z_range_nm[1] > self.psf.z_range_nm[0]

    def scaling(self) -> Scaling:
        """Constants of network units (REFERENCE section 2).

        The mean of the flux range takes mu's place and its upper end mu + 3 sd.
        """
        if self.network_units is not None:
            return self.network_units
        low, high = self.sample.photons
        sd = self.sample.photons_relative_sd
        bg_low, bg_high = self.sample.background_photons
        uneven = self.sample.background_structure + self.sample.background_structure_max
        z_max = max(abs(z) for z in self.psf.z_range_nm)
        return Scaling(
            input_offset_photons=(bg_low * bg_high) ** 0.5,
            input_scale_photons=(low * high) ** 0.5 / 50.0,
            photons_max=high * (1 + 3 * sd),
            z_max_nm=1.2 * z_max if z_max > 0 else 1.0,
            background_max=1.2 * bg_high * (1 + uneven),
        )

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a YAML recipe; `InputError` names the first bad key."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InputError(
                f"recipe {path}: cannot be read ({reason}); give the path of "
                f"a YAML recipe"
            ) from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            line = " ".join(str(error).split())
            raise InputError(f"recipe {path}: not valid YAML ({line})") from error
        try:
            return cls.model_validate(data if data is not None else {})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "recipe"
            if first["type"] == "extra_forbidden":
                raise InputError(
                    f"recipe {path}: {where}: there is no such key"
                    f"{_alike(str(first['loc'][-1]))}; correct or remove it"
                ) from error
            raise InputError(
                f"recipe {path}: {where}: {first['msg']} (got {first['input']!r:.60})"
            ) from error

    def save(self, path: Path) -> None:
        """Write the whole recipe, defaults included."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        path.write_text(text, encoding="utf-8")
