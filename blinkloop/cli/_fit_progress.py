"""Progress of a fit: a bar with frames/s and time left, or plain lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blinkloop.cli._output import note

if TYPE_CHECKING:
    from blinkloop.runtime import Pipeline, PipelineStatus

__all__ = ["progress_line", "progress_of"]

_TERMINAL_S = 0.2
_PLAIN_S = 10.0


def progress_line(status: PipelineStatus, total: int, before: int) -> str:
    """What matters, in one line.

    Parameters
    ----------
    status
        Of the pipeline.
    total
        Frames wanted.
    before
        Those of them an earlier run has done.
    """
    done = min(before + status.frames_localized, total)
    rate = _rate(status)
    parts = [
        f"{done}/{total} frames",
        f"{_number(rate)} frames/s",
        f"{status.localizations} localizations",
    ]
    if rate > 0:
        parts.append(f"{_clock((total - done) / rate)} left")
    return "  ".join(parts)


@contextmanager
def progress_of(pipeline: Pipeline, total: int, before: int = 0) -> Iterator[None]:
    """Show the progress of a pipeline while it runs (stderr).

    Parameters
    ----------
    pipeline
        Asked for its status.
    total, before
        As `progress_line`.
    """
    done = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    watcher = threading.Thread(
        target=show, args=(pipeline, total, before, done), name="progress", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _lines(pipeline: Pipeline, total: int, before: int, done: threading.Event) -> None:
    while not done.wait(_PLAIN_S):
        note(progress_line(pipeline.status(), total, before))


def _bar(pipeline: Pipeline, total: int, before: int, done: threading.Event) -> None:
    # Imported here: rich takes longer to import than a short movie to fit.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=None), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, completed=before)
        ended = False
        while not ended:
            ended = done.wait(_TERMINAL_S)
            status = pipeline.status()
            progress.update(
                task,
                completed=min(before + status.frames_localized, total),
                description=progress_line(status, total, before),
            )


def _rate(status: PipelineStatus) -> float:
    if status.elapsed_s <= 0:
        return 0.0
    return status.frames_localized / status.elapsed_s


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def _clock(seconds: float) -> str:
    """3661 s -> 1:01:01; 75 s -> 1:15; 12 s -> 12 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
