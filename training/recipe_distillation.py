"""From which network a recipe learns, beside the truth."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DistillationSettings"]


class DistillationSettings(BaseModel):
    """Teacher and weights of the distillation term (`training/distillation.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str = Field(
        min_length=1,
        description="Bundled model, model file, run folder or checkpoint; the file's "
        "path is relative to where training is started.",
    )
    weight: float = Field(0.5, gt=0, description="Of the whole term.")
    location_weight: float = Field(
        1.0, ge=0, description="Of photons, position and sigma beside p."
    )
    p_level: float = Field(
        0.1, gt=0, lt=1, description="The teacher is heard on position from this p on."
    )
