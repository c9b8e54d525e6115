"""How accurate is a model: a simulated movie for its card, and the scores.

Design notes: knows cards, optics and metrics, but neither networks nor backends; who
localizes the movie is decided outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from blinkloop.errors import InputError
from blinkloop.metrics import Field as FieldOfView
from blinkloop.metrics import (
    bootstrap_intervals,
    pair_tables,
    paired_accuracy,
)
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import Scene, SceneSettings, simulate_scene
from blinkloop.schema import GaussianPsfSettings, ModelCard

__all__ = ["EvaluationSettings", "Score", "score", "simulate_movie"]

_BOOTSTRAP_STREAM = 1


class EvaluationSettings(BaseModel):
    """Conditions of a simulated evaluation movie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    density_per_um2: float = Field(0.5, ge=0, description="Emitters per frame.")
    flux_photons: float = Field(3000.0, gt=0, description="Per frame while on, mean.")
    flux_relative_sd: float = Field(0.2, ge=0, description="SD between emitters.")
    background_photons: float = Field(20.0, ge=0, description="Per pixel and frame.")
    on_time_frames: float = Field(3.0, gt=0, description="Mean on-time.")
    frames: int = Field(500, ge=1, description="Length of the movie.")
    height_px: int = Field(64, ge=8, description="Height of the movie.")
    width_px: int = Field(64, ge=8, description="Width of the movie.")
    seed: int = Field(0, ge=0, description="Of the simulation and the bootstrap.")


def simulate_movie(card: ModelCard, settings: EvaluationSettings) -> Scene:
    """One movie with the card's PSF and camera; `frames_adu` is (1, T, H, W).

    Raises
    ------
    InputError
        The card's PSF cannot be simulated from the card alone.
    """
    psf = card.psf
    if not isinstance(psf, GaussianPsfSettings):
        raise InputError(
            f"the model {card.name!r} was made for a PSF of kind {psf.kind!r}, which "
            f"its card does not hold whole; evaluate it with --movie and --truth"
        )
    rng = np.random.default_rng([settings.seed, 0])
    return simulate_scene(
        rng,
        GaussianPsf(psf),
        Camera(card.camera),
        SceneSettings(
            n_frames=settings.frames,
            height_px=settings.height_px,
            width_px=settings.width_px,
            pixel_size_nm=card.pixel_size_nm,
            z_range_nm=psf.z_range_nm,
            photons_relative_sd=settings.flux_relative_sd,
        ),
        density_per_um2=np.array([settings.density_per_um2]),
        photons=np.array([settings.flux_photons]),
        background_photons=np.array([settings.background_photons]),
        on_time_frames=np.array([settings.on_time_frames]),
    )


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy by name, and 95 % bootstrap intervals by the same names."""

    values: dict[str, float | int]
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """One mapping: values, and their intervals under `intervals_95`."""
        return {**self.values, "intervals_95": self.intervals}


def score(
    truth: npt.NDArray[np.void],
    predicted: npt.NDArray[np.void],
    *,
    card: ModelCard,
    frames: int,
    height_px: int,
    width_px: int,
    seed: int = 0,
    min_photons: float = 50.0,
    border_nm: float = 0.0,
    block_frames: int = 10,
) -> Score:
    """Compare localizations with the truth (REFERENCE section 8).

    Parameters
    ----------
    truth, predicted
        `EMITTER_DTYPE` and `LOCALIZATION_DTYPE`, frames 0 .. `frames` - 1.
    card
        Pixel size, and whether z counts.
    frames, height_px, width_px
        Of the movie; truth counts when its centre is in the field.
    seed
        Of the bootstrap, which draws runs of `block_frames` frames because emitters
        live for several.
    min_photons, border_nm
        Dimmer truth does not count; exclusion of the border for both sets.
    """
    paired = pair_tables(
        truth,
        predicted,
        card.pixel_size_nm,
        field=FieldOfView(width_px, height_px),
        border_nm=border_nm,
        min_photons=min_photons,
        three_dimensional=card.three_dimensional,
    )
    intervals = bootstrap_intervals(
        paired,
        range(frames),
        np.random.default_rng([seed, _BOOTSTRAP_STREAM]),
        block_frames=min(block_frames, frames),
    )
    return Score(paired_accuracy(paired).as_dict(), intervals)
