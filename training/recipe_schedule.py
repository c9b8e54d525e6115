"""How long, how fast and how carefully a recipe is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ScheduleSettings"]


class ScheduleSettings(BaseModel):
    """Optimiser and length of the training; what each is worth: docs/training.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(20000, ge=1, description="Not used when `minutes` is set.")
    minutes: float | None = Field(
        None, gt=0, description="Time budget; the learning rate follows the clock."
    )
    batch: int = Field(16, ge=1, description="Movies per iteration and process.")
    targets_per_movie: int = Field(
        2, ge=1, description="Consecutive target frames; two more are context."
    )
    patch_px: int = Field(40, ge=8, description="Height and width of the movies.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: hidden layers by Muon, the rest by AdamW."
    )
    learning_rate: float = Field(6e-4, gt=0)
    schedule: Literal["cosine", "step", "wsd"] = Field(
        "cosine", description="wsd: warm-up, stable, decay; can be prolonged."
    )
    step_every: int = Field(1500, ge=1, description="Step schedule: x0.9 every ...")
    decay_fraction: float = Field(
        0.2, gt=0, le=1, description="wsd: share of the run that is the decay."
    )
    decay_shape: Literal["linear", "1-sqrt"] = Field(
        "1-sqrt", description="wsd: how the learning rate falls to zero."
    )
    warmup_iterations: int = Field(300, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(0.03, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Averaged weights; 0: off.")
    sigma_iterations: int = Field(
        500,
        ge=0,
        description="At the end, of the sigma head alone, on the errors of what is "
        "detected; at most a quarter of the iterations before. 0: off.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: measured at the start, and kept in the run."
    )
    checkpoint_every: int = Field(500, ge=1, description="Iterations.")
    validate_every: int = Field(1000, ge=1, description="Iterations.")
    patience: int = Field(
        0, ge=0, description="Stop after as many validations without gain; 0: never."
    )
    stop_on: Literal["nll", "efficiency_volume", "jaccard"] = Field(
        "nll", description="Measure of the validation that `patience` watches."
    )
    max_restarts: int = Field(
        3, ge=0, description="How often a diverged or stuck training begins again."
    )
    divergence_mads: float = Field(
        20.0, gt=0, description="Diverged: loss above median + this many MADs ..."
    )
    divergence_iterations: int = Field(
        50, ge=1, description="... for as many iterations one after the other."
    )
    stuck_iterations: int = Field(
        500, ge=0, description="New weights if the loss is stuck by then; 0: never."
    )
    stuck_loss: float = Field(
        100.0, description="Stuck: localization loss per emitter at least this."
    )

    @model_validator(mode="after")
    def _a_budget_needs_a_shape(self) -> ScheduleSettings:
        if self.minutes is not None and self.schedule == "step":
            raise ValueError(
                "a step schedule counts iterations and knows no minutes; use schedule: "
                "cosine or wsd, or iterations"
            )
        return self
