"""What the controller is told: target, dynamics, limits, rules."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SLEW_FRAMES", "ControllerSettings"]

SLEW_FRAMES = 25
"""`max_step_up` and `max_step_down` are factors per so many frames."""

_DELAYS_FRAMES = (0, 3, 6, 10, 14, 18, 22, 26, 30, 35, 40, 50, 65, 85)
"""Delays in question when none is given, at updates of 10 frames."""


class ControllerSettings(BaseModel):
    """Target, dynamics and limits. Powers are in the laser property's own unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_per_um2: float = Field(
        ge=0, allow_inf_nan=False, description="Active emitters per um^2; 0 = dark."
    )
    start_power: float = Field(
        ge=0, allow_inf_nan=False, description="Power at the start."
    )
    max_power: float = Field(gt=0, allow_inf_nan=False, description="Largest power.")
    min_power: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Smallest power; 0 = may be off."
    )
    power_floor: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Smallest power above off, where the logarithm begins; by default "
        "max_power / 1000.",
    )
    resolution: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Step of the laser's values (1 for whole pulses); what rounding "
        "takes away is added to the next command: the steps on either side take turns.",
    )
    update_frames: int = Field(
        10,
        ge=5,
        description="Frames per update; the estimator is to average as many.",
    )
    on_time_frames: float = Field(
        3.0, gt=0, allow_inf_nan=False, description="Mean on-time of the emitters."
    )
    learn_on_time: bool = Field(
        False,
        description="The on-time will be learned (`set_on_time`): wait for it, for 40 "
        "frames at most, before the first command.",
    )
    delay_frames: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Frames between the result that causes a command and the first "
        "one that can show it: camera, queue, analysis; null = learned, up to 8.5 "
        "updates (of at least 10 frames).",
    )
    response_frames: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Time constant of the loop; by default the delay plus 1.5 updates, "
        "at least 2 updates and 20 frames.",
    )
    drift_share: float = Field(
        0.05,
        ge=0,
        le=0.25,
        description="How fast bleaching is learned, relative to what is critically "
        "damped at 0.25; 0 = not at all.",
    )
    min_frames: int = Field(
        5, ge=1, description="Hold when fewer frames are in the average."
    )
    max_step_up: float | None = Field(
        1.5, gt=1, description="Largest factor upwards per 25 frames; null = no limit."
    )
    max_step_down: float | None = Field(
        None, gt=1, description="Largest factor downwards per 25 frames; null = none."
    )
    deadband: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="No command while the wished power is so close to the applied one "
        "(difference of logarithms).",
    )
    max_relative_sd: float = Field(
        0.5,
        gt=0,
        description="Hold when the smoothed SD exceeds this share of the larger of "
        "target and density.",
    )
    lowest_ratio: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Densities below this share of the target count "
        "as it, so that no emitters at all is a finite error.",
    )
    estimator: Literal["mean", "crowding"] = Field(
        "mean",
        description="What is held: the mean density of the region, or that of its "
        "densest 8 x 8 px block, which a mean hides.",
    )
    stop_at_max_updates: int | None = Field(
        None,
        ge=1,
        description="Go to the smallest power for good after so many updates in a row "
        "at the largest power with too few emitters; null = go on.",
    )
    gone_updates: int | None = Field(
        600,
        ge=1,
        description="Emitters that are gone at once are waited for so many updates; "
        "then the power is raised again, at a tenth of the slew limit, until some are "
        "seen; null = wait for ever.",
    )
    tune: bool = Field(
        False,
        description="Begin with a step of the power by 1.5 and set the gain by the "
        "answer; a negative one stops for good.",
    )
    stop_on_negative_response: bool = Field(
        True,
        description="Go to the smallest power for good when the density falls by 2 "
        "while the power rises by 4: emitters used up, or more than the network sees.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ControllerSettings:
        if self.min_power >= self.max_power:
            raise ValueError(
                f"min_power {self.min_power:g} must be below max_power "
                f"{self.max_power:g}"
            )
        if not self.min_power <= self.start_power <= self.max_power:
            raise ValueError(
                f"start_power {self.start_power:g} must lie in "
                f"{self.min_power:g} .. {self.max_power:g}"
            )
        if self.power_floor is not None and self.power_floor >= self.max_power:
            raise ValueError(
                f"power_floor {self.power_floor:g} must be below max_power "
                f"{self.max_power:g}"
            )
        if self.resolution is not None and self.resolution >= self.max_power:
            raise ValueError(
                f"resolution {self.resolution:g} must be below max_power "
                f"{self.max_power:g}: nothing but off could be commanded"
            )
        return self

    @property
    def floor(self) -> float:
        """Smallest power above off: less than a step would be rounded down to off."""
        floor = self.power_floor or self.max_power / 1000.0
        return max(floor, self.min_power, self.resolution or 0.0)

    def time_constant_frames(self, delay_frames: int) -> float:
        """Of the closed loop at that delay."""
        if self.response_frames is not None:
            return self.response_frames
        t = self.update_frames
        return max(delay_frames + 1.5 * t, 2.0 * t, 20.0)

    def gain(self, delay_frames: int) -> float:
        """Share of what a new density says about the sample that is believed."""
        ratio = self.update_frames / self.time_constant_frames(delay_frames)
        return 1.0 - math.exp(-ratio)

    @property
    def delays_frames(self) -> tuple[int, ...]:
        """Delays in question."""
        if self.delay_frames is not None:
            return (self.delay_frames,)
        scale = max(self.update_frames / 10.0, 1.0)
        return tuple(round(scale * delay) for delay in _DELAYS_FRAMES)

    def settling_frames(self, on_time_frames: float) -> int:
        """Frames until a change of the laser is seen in full (95 %)."""
        delay = self.update_frames if self.delay_frames is None else self.delay_frames
        return math.ceil(delay + 3.0 * on_time_frames)

    def log_step(self, factor_per_slew: float | None) -> float:
        """Largest change of ln power per update; infinite without a limit."""
        if factor_per_slew is None:
            return math.inf
        return math.log(factor_per_slew) * self.update_frames / SLEW_FRAMES
