"""Status of a run: one line on a terminal, now and then a plain line otherwise."""

from __future__ import annotations

import math
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blinkloop.cli._output import note, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blinkloop.runtime import Pipeline, PipelineStatus

__all__ = ["status_line", "watching"]

_TERMINAL_S = 0.25
_PLAIN_S = 10.0


def status_line(
    status: PipelineStatus, *, total: int | None = None, extra: str = ""
) -> str:
    """What matters of a run, in one line."""
    rate = status.frames_localized / status.elapsed_s if status.elapsed_s > 0 else 0.0
    of = f"/{total}" if total is not None else ""
    parts = [
        f"{status.frames_localized}{of} frames",
        f"{rate:.0f} frames/s",
        f"{status.localizations} localizations",
    ]
    if total is not None and rate > 0:
        left = max(total - status.frames_localized, 0) / rate
        parts.append(f"{left:.0f} s left")
    if extra:
        parts.append(extra)
    if math.isfinite(status.latency_ms_p50) and total is None:
        parts.append(f"latency {status.latency_ms_p50:.0f} ms")
    missing = status.frames_lost + status.frames_skipped
    if missing:
        parts.append(f"{status.frames_lost} lost, {status.frames_skipped} skipped")
    return "  ".join(parts)


@contextmanager
def watching(
    pipeline: Pipeline,
    *,
    total: int | None = None,
    extra: Callable[[], str] = str,
    quiet: bool = False,
) -> Iterator[None]:
    """Show the status of a pipeline while it runs (stderr).

    Parameters
    ----------
    pipeline
        Asked for its status.
    total
        Frames in all, when known.
    extra
        More text for the line, e.g. density and laser.
    quiet
        Show nothing.
    """
    if quiet:
        yield
        return
    done = threading.Event()
    terminal = sys.stderr.isatty()

    def show() -> None:
        said = None
        while not done.wait(_TERMINAL_S if terminal else _PLAIN_S):
            status = pipeline.status()
            if status.state == "running" and status.failure not in (None, said):
                said = status.failure
                if terminal:
                    sys.stderr.write("\r\x1b[2K")
                warn(f"{said}; the run goes on")
            line = status_line(status, total=total, extra=extra())
            if terminal:
                # A line that wraps could not be written over.
                width = shutil.get_terminal_size().columns - 1
                sys.stderr.write("\r\x1b[2K" + line[:width])
                sys.stderr.flush()
            else:
                note(line)

    watcher = threading.Thread(target=show, name="status-line", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        if terminal:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
