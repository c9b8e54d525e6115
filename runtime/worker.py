"""A daemon thread whose end can be waited for with Ctrl-C falling in between.

`threading.Thread.join` must not be used for that: in CPython 3.11 and 3.12 a
KeyboardInterrupt that lands in it marks a running thread as stopped, so `is_alive`
says False while it goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Worker", "patiently"]


class Worker:
    """Runs a function in a daemon thread named `blinkloop-<name>`."""

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        self._target = target
        self._arguments = arguments
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"blinkloop-{name}", daemon=True
        )

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait for at most `timeout` seconds; whether the function has returned."""
        return self._done.wait(timeout)

    def _run(self) -> None:
        try:
            self._target(*self._arguments)
        finally:
            self._done.set()


def patiently(done: Callable[[], bool], limit_s: float) -> bool:
    """Wait until something is done; the time limit or a second Ctrl-C ends the wait."""
    deadline, interrupts = time.perf_counter() + limit_s, 0
    while interrupts < 2 and time.perf_counter() < deadline:
        try:
            if done():
                return True
        except KeyboardInterrupt:
            interrupts += 1
    return False
