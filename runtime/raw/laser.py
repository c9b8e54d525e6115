"""The laser log as it grows, copied into the raw store.

Design notes: reads the CSV file that `CommandLog` flushes row by row, so that the
laser's own code knows nothing of raw data and never waits for them.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.raw.layout import LASER_DTYPE

__all__ = ["LaserTail"]

_NUMBERS = tuple(name for name in LASER_DTYPE.names or () if name != "reason")


class LaserTail:
    """New rows of a laser log since the last look.

    Parameters
    ----------
    path
        The CSV; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._header: list[str] | None = None

    def rows(self) -> tuple[npt.NDArray[np.void], list[str]]:
        """Rows that are complete (their newline is written), and their reasons."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                found = file.read()
        except OSError:
            found = b""
        whole = found[: found.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = list(csv.reader(whole.decode("utf-8", "replace").splitlines()))
        if self._header is None and lines:
            self._header = lines.pop(0)
        numbers = np.zeros(len(lines), LASER_DTYPE)
        reasons = []
        for row, cells in zip(numbers, lines, strict=True):
            named = dict(zip(self._header or (), cells, strict=False))
            for name in _NUMBERS:
                row[name] = _number(named.get(name, ""))
            if row["frame"] < 0:
                row["frame"] = math.nan
            reasons.append(named.get("reason", ""))
        return numbers, reasons


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
