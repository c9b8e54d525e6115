"""Ctrl-C, SIGTERM and a closed console: ask a run to end instead of killing it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from blinkloop.cli._output import note

__all__ = ["StopSignal", "say_stopped", "stopping"]


@dataclass(slots=True)
class StopSignal:
    """Whether a signal asked a run to end.

    Parameters
    ----------
    event
        Set once one came.
    number
        The first one; None while there was none.
    """

    event: threading.Event = field(default_factory=threading.Event)
    number: int | None = None


def _nothing(reason: str) -> None:
    """A run without a laser has nothing to make safe."""


@contextmanager
def stopping(make_safe: Callable[[str], object] = _nothing) -> Iterator[StopSignal]:
    """While it is open, signals end the run and what is done is saved.

    Parameters
    ----------
    make_safe
        Called first, with the reason: frames that wait are still analysed, which may
        take seconds, and a laser must not wait for them.
    """
    stop = StopSignal()

    def ask(number: int, frame: object) -> None:
        make_safe(f"signal {signal.Signals(number).name}")
        stop.number = stop.number or number
        stop.event.set()
        if number == signal.SIGINT:
            # The pipeline counts them: a second one gives up on waiting frames.
            raise KeyboardInterrupt

    known = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    # What nohup ignores stays ignored: the run is meant to outlive its terminal.
    names = [
        n
        for n in known
        if hasattr(signal, n) and signal.getsignal(getattr(signal, n)) != signal.SIG_IGN
    ]
    before: list[tuple[int, object]] = []
    # Only the main thread may set handlers; a run inside another program keeps its.
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name)
            before.append((number, signal.signal(number, ask)))
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)  # type: ignore[arg-type]


def say_stopped(number: int, localizations: int, frames: int, saved: str) -> int:
    """Say what was saved; the exit code a shell reports for that signal."""
    why = "interrupted" if number == signal.SIGINT else signal.Signals(number).name
    note(
        f"{why}: {localizations} localizations of {frames} frames are saved in {saved}"
    )
    return 128 + number
