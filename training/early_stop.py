"""Stops a training whose validation no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from blinkloop.errors import InputError

__all__ = ["EarlyStop"]

_LESS_IS_BETTER = frozenset({"nll"})


class EarlyStop:
    """Counts validations without gain.

    Parameters
    ----------
    measure
        Name of the measure; "nll" should fall, the others rise.
    patience
        Validations without gain until the end; 0: never.
    best, waited
        Of a resumed run.
    """

    def __init__(
        self, measure: str, patience: int, best: float = math.inf, waited: int = 0
    ) -> None:
        self._measure, self._patience = measure, patience
        self.best, self.waited = best, waited

    @property
    def wanted(self) -> bool:
        """Whether it can ever stop the training."""
        return self._patience > 0

    def see(self, measures: Mapping[str, float]) -> bool:
        """Take a validation; whether it is the best so far.

        Raises
        ------
        InputError
            The validation does not measure what is watched.
        """
        if self._measure not in measures:
            raise InputError(
                f"schedule.stop_on is {self._measure}, which the validation does not "
                f"measure (it has {', '.join(measures)}); choose one of these"
            )
        value = measures[self._measure]
        cost = value if self._measure in _LESS_IS_BETTER else -value
        # NaN is never a gain.
        better = cost < self.best
        if better:
            self.best, self.waited = cost, 0
        else:
            self.waited += 1
        return better

    @property
    def over(self) -> bool:
        """Whether patience is at its end."""
        return self.wanted and self.waited >= self._patience
