r"""The dead man's own process: waits for the end of its owner, then acts.

    idle --A--> armed --D--> idle          E: end of input = the owner is gone
                  |  \--E--> act, exit
                  \--no beat for hang_s--> act, or end the owner first

Design notes
------------
The owner's end is seen in three ways: its end of the pipe closes (the system does that,
also after SIGKILL), the parent is another one (POSIX; a forked child of the owner may
keep the pipe open), or heartbeats stop. A thread reads the pipe, as Windows cannot wait
for one with a time limit. Signals meant for the owner's terminal do not end it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

from blinkloop.runtime.deadman.plan import DeadManPlan, SafeAction

__all__ = ["ARM", "BEAT", "DISARM", "QUIT", "READY", "Watcher", "main"]

ARM, BEAT, DISARM, QUIT = b"A", b"B", b"D", b"Q"
READY = "ready"
_GONE = b""
_LOOK_S = 0.1
_kept: list[SafeAction] = []
"""Let go by nobody: a bridge then waits for ever for a Micro-Manager that has gone."""


class Watcher:
    """Watches one owner until it is gone or takes its leave.

    Parameters
    ----------
    plan
        What to do and when.
    action
        Made from the plan.
    messages
        Single bytes from the owner; an empty one = its pipe is closed.
    parent
        Process id of our parent now.
    kill
        Ends the owner (replaced in tests).
    """

    def __init__(
        self,
        plan: DeadManPlan,
        action: SafeAction,
        messages: queue.Queue[bytes],
        *,
        parent: Callable[[], int] = os.getppid,
        kill: Callable[[int], None] | None = None,
    ) -> None:
        self._plan, self._action, self._messages = plan, action, messages
        self._parent, self._first_parent = parent, parent()
        self._kill = kill or _kill
        self._armed = self._acted = False

    def watch(self) -> bool:
        """Until the end; False when the laser could not be made safe."""
        beat = looked = time.monotonic()
        while True:
            message = self._next()
            now = time.monotonic()
            if now - looked > 10 * _LOOK_S:
                beat = now  # we slept ourselves (suspended, starved): do not blame it
            looked = now
            if message is not None:
                beat = now
            if message == ARM:
                self._armed, self._acted = True, False
            elif message == DISARM:
                self._armed = False
            elif message == QUIT:
                # Still armed = the owner could not make it safe, nor has it ended.
                if not self._armed:
                    return True
            elif message == _GONE or self._orphaned():
                return not self._armed or self._acted or self._insist("the run died")
            if self._armed and not self._acted:
                self._judge(now - beat)

    def _next(self) -> bytes | None:
        try:
            return self._messages.get(timeout=_LOOK_S)
        except queue.Empty:
            return None

    def _orphaned(self) -> bool:
        return sys.platform != "win32" and self._parent() != self._first_parent

    def _judge(self, silent_s: float) -> None:
        """The owner lives but is silent."""
        if not self._action.needs_owner_gone:
            if silent_s > self._plan.hang_s:
                self._acted = self._try(f"the run hung for {silent_s:.1f} s", True)
        elif silent_s > self._plan.kill_s:
            # Its death closes the pipe, which brings us to `_insist`.
            self.log(f"the run hung for {silent_s:.1f} s and was ended")
            self._kill(self._plan.owner_pid)

    def _insist(self, why: str) -> bool:
        """Try until it works: a device may take a moment to be free."""
        until = time.monotonic() + self._plan.give_up_s
        first = True
        while not self._try(why, first):
            first = False
            if time.monotonic() > until:
                self.log(f"{why}; NOT SAFE: given up, switch the laser off by hand")
                return False
            time.sleep(self._plan.retry_s)
        return True

    def _try(self, why: str, say: bool) -> bool:
        try:
            self.log(f"{why}; {self._action.act()}")
        except Exception as error:
            if say:
                text = " ".join(str(error).split())
                self.log(f"{why}; not safe yet: {type(error).__name__}: {text}")
            return False
        return True

    def log(self, text: str) -> None:
        """Add a line to the plan's log; never raises."""
        if not self._plan.log:
            return
        line = json.dumps({"time_s": time.time(), "event": text})
        try:
            with Path(self._plan.log).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            return


def main(stdin: BinaryIO | None = None, stdout: TextIO | None = None) -> int:
    """Read the plan, prepare, say so, watch. The exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    source = stdin or sys.stdin.buffer
    out = stdout or sys.stdout
    messages: queue.Queue[bytes] = queue.Queue()
    try:
        plan = DeadManPlan.from_line(source.readline())
        action = plan.make_action()
        _kept.append(action)
        action.prepare()
        watcher = Watcher(plan, action, messages)
    except Exception as error:
        text = " ".join(str(error).split())
        out.write(f"cannot: {text or type(error).__name__}\n")
        out.flush()
        return 2
    reader = threading.Thread(target=_read, args=(source, messages), daemon=True)
    reader.start()
    out.write(f"{READY}\n")
    out.flush()
    return 0 if watcher.watch() else 1


def _read(source: BinaryIO, messages: queue.Queue[bytes]) -> None:
    while byte := source.read(1):
        messages.put(byte)
    messages.put(_GONE)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except OSError:
        return  # gone already
