"""The time of day jumps for a whole `blinkloop run`: Python, the C++ core, dead man."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fault_helpers import HERE, check_books, laser_rows, stale_s, wait_for

pytest.importorskip("pymmcore", reason="needs the extra `micromanager`")

CONTROL = ("--mode", "control", "--laser", "DA405.Voltage", "--update-frames", 20)
CONTROL = (*CONTROL, "--start-power", 2, "--exposure-ms", 10, "--seconds", 300)
SHIFTS_S = (-3600, 7200, 0)


class Clock:
    """The time of day of the programs that were started with `environment`."""

    def __init__(self, folder: Path) -> None:
        library, self._shift = folder / "moved_clock.so", folder / "shift"
        self.set(0)
        words = ["cc", "-shared", "-fPIC", "-o", library, HERE / "moved_clock.c"]
        subprocess.run([*map(str, words), "-ldl"], check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "CLOCK_SHIFT": str(self._shift),
        }

    def set(self, shift_s: int) -> None:
        # In place: the programs have it mapped.
        with self._shift.open("r+b" if self._shift.exists() else "wb") as file:
            file.write(np.int64(shift_s).tobytes())


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    return Clock(tmp_path)


def test_the_clock_is_moved(clock: Clock) -> None:
    """So that the next test says something."""
    clock.set(-3600)
    for line in ("import time; print(time.time())", "date"):
        words = [sys.executable, "-c", line] if "import" in line else [line, "+%s"]
        said = subprocess.run(
            words, env=clock.environment, capture_output=True, text=True, check=True
        )
        assert abs(float(said.stdout) - (time.time() - 3600)) < 60


@pytest.mark.parametrize("way", ["core", "bridge"])
def test_clock_jump(run, cpp_config, micro_manager, clock, way) -> None:
    """An hour back, two forward and right again; the power goes on being updated."""
    place: tuple[object, ...] = ("--config", cpp_config)
    if way == "bridge":
        mm = micro_manager(environment=clock.environment)
        place = ("--pycromanager", "--port", mm.port)
    one = run(*place, *CONTROL, environment=clock.environment)

    def updates() -> int:
        return sum(row["frame"] not in ("", "-1") for row in laser_rows(one.folder))

    for shift_s in SHIFTS_S:
        seen = updates()
        assert wait_for(lambda seen=seen: updates() >= seen + 3), one.end()
        clock.set(shift_s)
    seen = updates()
    assert wait_for(lambda: updates() >= seen + 3), one.end()
    assert one.process.poll() is None
    one.kill()
    assert one.end() == 143, one.err
    report = check_books(one.folder)
    assert report["frames_lost"] == 0
    rows = laser_rows(one.folder)
    assert max(stale_s(one.folder), default=0) < 60
    assert rows[-1]["reason"] == "safe: signal SIGTERM"
    times_s = [float(row["timestamp_s"]) for row in rows if row["timestamp_s"]]
    assert times_s == sorted(times_s)
    assert not (one.folder / "deadman.log").exists()
    if way == "bridge":
        assert [value for _, value in mm.was_set()].count(0) == 1
