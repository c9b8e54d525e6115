"""A real interpreter ends in several ways; a laser kept in a file must end dark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import *
sys.path.insert(0, sys.argv[3])
from feedback_doubles import result


class FileLaser:  # a double: the file is the light
    label, limits = "file", (0.0, 100.0)
    path = Path(sys.argv[1])

    def write(self, value):
        self.path.write_text(str(value))

    def read(self):
        return float(self.path.read_text())


# However slow the machine, it is not stale data that makes the laser dark here.
limits = LaserLimits(max_value=50.0, stale_s=300.0, dark_after_s=600.0)
guard = LaserGuard(FileLaser(), limits, mode="control")
loop = FeedbackLoop(
    DensityEstimator(100.0),
    FeedbackController(
        ControllerSettings(
            target_per_um2=0.5, start_power=4.0, max_power=50.0, update_frames=25
        )
    ),
    guard,
)
loop.observe([result(index, 5.0) for index in range(60)])
assert FileLaser().read() == 6.0, FileLaser().read()
print("on", flush=True)
how = sys.argv[2]
if how == "exception":
    raise RuntimeError("analysis broke")
if how == "sys.exit":
    sys.exit(3)
if how == "exit in a thread's shadow":
    threading.Thread(target=time.sleep, args=(0.2,)).start()
if how == "close":
    loop.close()
if how == "handler":
    def stop(number, frame):
        guard.make_safe("signal")
        os._exit(5)  # no atexit: the handler alone must do
    signal.signal(signal.SIGTERM, stop)
    signal.raise_signal(signal.SIGTERM)
if how == "ctrl-c":
    signal.raise_signal(signal.SIGINT)
    time.sleep(100)
"""


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("normal", 0),
        ("exception", 1),
        ("sys.exit", 3),
        ("exit in a thread's shadow", 0),
        ("close", 0),
        ("handler", 5),
        ("ctrl-c", None),
    ],
)
def test_laser_is_dark_after_the_interpreter(
    tmp_path: Path, how: str, code: int | None
) -> None:
    laser = tmp_path / "laser.txt"
    laser.write_text("1.0")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, laser, how, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "on\n", done.stderr
    assert float(laser.read_text()) == 0.0
    if code is not None:
        assert done.returncode == code, done.stderr
    else:
        assert done.returncode in (1, 130, -signal.SIGINT, 0xC000013A), done.stderr
