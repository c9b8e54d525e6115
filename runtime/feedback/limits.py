"""What a laser may be told: pure rules, no device."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blinkloop.errors import InputError

__all__ = ["MOST_SETTLE_S", "LaserLimits"]

MOST_SETTLE_S = 1.0
"""A laser that reports later cannot be watched."""


class LaserLimits(BaseModel):
    """Hard limits of the laser guard; independent of any controller.

    Values are in the laser property's own unit (mW, %, us of pulse ...), doses in that
    unit times seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_value: float = Field(gt=0, description="Largest value ever written.")
    min_value: float = Field(0.0, ge=0, description="Smallest value commanded.")
    safe_value: float = Field(
        0.0, ge=0, description="Written on any fault, stop and exit."
    )
    max_step_up_factor: float | None = Field(
        2.0, gt=1, description="Largest factor between two commands; null = no limit."
    )
    step_floor: float | None = Field(
        None,
        gt=0,
        description="The step upwards is counted from here when the laser is lower; "
        "by default max_value / 100.",
    )
    resolution: float | None = Field(
        None, gt=0, description="Smallest increment; values are rounded down to it."
    )
    max_dose: float | None = Field(
        None, gt=0, description="Largest integral of the value over time, value x s."
    )
    stale_s: float = Field(
        2.0, gt=0, description="Without an estimate for this long: hold, and say so."
    )
    dark_after_s: float = Field(
        5.0, gt=0, description="Without an estimate for this long: safe value."
    )
    read_back: bool = Field(
        True, description="Read the value after writing it; false for write-only ones."
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Relative difference allowed between written and read value "
        "(`accuracy`, or the resolution, are allowed in any case).",
    )
    accuracy: float = Field(
        0.002,
        gt=0,
        le=0.02,
        description="Share of max_value by which a reading may be off in any case.",
    )
    settle_s: float = Field(
        0.0,
        ge=0,
        le=MOST_SETTLE_S,
        description="So long after a write the laser may still report what was written "
        "before, or what lies between; 0 = it reports a value at once.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> LaserLimits:
        if self.min_value >= self.max_value:
            raise ValueError(
                f"min_value {self.min_value:g} must be below max_value "
                f"{self.max_value:g}"
            )
        if self.safe_value > self.max_value:
            raise ValueError(
                f"safe_value {self.safe_value:g} must not exceed max_value "
                f"{self.max_value:g}"
            )
        if self.dark_after_s <= self.stale_s:
            raise ValueError(
                f"dark_after_s {self.dark_after_s:g} must be longer than stale_s "
                f"{self.stale_s:g}"
            )
        return self

    def clamp(self, value: object) -> float:
        """The value within the hard limits and on the laser's grid, rounded down.

        Raises
        ------
        InputError
            For anything that is not a finite number. Micro-Manager turns text it
            cannot parse into 0 without a word, so the check is made here.
        """
        if isinstance(value, bool) or not hasattr(value, "__float__"):
            raise InputError(f"laser: {value!r} is not a number; nothing is written")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"laser: {value!r} is not a number ({error}); nothing is written"
            ) from error
        if not math.isfinite(number):
            raise InputError(
                f"laser: {number} is not a finite number; nothing is written"
            )
        return self._on_grid(min(max(number, self.min_value), self.max_value))

    def allow(self, value: object, last: float) -> float:
        """`clamp`, then at most the factor (or one step) above the `last` value."""
        allowed = self.clamp(value)
        if self.max_step_up_factor is None:
            return allowed
        floor = self.max_value / 100.0 if self.step_floor is None else self.step_floor
        start = max(last, floor, self.min_value)
        # The next step of a coarse laser is the least that can be asked of it.
        highest = max(start * self.max_step_up_factor, last + (self.resolution or 0.0))
        return self._on_grid(min(allowed, highest))

    def matches(self, written: float, read: float) -> bool:
        """True when the laser reports what was written."""
        return self.between(written, written, read)

    def between(self, low: float, high: float, read: float) -> bool:
        """True when the laser reports one of the two, or what lies between."""
        if not math.isfinite(read):
            return False
        return low - self._slack(low) <= read <= high + self._slack(high)

    def confirms(self, written: float, read: float) -> bool:
        """Like `matches`, but one whole step off does not do: for the safe value."""
        step = self.resolution
        if not self.matches(written, read):
            return False
        if step is None or abs(written - step * round(written / step)) > 1e-6 * step:
            return True
        return abs(read - written) <= max(0.5 * step, self.tolerance * abs(written))

    def _slack(self, written: float) -> float:
        return max(
            self.tolerance * abs(written),
            self.accuracy * self.max_value,
            self.resolution or 0.0,
        )

    def _on_grid(self, value: float) -> float:
        if self.resolution is None:
            return value
        # The small term keeps 0.3 / 0.1 = 2.999... from losing a step.
        steps = math.floor(value / self.resolution + 1e-9)
        return max(round(steps * self.resolution, 12), self.min_value)
