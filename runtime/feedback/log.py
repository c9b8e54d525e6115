"""Every command to the laser, with the estimate that caused it.

Design notes
------------
Append-only CSV, nothing buffered: a row is written at once, so that a crash loses
nothing that was commanded. In a run (`defers`) the rows of commands that a frame
caused are written a moment later, when all observers have seen the frame; formatting
costs more than commanding. Whatever no frame caused (start, dark, hold) is never late
and takes along what waits; so does the guard's watchdog. Failing to write (disk full,
share gone) must never keep the laser from its safe value: `append` does not raise; the
first failure is kept in `error`, and the rows stay in memory.
"""

from __future__ import annotations

import csv
import math
import threading
from collections import deque
from collections.abc import Sequence
from io import FileIO, StringIO
from pathlib import Path
from typing import NamedTuple

from blinkloop.errors import InputError
from blinkloop.runtime.density_estimate import DensityEstimate

__all__ = ["LOG_COLUMNS", "CommandLog", "LaserCommand", "make_row"]


class LaserCommand(NamedTuple):
    """One row of the log.

    Parameters
    ----------
    timestamp_s
        Seconds since the guard was made (monotonic clock).
    frame
        Frame whose estimate caused it; -1 = none (start, watchdog, stop).
    mode
        `off`, `advise` or `control`.
    requested
        Value asked for, in the laser property's unit; NaN = none.
    written
        Value sent to the laser; NaN = nothing was sent.
    read_back
        Value the laser reported then; NaN = not read.
    per_um2, smoothed_per_um2, smoothed_sd_per_um2, target_per_um2
        The estimate, and the set point; NaN = none.
    dose
        Integral of the value over time since arming, value x s.
    reason
        In words.
    """

    timestamp_s: float
    frame: int
    mode: str
    requested: float
    written: float
    read_back: float
    per_um2: float
    smoothed_per_um2: float
    smoothed_sd_per_um2: float
    target_per_um2: float
    dose: float
    reason: str


LOG_COLUMNS = LaserCommand._fields
"""Columns of the CSV, in order."""


def make_row(
    timestamp_s: float,
    mode: str,
    requested: float,
    written: float,
    read_back: float,
    estimate: DensityEstimate | None,
    target_per_um2: float,
    dose: float,
    reason: str,
) -> LaserCommand:
    """A row from the estimate that caused it (None = no estimate)."""
    if estimate is None:
        frame, now, mean, sd = -1, math.nan, math.nan, math.nan
    else:
        frame, now = estimate.index, estimate.per_um2
        mean, sd = estimate.smoothed_per_um2, estimate.smoothed_sd_per_um2
    return LaserCommand(
        timestamp_s,
        frame,
        mode,
        requested,
        written,
        read_back,
        now,
        mean,
        sd,
        target_per_um2,
        dose,
        reason,
    )


class CommandLog:
    """Rows in a CSV file and the latest ones in memory. Safe to use from any thread.

    Parameters
    ----------
    path
        CSV to append to (UTF-8); None = in memory only.
    keep
        Rows kept in memory.

    Raises
    ------
    InputError
        When the file cannot be opened, or is something else.
    """

    def __init__(self, path: str | Path | None = None, *, keep: int = 10_000) -> None:
        self._rows: deque[LaserCommand] = deque(maxlen=keep)
        # Re-entrant: a signal handler may log while the main thread is logging.
        self._lock = threading.RLock()
        self._error: str | None = None
        self._total = 0
        self._waiting: deque[LaserCommand] = deque()
        self.defers = False
        """True: rows of commands that a frame caused wait for `write_out`."""
        self._path = Path(path) if path is not None else None
        self._file: FileIO | None = None
        if self._path is not None:
            self._file = _open(self._path)

    @property
    def path(self) -> Path | None:
        """The CSV file, if any."""
        return self._path

    @property
    def error(self) -> str | None:
        """First failure to write, if any; rows are in memory all the same."""
        return self._error

    @property
    def total(self) -> int:
        """Rows appended so far, whether kept in memory or not."""
        return self._total

    def rows(self) -> list[LaserCommand]:
        """The rows kept in memory, oldest first."""
        with self._lock:
            return list(self._rows)

    def append(self, command: LaserCommand) -> None:
        """Add a row and write it, unless that can wait. Never raises."""
        with self._lock:
            self._rows.append(command)
            self._total += 1
            if self._file is None:
                return
            self._waiting.append(command)
            if not self.defers or command.frame < 0:
                self.write_out()

    def write_out(self) -> None:
        """Write the rows that wait. Never raises."""
        if not self._waiting:
            return
        with self._lock:
            try:
                while self._file is not None and self._waiting:
                    _write(self._file, self._waiting.popleft())
            except (OSError, ValueError) as error:
                self._error = f"{self._path}: the laser log stopped ({error})"
                self._shut()

    def close(self) -> None:
        """Close the file; the rows stay readable in memory. Never raises."""
        with self._lock:
            self.write_out()
            self._shut()

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._error = self._error or f"{self._path}: {error}"


def _write(file: FileIO, row: Sequence[object]) -> None:
    """A line of CSV, at once: no buffer, nothing to flush."""
    text = StringIO(newline="")
    csv.writer(text).writerow(row)
    line = text.getvalue().encode()
    written = file.write(line)
    while written < len(line):
        written += file.write(line[written:])


def _open(path: Path) -> FileIO:
    try:
        if path.exists() and path.stat().st_size > 0:
            with path.open(encoding="utf-8", newline="") as old:
                header = next(csv.reader(old), [])
            if tuple(header) != LOG_COLUMNS:
                raise InputError(
                    f"{path}: this is no laser log of this version (its first line "
                    f"differs), and it will not be overwritten; give another file"
                )
            return FileIO(path, "a")
        file = FileIO(path, "a")
        _write(file, LOG_COLUMNS)
        return file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the laser log cannot be written ({error}); give a file in a "
            f"folder that exists and can be written to"
        ) from error
