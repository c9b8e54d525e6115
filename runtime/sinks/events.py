"""A table of everything that happened to the frames of a run: one row per hole.

Columns: `time_s` since the log was opened, `event` ("start", "skipped", "lost",
"break", "end"), `first_frame`, `frames`, `text`. Every row is on its way to the disk
when the next one comes, so that a crash leaves all but the last.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from blinkloop.errors import InputError
from blinkloop.runtime.records import FrameResult, Gap

__all__ = ["EVENT_COLUMNS", "EventLog"]

EVENT_COLUMNS = ("time_s", "event", "first_frame", "frames", "text")


class EventLog:
    """Sink that writes a CSV of the gaps; results pass it by.

    Parameters
    ----------
    path
        File to write; it must not exist.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._file: TextIO | None = None
        self._opened_s = 0.0

    def open(self, meta: Mapping[str, Any]) -> None:
        """Write the head; `InputError` when the file cannot be made."""
        try:
            self._file = self._path.open("x", encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(
                f"{self._path}: the log of events cannot be made ({error.strerror}); "
                f"choose another folder"
            ) from error
        self._opened_s = self._clock()
        csv.writer(self._file).writerow(EVENT_COLUMNS)
        self._row("start", "", "", str(meta.get("model_name") or ""))

    def write(self, results: Sequence[FrameResult]) -> None:
        """Frames with a result are no event."""

    def gap(self, gap: Gap) -> None:
        """Write a row; "skipped" or "lost" is the first word of its reason."""
        kind = gap.reason.partition(":")[0]
        known = kind if kind in ("skipped", "lost") else "break"
        self._row(known, gap.first, gap.count, gap.reason)

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Write the books, or why the run failed; the file's path."""
        if self._file is None:
            return {}
        run = meta.get("run") or {}
        books = ", ".join(
            f"{name} {run[f'frames_{name}']}"
            for name in ("seen", "localized", "skipped", "lost")
            if f"frames_{name}" in run
        )
        failure = run.get("failure") or meta.get("failure")
        self._row("end", "", "", "; ".join(filter(None, (books, failure))))
        self._file.close()
        self._file = None
        return {"events": str(self._path)}

    def discard(self) -> None:
        """The run did not begin: leave no file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)

    def _row(self, event: str, first: object, count: object, text: str) -> None:
        if self._file is None:
            return
        passed_s = self._clock() - self._opened_s
        line = " ".join(text.split())
        csv.writer(self._file).writerow((f"{passed_s:.3f}", event, first, count, line))
        self._file.flush()
