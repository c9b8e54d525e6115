"""Conditions of simulated evaluation movies, as people give them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EvaluationSettings", "IsolatedSettings"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EvaluationSettings(_Strict):
    """Conditions of a simulated evaluation movie."""

    density_per_um2: float = Field(0.5, ge=0, description="Emitters per frame.")
    flux_photons: float = Field(3000.0, gt=0, description="Per frame while on, mean.")
    flux_relative_sd: float = Field(0.2, ge=0, description="SD between emitters.")
    background_photons: float = Field(20.0, ge=0, description="Per pixel and frame.")
    on_time_frames: float = Field(3.0, gt=0, description="Mean on-time.")
    frames: int = Field(500, ge=1, description="Length of the movie.")
    height_px: int = Field(64, ge=8, description="Height of the movie.")
    width_px: int = Field(64, ge=8, description="Width of the movie.")
    seed: int = Field(0, ge=0, description="Of the simulation and the bootstrap.")


class IsolatedSettings(_Strict):
    """Emitters one by one on a grid, for the comparison with the Cramer-Rao bound."""

    emitters: int = Field(10_000, ge=1, description="How many.")
    photons: float = Field(3000.0, gt=0, description="Of every emitter, per frame.")
    background_photons: float = Field(20.0, gt=0, description="Per pixel and frame.")
    frame_px: int = Field(
        512, ge=16, description="Longest side of a frame; a frame holds many emitters."
    )
    seed: int = Field(0, ge=0, description="Of positions, noise and bootstrap.")
