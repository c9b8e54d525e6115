"""How a model file in fewer bits was made from an fp32 one, and what that cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PRECISIONS", "LossLimits", "Precision", "PrecisionLoss", "PrecisionName"]

PrecisionName = Literal["fp32", "fp16", "int8"]

PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "fp16", "int8")
"""Number types a model file can be written in."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossLimits(_Strict):
    """What a conversion may cost at any density; a gain never counts."""

    jaccard_points: float = Field(1.0, ge=0, description="Jaccard index lost, points.")
    rmse_percent: float = Field(
        5.0, ge=0, description="RMSE added, lateral or axial, %."
    )
    density_points: float = Field(
        2.0, ge=0, description="Bias of the density added, percentage points."
    )


class PrecisionLoss(_Strict):
    """The converted model against the fp32 one, on one simulated movie."""

    density_per_um2: float = Field(description="Emitters per frame.")
    emitters: int = Field(description="That counted.")
    jaccard_points: float = Field(description="Change of the Jaccard index, points.")
    rmse_lateral_percent: float = Field(
        description="Change over the emitters that both found, %."
    )
    rmse_axial_percent: float | None = Field(None, description="Likewise; 3D only.")
    rmse_all_percent: tuple[float, ...] = Field(
        description="Change over all that each found, lateral and axial, %."
    )
    density_bias_percent: tuple[float, float] = Field(description="fp32, converted.")
    z_score_sd: dict[str, tuple[float, float]] = Field(
        description="Robust SD of error / sigma by axis: fp32, converted."
    )


class Precision(_Strict):
    """Entry of the card of a converted model file; see docs/precision.md."""

    name: Literal["fp16", "int8"]
    source_sha256: str = Field(description="Of the fp32 model file.")
    graph_sha256: str = Field(description="Of operators and numbers of this file.")
    kept_float: tuple[str, ...] = Field(description="Convolutions in fp32, by weight.")
    seed: int = Field(description="Of the movies below.")
    photons: float = Field(description="Mean flux in the movies.")
    background_photons: float = Field(description="Per pixel in the movies.")
    loss: tuple[PrecisionLoss, ...]
    limits: LossLimits = Field(description="That held.")
    beyond_limits: bool = Field(False, description="Written although it loses more.")
