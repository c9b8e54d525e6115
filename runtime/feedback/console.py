"""A Windows console that is closed, and the end of a session: no signal says so.

Windows tells a console program by a call in a thread of its own and ends the process
when that call returns, after 5 s at the latest (learn.microsoft.com, HandlerRoutine).
Elsewhere a closed terminal is SIGHUP, which belongs to the command line's handlers.

Tested as plain logic only, on Linux; never on Windows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["CONSOLE_EVENTS", "ConsoleEnd"]

CONSOLE_EVENTS = {2: "console closed", 5: "log-off", 6: "shut-down"}
"""CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT. Ctrl-C and Ctrl-Break (0,
1) are left to Python's signal handlers."""


class ConsoleEnd:
    """Calls `make_safe` before Windows ends the process with its console.

    Parameters
    ----------
    make_safe
        Told why; may come from any thread; what it raises is dropped.
    kernel, wrap
        kernel32 and the type of its callback; None = this system's, and outside
        Windows nothing at all (replaced in tests).
    """

    def __init__(
        self,
        make_safe: Callable[[str], object],
        *,
        kernel: Any = None,
        wrap: Callable[[Callable[[int], bool]], Any] | None = None,
    ) -> None:
        self._make_safe = make_safe
        self._kernel, self._wrap = kernel, wrap
        self._routine: Any = None
        if kernel is None and sys.platform == "win32":
            import ctypes
            from ctypes import wintypes

            self._kernel = ctypes.windll.kernel32
            self._wrap = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)

    @property
    def watching(self) -> bool:
        """Whether Windows has been told to call."""
        return self._routine is not None

    def watch(self) -> bool:
        """Begin; False outside Windows, or when Windows refuses. Idempotent."""
        if self._routine is not None:
            return True
        if self._kernel is None or self._wrap is None:
            return False
        # Kept: Windows holds no reference, and a collected callback is a crash.
        routine = self._wrap(self.handle)
        if not self._kernel.SetConsoleCtrlHandler(routine, True):
            return False
        self._routine = routine
        return True

    def end(self) -> None:
        """Watch no longer. Idempotent."""
        routine, self._routine = self._routine, None
        if routine is not None:
            self._kernel.SetConsoleCtrlHandler(routine, False)

    def handle(self, event: int) -> bool:
        """What Windows calls; False hands the event on, so that the process ends."""
        why = CONSOLE_EVENTS.get(int(event))
        if why is not None:
            with suppress(Exception):
                self._make_safe(why)
        return False
