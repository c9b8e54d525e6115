"""Writes the rows of one guard: its clock, its mode, its dose."""

from __future__ import annotations

import math
from collections.abc import Callable

from blinkloop.runtime.density_estimate import DensityEstimate
from blinkloop.runtime.feedback.log import CommandLog, LaserCommand, make_row
from blinkloop.runtime.feedback.port import DoseMeter

__all__ = ["CommandBook"]


class CommandBook:
    """Rows of a `CommandLog`, dated from the moment the book is opened.

    Parameters
    ----------
    log
        Takes the rows.
    mode
        Of the feedback: off, advise or control.
    clock
        Monotonic seconds.
    dose
        Its total goes into every row.
    """

    def __init__(
        self,
        log: CommandLog,
        mode: str,
        clock: Callable[[], float],
        dose: DoseMeter,
    ) -> None:
        self._log, self._mode, self._clock, self._dose = log, mode, clock, dose
        self._start = clock()

    def record(
        self,
        requested: float = math.nan,
        written: float = math.nan,
        read_back: float = math.nan,
        estimate: DensityEstimate | None = None,
        target: float = math.nan,
        reason: str = "",
    ) -> LaserCommand:
        """Append a row; never raises."""
        row = make_row(
            self._clock() - self._start,
            self._mode,
            requested,
            written,
            read_back,
            estimate,
            target,
            self._dose.total,
            reason,
        )
        self._log.append(row)
        return row
