"""Notices a training that has gone wrong, from its losses alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from blinkloop.training.recipe_schedule import ScheduleSettings

__all__ = ["Watch"]

_WINDOW = 200
_ENOUGH = 50


class Watch:
    """Watches the losses of a run.

    Diverged: not a number, or above median + `divergence_mads` MAD of the last 200
    usual losses for `divergence_iterations` iterations one after the other. Stuck: at
    iteration `stuck_iterations` the median localization loss per emitter of the last
    iterations is still `stuck_loss` or more (REFERENCE section 4, the official rule).

    Parameters
    ----------
    schedule
        Of the recipe.
    losses
        Usual losses so far, of a resumed run.
    """

    def __init__(self, schedule: ScheduleSettings, losses: Iterable[float] = ()):
        self._schedule = schedule
        self._losses = deque(losses, maxlen=_WINDOW)
        self._location: deque[float] = deque(maxlen=_ENOUGH)
        self._above = 0

    @property
    def losses(self) -> list[float]:
        """Usual losses, for the checkpoint."""
        return list(self._losses)

    @property
    def calm(self) -> bool:
        """Whether the weights are good enough to be kept."""
        return self._above == 0

    def see(self, loss: float, *, finite: bool = True) -> str | None:
        """Take an iteration's loss; what is wrong, if something is."""
        if not (finite and math.isfinite(loss)):
            return f"the loss is {loss}" if finite else "the gradient is not finite"
        if len(self._losses) >= _ENOUGH and loss > self._limit():
            self._above += 1
            if self._above >= self._schedule.divergence_iterations:
                return (
                    f"the loss was above {self._limit():.4g} for {self._above} "
                    f"iterations (usual: {median(self._losses):.4g})"
                )
            return None
        self._above = 0
        self._losses.append(loss)
        return None

    def see_start(self, iteration: int, location_per_emitter: float) -> str | None:
        """Take the localization loss of iteration 1, 2, ...; why the start is bad."""
        last = self._schedule.stuck_iterations
        if iteration > last:
            return None
        if math.isfinite(location_per_emitter):
            self._location.append(location_per_emitter)
        if iteration < last or not self._location:
            return None
        level = median(self._location)
        if level < self._schedule.stuck_loss:
            return None
        return f"the localization loss is {level:.4g} per emitter at iteration {last}"

    def _limit(self) -> float:
        middle = median(self._losses)
        mad = median(abs(value - middle) for value in self._losses)
        spread = max(mad, 1e-3 * abs(middle), 1e-6)
        return middle + self._schedule.divergence_mads * spread
