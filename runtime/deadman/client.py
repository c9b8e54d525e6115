"""The owner's end: starts the dead man and says that the owner lives."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from blinkloop.errors import DeviceError
from blinkloop.runtime.deadman.plan import DeadManPlan
from blinkloop.runtime.deadman.process import ARM, BEAT, DISARM, QUIT, READY

__all__ = ["DeadMan"]

_END_S = 2.0


class DeadMan:
    """A process that makes the laser safe when this one no longer can.

    Only the constructor raises. The other methods neither block nor raise and may be
    called from any thread or a signal handler; what goes wrong is in `problem`.

    Parameters
    ----------
    plan
        What it does.
    start_s
        Time it may take to be ready.
    command
        How it is started; by default this interpreter and module.

    Raises
    ------
    DeviceError
        It could not be started, or cannot do what the plan says.
    """

    def __init__(
        self,
        plan: DeadManPlan,
        *,
        start_s: float = 30.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._problem: str | None = None
        self._closed = False
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        default = (sys.executable, "-m", "blinkloop.runtime.deadman")
        try:
            self._process = subprocess.Popen(
                list(command or default),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Ctrl-C in the terminal is for the run alone.
                start_new_session=True,
                creationflags=flags,
                bufsize=0,
            )
        except OSError as error:
            raise DeviceError(f"the dead man was not started ({error})") from error
        answer = self._ask(plan.to_line(), start_s)
        if answer != READY:
            self._process.kill()
            self._release()
            raise DeviceError(f"the dead man is not ready: {answer}")
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        if hasattr(os, "set_blocking") and sys.platform != "win32":
            os.set_blocking(self._pipe, False)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def problem(self) -> str | None:
        """Why nobody watches any more; None = somebody does."""
        return self._problem

    def arm(self) -> None:
        """The laser may be on: act if we go."""
        self._say(ARM)

    def beat(self) -> None:
        """We live."""
        if self._problem is None and self._process.poll() is not None:
            self._problem = f"its process ended ({self._process.returncode})"
        self._say(BEAT)

    def disarm(self) -> None:
        """The laser has its safe value."""
        self._say(DISARM)

    def close(self) -> None:
        """Take leave. While armed it stays, and acts at the end of this process."""
        if self._closed:
            return
        self._say(QUIT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
            self._closed = True
            self._release()

    def _say(self, message: bytes) -> None:
        if self._closed or self._problem is not None:
            return
        try:
            os.write(self._pipe, message)
        except OSError as error:
            self._problem = f"its process does not listen ({error.strerror or error})"

    def _ask(self, line: bytes, limit_s: float) -> str:
        """Send the plan; its first line, or why there is none."""
        answers: queue.Queue[str] = queue.Queue()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None

        def talk() -> None:
            try:
                stdin.write(line)
                text = stdout.readline().decode(errors="replace").strip()
            except OSError as error:
                text = str(error)
            answers.put(text or "it ended without a word")

        threading.Thread(target=talk, daemon=True).start()
        try:
            return answers.get(timeout=limit_s).removeprefix("cannot: ")
        except queue.Empty:
            return f"no answer within {limit_s:g} s"

    def _release(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
