"""Controller of the activation power with a model of the sample inside.

Active emitters follow dn/dt = k P D(t) - n / tau, so what the sample does is told by
one number, the gain k D tau: density / (density that the applied powers would give at
gain 1). Its logarithm and the drift of that (bleaching) are followed by a filter, and
the power wished for is the one that gives the target: internal model control (Garcia
and Morari 1982, doi:10.1021/i200016a013), with the power on a logarithmic scale, where
one setting serves all lasers and samples. Margins and measured errors are in
docs/feedback.md. Rules taken from practice: batch averages, hold on NaN and reset at
set point 0 (ALICA); slew limit upwards only.

Design notes
------------
The controller knows no laser and no clock: estimates in, wished power out. It is told
what was really applied (`applied`), which makes it free of wind-up whatever stands
between it and the light (a guard, a person, a laser with its own limits).
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from blinkloop.runtime.density_estimate import DensityEstimate
from blinkloop.runtime.feedback.gains import GainFilters
from blinkloop.runtime.feedback.sample import Sample
from blinkloop.runtime.feedback.settings import SLEW_FRAMES, ControllerSettings
from blinkloop.runtime.feedback.tuning import StepTest, TunedGains
from blinkloop.runtime.feedback.vanished import SLOWER, Vanished

__all__ = ["ControlDecision", "ControllerSettings", "FeedbackController"]

_NEGATIVE_RISE = math.log(4.0)
_NEGATIVE_FALL = math.log(2.0)
_NEGATIVE_FRAMES = 8 * SLEW_FRAMES
_LEARNING_FRAMES = 40
"""Wait for the on-time: most are known by then, of 10 frames too."""
_CROWDING_SD = 0.2
"""Of the densest block's density, relative: about one emitter in some frames."""
_DOUBT = 0.03
"""By so much the gains under different delays differ at rest."""
_SHORT = 0.05
"""At the largest power, "too few" is so much below the target (logarithm)."""
_NEGATIVE_SHARE = 0.05
"""A negative response is judged only above this share of the largest power: below it,
emitters active since before the run may fade faster than the laser can matter."""


