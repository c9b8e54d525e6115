"""A double of a device that outlives its process: a file of who set what, and when.

Run as a program it kills feedback sessions at random moments and prints, as JSON, what
the file says: `python deadman_doubles.py FOLDER KILLS`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any


class FileLaser:
    """A double of a laser: the last line of the file is the light."""

    label, limits = "file", (0.0, 100.0)

    def __init__(self, path: str | Path, who: str = "run") -> None:
        self.path, self.who = Path(path), who

    def write(self, value: float) -> None:
        row = {"who": self.who, "value": value, "time_s": time.time()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def read(self) -> float:
        return rows(self.path)[-1]["value"]


def rows(path: Path) -> list[dict[str, Any]]:
    """Everything that was ever set."""
    if not path.exists():
        return [{"who": "nobody", "value": 0.0, "time_s": 0.0}]
    text = path.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


class FileSafeAction:
    """The dead man's own connection to a `FileLaser`."""

    def __init__(
        self, path: str, exclusive: bool = False, broken: str = "", busy: int = 0
    ) -> None:
        self.path, self.needs_owner_gone = path, exclusive
        self.broken, self.busy = broken, busy

    def prepare(self) -> None:
        if self.broken:
            raise OSError(self.broken)

    def act(self) -> str:
        self.busy -= 1
        if self.busy >= 0:
            raise OSError("port is busy")
        FileLaser(self.path, "dead man").write(0.0)
        return "file set to 0"


def plan_of(path: Path, **more: Any) -> Any:
    """A plan for the double; `action` settings by name, the rest is the plan's."""
    from blinkloop.runtime.deadman import DeadManPlan

    names = ("exclusive", "broken", "busy")
    settings = {name: more.pop(name) for name in names if name in more}
    return DeadManPlan(
        "deadman_doubles:FileSafeAction",
        {"path": str(path), **settings},
        log=str(path.with_suffix(".log")),
        **more,
    )


def session(path: Path, hang: bool = False, **more: Any) -> None:
    """A feedback session until it is killed; the laser goes up and down."""
    from feedback_doubles import result

    from blinkloop.runtime.deadman import DeadMan
    from blinkloop.runtime.density import DensityEstimator
    from blinkloop.runtime.feedback import (
        ControllerSettings,
        FeedbackController,
        FeedbackLoop,
        LaserGuard,
        LaserLimits,
    )

    deadman = DeadMan(plan_of(path, **more))
    guard = LaserGuard(
        FileLaser(path), LaserLimits(max_value=50.0), mode="control", deadman=deadman
    )
    loop = FeedbackLoop(
        DensityEstimator(100.0),
        FeedbackController(
            ControllerSettings(target_per_um2=0.5, start_power=4.0, max_power=50.0)
        ),
        guard,
    )
    index = 0
    while True:
        loop.observe([result(index, 10.0 if index % 100 < 50 else 40.0, fps=200.0)])
        index += 1
        if hang and on_rows(path):
            # As a driver that never returns and keeps the interpreter's lock.
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.005)


def on_rows(path: Path) -> bool:
    """Whether the run has switched the laser on."""
    return any(row["value"] > 0 for row in rows(path))


def wait_for(condition: Any, limit_s: float = 120.0) -> bool:
    """Poll until it is true; the limit is for what failed, not for a slow machine."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.002)
    return False


def kill_one(path: Path, commands: int, moment_s: float) -> dict[str, Any]:
    """Fork a session, kill it -9 at that moment after so many commands.

    Nothing but its death can bring the dead man to act: a silence would have to last
    for 10 min.
    """
    pid = os.fork()
    if pid == 0:
        try:
            session(path, hang_s=600.0, kill_s=600.0)
        finally:
            os._exit(99)
    started = wait_for(lambda: on_rows(path) and len(rows(path)) >= commands)
    time.sleep(moment_s)
    killed_s = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: rows(path)[-1]["who"] == "dead man")
    time.sleep(0.05)  # nobody may write after it
    os.waitpid(pid, 0)
    last = rows(path)[-1]
    return {
        "started": started,
        "last_who": last["who"],
        "last_value": last["value"],
        "delay_s": last["time_s"] - killed_s,
        "commands": len(rows(path)) - 1,
    }


def main() -> None:
    """Kill sessions one after the other."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    import feedback_doubles  # once, before the forks

    import blinkloop.runtime.feedback

    del feedback_doubles, blinkloop
    done: list[dict[str, Any]] = []
    for number in range(kills):
        path = folder / f"laser{number}.jsonl"
        done.append(kill_one(path, 1 + number % 3, rng.uniform(0.0, 0.15)))
        if done[-1]["last_who"] != "dead man":
            break
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
