"""PI controller on the logarithm of the activation power.

Active emitters follow dn/dt = k P D(t) - n / tau, so in steady state
ln n = ln P + ln(k D tau): with u = ln P and e = ln(target / n) the plant has gain 1 at
every power, and the unknown k and the bleaching D(t) only add an offset that the
integral removes. The discrete-time reasoning, margins and measured settling times are
in docs/feedback.md. Rules taken from practice: batch averages, hold on NaN and reset
at set point 0 (ALICA); slew limit upwards only.

Design notes
------------
The controller knows no laser and no clock: estimates in, wished power out. It is told
what was really applied (`applied`), which makes it free of wind-up whatever stands
between it and the light (a guard, a person, a laser with its own limits).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blinkloop.runtime.density import DensityEstimate
from blinkloop.runtime.feedback.tuning import StepTest, TunedGains

__all__ = ["ControlDecision", "ControllerSettings", "FeedbackController"]

_NEGATIVE_RISE = math.log(4.0)
_NEGATIVE_FALL = math.log(2.0)
_LARGEST_KI = 0.6
_NEGATIVE_SHARE = 0.05
"""A negative response is judged only above this share of the largest power: below it,
emitters active since before the run may fade faster than the laser can matter."""


class ControllerSettings(BaseModel):
    """Target, gains and limits. Powers are in the laser property's own unit."""

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
        "takes away is kept, so that small pulses can grow.",
    )
    kp: float = Field(
        0.1, ge=0, le=1, description="Proportional gain, log power per log density."
    )
    ki_per_update: float = Field(
        0.35, gt=0, lt=1, description="Integral gain per update."
    )
    update_frames: int = Field(
        25,
        ge=20,
        description="Frames per update: those averaged by the estimator plus those "
        "that pass until the laser's last change is seen.",
    )
    on_time_frames: float = Field(
        3.0, gt=0, allow_inf_nan=False, description="Mean on-time of the emitters."
    )
    min_frames: int = Field(
        10, ge=1, description="Hold when fewer frames are in the average."
    )
    max_step_up: float | None = Field(
        1.5, gt=1, description="Largest factor upwards per update; null = no limit."
    )
    max_step_down: float | None = Field(
        None, gt=1, description="Largest factor downwards per update; null = no limit."
    )
    deadband: float = Field(
        0.05, ge=0, lt=1, description="No change while |ln(target / density)| is below."
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
    tune: bool = Field(
        False,
        description="Begin with a step of the power by 1.5 and set the gains by the "
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
        if self.update_frames < 2 * self.on_time_frames:
            raise ValueError(
                f"update_frames {self.update_frames} must be at least twice "
                f"on_time_frames {self.on_time_frames:g}: the density needs that long "
                f"to follow the laser; raise update_frames"
            )
        return self

    @property
    def floor(self) -> float:
        """Smallest power above off."""
        floor = self.power_floor or self.max_power / 1000.0
        return max(floor, self.min_power)


@dataclass(frozen=True, slots=True)
class ControlDecision:
    """What the controller wishes after an update.

    Parameters
    ----------
    power
        Wished power.
    error
        ln(target / density); NaN when there is no usable density.
    hold
        True when the power is to stay as it is.
    reason
        In words, for the log.
    """

    power: float
    error: float
    hold: bool
    reason: str


class FeedbackController:
    """Density estimates in, one power per `update_frames` frames out."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._target = settings.target_per_um2
        self.reset()

    @property
    def settings(self) -> ControllerSettings:
        """The settings it was made with."""
        return self._settings

    @property
    def target_per_um2(self) -> float:
        """Set point."""
        return self._target

    @property
    def power(self) -> float:
        """Power believed to be applied."""
        return self._settings.min_power if self._off else math.exp(self._log_power)

    @property
    def tripped(self) -> bool:
        """True after a negative response or too long at the top, until `reset`."""
        return bool(self._trip)

    @property
    def trip_reason(self) -> str:
        """Why it stopped for good; empty when it did not."""
        return self._trip

    @property
    def tuned(self) -> TunedGains | None:
        """What the step test found; None before its end, and without one."""
        return None if self._test is None else self._test.result

    def density(self, estimate: DensityEstimate) -> float:
        """The density that is held, per um^2: mean or crowding."""
        if self._settings.estimator == "crowding":
            return estimate.crowding_per_um2
        return estimate.smoothed_per_um2

    def reset(self, power: float | None = None) -> None:
        """Forget the past; go on from `power` (by default `start_power`)."""
        self._log_power = math.log(self._settings.floor)
        self._off = False
        self._trip = ""
        self._test = StepTest(s.max_power) if (s := self._settings).tune else None
        self._updates_at_max = 0
        self._last_error: float | None = None
        self._frames = 0
        self._past: deque[tuple[float, DensityEstimate]] = deque(maxlen=8)
        self._set(self._settings.start_power if power is None else power)

    def set_target(self, target_per_um2: float) -> None:
        """Change the set point while running; the power changes without a kick."""
        if not (math.isfinite(target_per_um2) and target_per_um2 >= 0):
            raise ValueError(f"target must be finite and >= 0, got {target_per_um2!r}")
        self._target = float(target_per_um2)
        self._last_error = None
        self._past.clear()

    def applied(self, power: float) -> None:
        """Say what power is really applied; what lies off the limits is clamped."""
        step = self._settings.resolution
        if step is not None and 0 <= self.power - power < step and power > 0:
            return  # only rounded down: what was wished for goes on
        self._set(power)

    def _set(self, power: float) -> None:
        if not math.isfinite(power):
            return
        s = self._settings
        # Half the floor: a laser that rounds the floor down is on all the same.
        self._off = s.min_power < s.floor and power < 0.5 * s.floor
        self._log_power = math.log(min(max(power, s.floor), s.max_power))

    def gap(self, frames: int) -> None:
        """Frames are missing: a long gap starts the wait for an update anew."""
        if frames >= self._settings.update_frames:
            self._frames = 0
            self._last_error = None

    def update(self, estimate: DensityEstimate) -> ControlDecision | None:
        """Take one frame's estimate; None between updates."""
        self._frames += 1
        if self._frames < self._settings.update_frames:
            return None
        self._frames = 0
        return self._decide(estimate)

    def _decide(self, estimate: DensityEstimate) -> ControlDecision:
        s = self._settings
        if self._trip:
            return self._minimum(math.nan, f"{self._trip}: at the smallest power")
        if self._target == 0.0:
            self._last_error = None
            return self._minimum(math.nan, "target 0: at the smallest power")
        unusable = self._unusable(estimate)
        if unusable:
            self._last_error = None
            return ControlDecision(self.power, math.nan, True, f"hold: {unusable}")
        if self._test is not None and self._test.result is None:
            return self._tune(self._test, estimate)
        density = max(self.density(estimate), s.lowest_ratio * self._target)
        error = math.log(self._target / density)
        if s.stop_on_negative_response and self._responds_negatively(estimate):
            self._trip = "negative response"
            return self._minimum(
                error,
                "negative response: the density fell while the power rose (emitters "
                "used up, or too many to tell apart); at the smallest power",
            )
        if self._too_long_at_max(error):
            self._trip = "too long at the largest power"
            return self._minimum(error, f"{self._trip}: emitters used up; laser down")
        last = error if self._last_error is None else self._last_error
        self._last_error = error
        if abs(error) < s.deadband:
            return ControlDecision(self.power, error, True, "hold: in the dead band")
        scale = 1.0 if self.tuned is None else self.tuned.scale
        ki = min(s.ki_per_update * scale, _LARGEST_KI)
        return self._step(error, s.kp * scale * (error - last) + ki * error)

    def _tune(self, test: StepTest, estimate: DensityEstimate) -> ControlDecision:
        sd, before = estimate.smoothed_sd_per_um2, self.power
        power, reason = test.take(self.density(estimate), sd, before)
        if test.result is not None and test.result.negative:
            self._trip = "negative response"
            return self._minimum(math.nan, f"{reason}: negative; laser down")
        self._set(power)
        return ControlDecision(self.power, math.nan, power == before, reason)

    def _too_long_at_max(self, error: float) -> bool:
        s = self._settings
        top = not self._off and self._log_power >= math.log(s.max_power) - 1e-9
        short = top and error >= max(s.deadband, 1e-9)
        self._updates_at_max = self._updates_at_max + 1 if short else 0
        limit = s.stop_at_max_updates
        return limit is not None and self._updates_at_max > limit

    def _step(self, error: float, step: float) -> ControlDecision:
        """Velocity form: the sum *is* the power, so a limit leaves nothing wound up."""
        s = self._settings
        lowest, highest = math.log(s.floor), math.log(s.max_power)
        if self._off:
            if error < 0:
                return self._minimum(error, "off: too dense at the smallest power")
            self._off, self._log_power = False, lowest
            return ControlDecision(self.power, error, False, "on at the power floor")
        reason = "up" if step > 0 else "down"
        if s.max_step_up is not None and step > math.log(s.max_step_up):
            step, reason = math.log(s.max_step_up), "up, slew limit"
        if s.max_step_down is not None and step < -math.log(s.max_step_down):
            step, reason = -math.log(s.max_step_down), "down, slew limit"
        wished = self._log_power + step
        at_floor = self._log_power <= lowest + 1e-9
        if at_floor and error < 0 and s.min_power < s.floor:
            return self._minimum(error, "off: too dense at the power floor")
        if wished > highest:
            wished, reason = highest, "at the largest power"
        elif wished < lowest:
            wished, reason = lowest, "at the power floor"
        self._log_power = wished
        return ControlDecision(self.power, error, False, reason)

    def _minimum(self, error: float, reason: str) -> ControlDecision:
        self._set(self._settings.min_power)
        return ControlDecision(self._settings.min_power, error, False, reason)

    def _unusable(self, estimate: DensityEstimate) -> str:
        """Why the estimate cannot be acted on; empty when it can."""
        s = self._settings
        density, sd = self.density(estimate), estimate.smoothed_sd_per_um2
        known = (estimate.per_um2, density, sd)
        if not all(math.isfinite(value) for value in known) or density < 0 or sd < 0:
            return "no finite density"
        if estimate.n_frames < s.min_frames:
            return f"only {estimate.n_frames} frames in the average"
        if sd > s.max_relative_sd * max(self._target, density):
            return f"density uncertain (sd {sd:.3g} per um2)"
        return ""

    def _responds_negatively(self, estimate: DensityEstimate) -> bool:
        """Power up by 4 and density down by 2, beyond 3 SD, within 8 updates."""
        self._past.append((self._log_power, estimate))
        log_before, before = self._past[0]
        judged = math.log(_NEGATIVE_SHARE * self._settings.max_power)
        if log_before < judged or self._log_power - log_before < _NEGATIVE_RISE:
            return False
        fall = before.smoothed_per_um2 - estimate.smoothed_per_um2
        sd = math.hypot(before.smoothed_sd_per_um2, estimate.smoothed_sd_per_um2)
        limit = before.smoothed_per_um2 * math.exp(-_NEGATIVE_FALL)
        return fall > 3.0 * sd and estimate.smoothed_per_um2 < limit