class ControlDecision(NamedTuple):
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
    """Density estimates in, one power per `update_frames` frames out.

    `vanished` tells whether and how often emitters were gone at once.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._target = settings.target_per_um2
        # What does not change, worked out once: an update is waited for.
        self._update_frames = settings.update_frames
        self._on_time_frames: float | None = None
        self._settling_frames = settings.settling_frames(settings.on_time_frames)
        if settings.learn_on_time:
            self._settling_frames = max(self._settling_frames, _LEARNING_FRAMES)
        self._floor = settings.floor
        self._lowest = math.log(self._floor)
        self._grid = settings.resolution or 0.0
        # Of the last command: asked for, given, and what rounding still owes.
        self._asked = self._given = self._owed = 0.0
        self._highest = math.log(settings.max_power)
        self._most_up = settings.log_step(settings.max_step_up)
        self._most_down = settings.log_step(settings.max_step_down)
        self._judged = math.log(_NEGATIVE_SHARE * settings.max_power)
        self._crowding = settings.estimator == "crowding"
        self.vanished = Vanished(settings.update_frames, settings.gone_updates)
        self._sample = Sample(
            settings.on_time_frames,
            settings.delays_frames,
            GainFilters(
                [settings.gain(delay) for delay in settings.delays_frames],
                settings.drift_share,
                settings.update_frames,
            ),
        )
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

    @property
    def delay_frames(self) -> int:
        """Frames until a command is seen: as given, or the most likely."""
        return self._sample.delay_frames

    def density(self, estimate: DensityEstimate) -> float:
        """The density that is held, per um^2: mean or crowding."""
        if self._crowding:
            return estimate.crowding_per_um2
        return estimate.smoothed_per_um2

    def reset(self, power: float | None = None) -> None:
        """Forget the past; go on from `power` (by default `start_power`)."""
        self._log_power = self._lowest
        self._off = False
        self._trip = ""
        s = self._settings
        self._test = None
        if s.tune:
            self._test = StepTest(s.max_power, s.update_frames, self._settling_frames)
        self._updates_at_max = 0
        self._frames = self._seen = 0
        self._sd = 0.0
        self.vanished.reset()
        self._past: deque[tuple[float, DensityEstimate]] = deque(
            maxlen=math.ceil(_NEGATIVE_FRAMES / s.update_frames)
        )
        self._set(s.start_power if power is None else power)
        self._sample.reset(self.power)

    def set_target(self, target_per_um2: float) -> None:
        """Change the set point while running; the power changes without a kick."""
        if not (math.isfinite(target_per_um2) and target_per_um2 >= 0):
            raise ValueError(f"target must be finite and >= 0, got {target_per_um2!r}")
        self._target = float(target_per_um2)
        self._past.clear()
        self.vanished.reset()

    def set_on_time(self, frames: float) -> None:
        """The emitters stay on for so long; it was learned from them."""
        if frames != self._on_time_frames:
            self._on_time_frames = frames
            self._settling_frames = self._settings.settling_frames(frames)
            self._sample.set_on_time(frames)

    def set_resolution(self, step: float | None) -> None:
        """The laser takes steps of that; less than one would be rounded to off."""
        if step is not None and step < self._settings.max_power:
            self._grid, self._floor = step, max(self._floor, step)
            self._lowest = math.log(self._floor)

    def applied(self, power: float) -> None:
        """Say what power is really applied; what lies off the limits is clamped."""
        if math.isfinite(power) and self._seen == 0:
            self._sample.restart(max(power, 0.0))
        elif math.isfinite(power):
            self._sample.command(max(power, 0.0))
        # A step test compares powers: those that were there.
        testing = self._test is not None and self._test.result is None
        grid, short = 0.0 if testing else self._grid, self._asked - power
        if power > 0 and (0 <= short < grid or 0 <= self.power - power < grid):
            # Only rounded down: what was wished for goes on, and what is lacking is
            # asked for next time, else the density would stay below by that.
            self._owed = short if 0 <= short < grid else 0.0
            self._given = power
            return
        self._set(power)

    def _set(self, power: float) -> None:
        if not math.isfinite(power):
            return
        s = self._settings
        self._asked = self._given = power
        self._owed = 0.0
        # Half the floor: a laser that rounds the floor down is on all the same.
        self._off = s.min_power < self._floor and power < 0.5 * self._floor
        self._log_power = math.log(min(max(power, self._floor), s.max_power))

    def gap(self, frames: int) -> None:
        """Frames are missing: a long gap starts the wait for an update anew."""
        if frames >= self._settings.update_frames:
            self._frames = 0

    def foresee(self, index: int, n_frames: int) -> None:
        """Do now what an update needs that may come with that frame."""
        if self._frames + 1 >= self._update_frames:
            self._sample.foresee(index, n_frames)

    def update(self, estimate: DensityEstimate) -> ControlDecision | None:
        """Take one frame's estimate; None between updates."""
        self._sample.advance(estimate.index)
        self._frames += 1
        self._seen += 1
        if self._frames < self._update_frames:
            return None
        self._frames = 0
        decision = self._decide(estimate)
        if not decision.hold:
            self._sample.command(decision.power)  # unless `applied` knows better
        return decision

    def _decide(self, estimate: DensityEstimate) -> ControlDecision:
        s = self._settings
        if self._trip:
            return self._minimum(math.nan, f"{self._trip}: at the smallest power")
        if self._target == 0.0:
            return self._minimum(math.nan, "target 0: at the smallest power")
        unusable = self._unusable(estimate)
        if unusable:
            return ControlDecision(self.power, math.nan, True, f"hold: {unusable}")
        if self._test is not None and self._test.result is None:
            return self._tune(self._test, estimate)
        density = max(self.density(estimate), s.lowest_ratio * self._target)
        error = math.log(self._target / density)
        if not self._off and self.vanished.take(error, self._log_power):
            # Nothing is learned of the sample: it is not what has changed.
            return self._wait_for_them(error)
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
        self._learn(estimate, density)
        step = self._move() if self._sample.known else error
        return self._step(error, step)

    def _learn(self, estimate: DensityEstimate, density: float) -> None:
        """What this density says of the sample."""
        sd = estimate.smoothed_sd_per_um2 / max(self._target, density)
        if self._crowding:
            sd = max(sd, _CROWDING_SD)  # that of the mean is much too good for it
        self._sd = sd
        self._sample.take(
            density,
            sd,
            estimate.n_frames,
            0.1 * self._floor,
            1.0 if self.tuned is None else self.tuned.scale,
            estimate.smoothed_sd_per_um2 / density,
        )

    def _move(self) -> float:
        """Change of ln power to what gives the target while the next command holds.

        While the delay is in doubt and that matters, less than the whole way; upwards
        no further than the largest gain that is still credible allows.
        """
        gain, doubt, largest = self._sample.log_gain_ahead()
        move = self._sample.move(math.log(self._target), gain, self._log_power)
        less = max(doubt - _DOUBT, 0.0)
        if move > 0:
            # What noise alone makes of the difference does not count.
            less = max(less, largest - gain - max(0.5 * self._sd, _DOUBT))
        return math.copysign(max(abs(move) - less, 0.0), move)

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
        top = not self._off and self._log_power >= self._highest - 1e-9
        short = top and error >= _SHORT
        self._updates_at_max = self._updates_at_max + 1 if short else 0
        limit = s.stop_at_max_updates
        return limit is not None and self._updates_at_max > limit

    def _step(self, error: float, step: float) -> ControlDecision:
        """From the power applied, so that a limit leaves nothing wound up."""
        s = self._settings
        lowest, highest = self._lowest, self._highest
        if self._off:
            if error < 0:
                return self._minimum(error, "off: too dense at the smallest power")
            self._off, self._log_power = False, lowest
            return self._ask(error, "on at the power floor")
        reason = "up" if step > 0 else "down"
        if abs(step) < s.deadband:
            if not self._between_steps():
                reason = "hold: in the dead band"
                return ControlDecision(self.power, error, True, reason)
            reason = "between two steps of the laser"
        most_up = self._most_up
        if self.vanished.slow:
            most_up, reason = SLOWER * most_up, "up slowly: emitters still gone"
        elif step > most_up:
            reason = "up, slew limit"
        step = min(step, most_up)
        if step < -self._most_down:
            step, reason = -self._most_down, "down, slew limit"
        wished = self._log_power + step
        at_floor = self._log_power <= lowest + 1e-9
        if at_floor and step < 0 and error < 0 and s.min_power < self._floor:
            return self._minimum(error, "off: too dense at the power floor")
        if wished > highest:
            wished, reason = highest, "at the largest power"
        elif wished < lowest:
            wished, reason = lowest, "at the power floor"
        self._log_power = wished
        return self._ask(error, reason)

    def _wait_for_them(self, error: float) -> ControlDecision:
        """At the power that was right before they went, no higher."""
        step = min(self.vanished.log_power - self._log_power, self._most_up)
        if abs(step) < self._settings.deadband and not self._between_steps():
            reason = "hold: emitters gone at once (focus, shutter, light?)"
            return ControlDecision(self.power, error, True, reason)
        self._log_power += max(step, -self._most_down)
        return self._ask(error, "emitters gone at once: at the power before")

    def _between_steps(self) -> bool:
        """Whether the laser cannot be at the power wished for; it takes turns."""
        return self._grid > 0 and (
            abs(self._given - self.power) > self._settings.deadband * self.power
        )

    def _ask(self, error: float, reason: str) -> ControlDecision:
        """For the power wished, and what rounding took from the last."""
        self._asked = min(self.power + self._owed, self._settings.max_power)
        return ControlDecision(self._asked, error, False, reason)

    def _minimum(self, error: float, reason: str) -> ControlDecision:
        self._set(self._settings.min_power)
        return ControlDecision(self._settings.min_power, error, False, reason)

    def _unusable(self, estimate: DensityEstimate) -> str:
        """Why the estimate cannot be acted on; empty when it can."""
        s = self._settings
        density, sd = self.density(estimate), estimate.smoothed_sd_per_um2
        # NaN is not at least 0 either.
        usable = 0.0 <= density < math.inf and 0.0 <= sd < math.inf
        if not (usable and math.isfinite(estimate.per_um2)):
            return "no finite density"
        if estimate.n_frames < s.min_frames:
            return f"only {estimate.n_frames} frames in the average"
        if self._seen < self._settling_frames:
            return "the emitters do not follow the start power yet"
        if sd > s.max_relative_sd * max(self._target, density):
            return f"density uncertain (sd {sd:.3g} per um2)"
        return ""

    def _responds_negatively(self, estimate: DensityEstimate) -> bool:
        """Power up by 4 and density down by 2, beyond 3 SD, within 200 frames."""
        self._past.append((self._log_power, estimate))
        log_before, before = self._past[0]
        if log_before < self._judged or self._log_power - log_before < _NEGATIVE_RISE:
            return False
        fall = before.smoothed_per_um2 - estimate.smoothed_per_um2
        sd = math.hypot(before.smoothed_sd_per_um2, estimate.smoothed_sd_per_um2)
        limit = before.smoothed_per_um2 * math.exp(-_NEGATIVE_FALL)
        return fall > 3.0 * sd and estimate.smoothed_per_um2 < limit
