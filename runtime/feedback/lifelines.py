"""What makes the laser safe when the guard's own process ends.

At an orderly exit `atexit`, at the end of a Windows console `ConsoleEnd`, after all
else the dead man, a process of its own.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

from blinkloop.runtime.feedback.console import ConsoleEnd
from blinkloop.runtime.feedback.port import Switch

__all__ = ["Lifelines"]


class Lifelines:
    """Held while a guard is armed.

    Parameters
    ----------
    make_safe
        The guard's; told why.
    record
        Takes a line for the log of commands.
    deadman
        None = there is none.
    """

    def __init__(
        self,
        make_safe: Callable[[str], object],
        record: Callable[[str], object],
        deadman: Switch | None,
    ) -> None:
        self._make_safe, self._record, self._deadman = make_safe, record, deadman
        self._console = ConsoleEnd(make_safe)
        self._problem: str | None = None

    @property
    def deadman_problem(self) -> str | None:
        """Why the dead man does not watch; None = it does, or there is none."""
        return None if self._deadman is None else self._deadman.problem

    def arm(self) -> None:
        """The laser may be on from now on."""
        atexit.register(self._at_exit)
        self._console.watch()
        if self._deadman is not None:
            self._deadman.arm()

    def beat(self) -> None:
        """Say that we live; log once when nobody listens any more."""
        if self._deadman is None:
            return
        self._deadman.beat()
        problem = self._deadman.problem
        if problem is not None and self._problem is None:
            self._problem = problem
            self._record(f"dead man: {problem}")

    def disarm(self) -> None:
        """The laser has its safe value."""
        if self._deadman is not None:
            self._deadman.disarm()

    def close(self, safe: bool) -> None:
        """The guard's end; a laser that is not safe is left to the lines."""
        if safe:
            atexit.unregister(self._at_exit)
            self._console.end()
        if self._deadman is not None:
            # Armed still if the laser refuses: it then acts once we are gone.
            self._deadman.close()

    def _at_exit(self) -> None:
        self._make_safe("interpreter exit")
