"""The learning rate of every iteration, and how much of a run is done.

Shares are of the whole run, 0 .. 1: of its iterations, or of its time budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from blinkloop.training.recipe_schedule import ScheduleSettings

__all__ = [
    "Clock",
    "decay_begins",
    "decay_start",
    "in_decay",
    "learning_rate",
    "settling_iterations",
]

_SETTLING_SHARE = 0.1
"""Most of a time budget that goes to sigma alone."""
_SETTLING_PACE = 0.4
"""Time of an iteration of the sigma head alone, in iterations (measured: 0.36)."""

_WARMUP_SHARE = 0.1
"""A short time budget does not end within its warm-up."""


def learning_rate(
    schedule: ScheduleSettings, iteration: int, share: float | None = None
) -> float:
    """Learning rate of iteration 0, 1, ...: linear warm-up, then the schedule.

    Parameters
    ----------
    schedule
        Of the recipe.
    iteration
        Counted from 0.
    share
        Of the time budget; None for a run that counts iterations.

    Notes
    -----
    `cosine` falls to 1 %. `wsd` (warm-up, stable, decay; Hu et al. 2024,
    arXiv:2404.06395) stays, then falls to 0 linearly or as 1 - sqrt (Hagele et al.
    2024, arXiv:2405.18392). `step` is the official x0.9.
    """
    rate, warmup = schedule.learning_rate, schedule.warmup_iterations
    warm = (iteration + 1) / warmup if iteration < warmup else 1.0
    if share is None:
        if warm < 1.0:
            return rate * warm
    else:
        rate *= min(1.0, max(warm, share / _WARMUP_SHARE))
    if schedule.schedule == "step":
        return float(rate * 0.9 ** (iteration // schedule.step_every))
    if schedule.schedule == "wsd":
        return rate * _decay(schedule, iteration, share)
    if share is None:
        span = max(1, schedule.iterations - warmup)
        share = (iteration - warmup) / span
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def _decay(schedule: ScheduleSettings, iteration: int, share: float | None) -> float:
    if share is None:
        start = decay_start(schedule)
        fallen = (iteration - start) / max(1, schedule.iterations - start)
    else:
        fallen = (share - 1.0 + schedule.decay_fraction) / schedule.decay_fraction
    fallen = min(1.0, max(0.0, fallen))
    return 1.0 - (fallen if schedule.decay_shape == "linear" else math.sqrt(fallen))


def decay_start(schedule: ScheduleSettings) -> int:
    """First iteration of the decay of a `wsd` schedule that counts iterations."""
    return schedule.iterations - round(schedule.decay_fraction * schedule.iterations)


def in_decay(schedule: ScheduleSettings, iteration: int, elapsed_s: float) -> bool:
    """Whether a `wsd` run has left its stable phase."""
    if schedule.minutes is None:
        return iteration > decay_start(schedule)
    return elapsed_s > (1.0 - schedule.decay_fraction) * schedule.minutes * 60.0


def decay_begins(schedule: ScheduleSettings, iteration: int, elapsed_s: float) -> bool:
    """Whether the next iteration of a `wsd` run is one of its decay."""
    if schedule.schedule != "wsd":
        return False
    if schedule.minutes is None:
        return iteration >= decay_start(schedule)
    return in_decay(schedule, iteration, elapsed_s)


def settling_iterations(
    schedule: ScheduleSettings, iteration: int, pace_s: float
) -> int:
    """How long sigma alone is trained after so many iterations of this pace."""
    wanted = min(schedule.sigma_iterations, iteration // 4)
    if schedule.minutes is None or not pace_s:
        return wanted
    affordable = _SETTLING_SHARE * schedule.minutes * 60.0 / (_SETTLING_PACE * pace_s)
    return min(wanted, int(affordable))


def _settling_s(schedule: ScheduleSettings, pace_s: float) -> float:
    """Of a time budget, what is kept for sigma alone."""
    most = _SETTLING_SHARE * (schedule.minutes or 0.0) * 60.0
    return min(most, _SETTLING_PACE * pace_s * schedule.sigma_iterations)


@dataclass(slots=True)
class Clock:
    """Time used by a run, over all its sessions.

    Parameters
    ----------
    elapsed_s
        All of it: iterations, validations, checkpoints.
    seconds
        Of the iterations alone.
    pace_s
        Of one iteration, recently.
    reserve_s
        Kept for the final validation.
    """

    elapsed_s: float = 0.0
    seconds: float = 0.0
    pace_s: float = 0.0
    reserve_s: float = 0.0

    def step(self, seconds: float) -> None:
        """Count an iteration."""
        self.seconds += seconds
        self.elapsed_s += seconds
        self.pace_s += (seconds - self.pace_s) * (0.03 if self.pace_s else 1.0)

    def share(self, schedule: ScheduleSettings) -> float:
        """Share of the time budget that is used; 0 where there is none."""
        if schedule.minutes is None:
            return 0.0
        kept = self.reserve_s + _settling_s(schedule, self.pace_s)
        budget = max(1e-9, schedule.minutes * 60.0 - kept - self.pace_s)
        return min(1.0, self.elapsed_s / budget)

    def iterations(self, schedule: ScheduleSettings, iteration: int) -> int:
        """Length of the run; estimated from the pace where time decides."""
        if schedule.minutes is None:
            return schedule.iterations
        kept = self.reserve_s + _settling_s(schedule, self.pace_s)
        left = schedule.minutes * 60.0 - kept - self.elapsed_s
        return iteration + max(0, round(left / self.pace_s)) if self.pace_s else 0
