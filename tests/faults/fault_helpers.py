"""What the tests of faults share: files of a run, and what must hold after a fault."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinkloop.integrations.formats import read_table

HERE = Path(__file__).parent
MODEL = HERE.parent / "golden" / "tiny_half.onnx"
CONFIG = """\
Property,Core,Initialize,0
Device,DHub,DemoCamera,DHub
Device,Camera,DemoCamera,DCam
Device,DA405,DemoCamera,D-DA
Property,Camera,MaximumExposureMs,10000.0
Parent,Camera,DHub
Parent,DA405,DHub
Property,Core,Initialize,1
Property,Core,Camera,Camera
Property,Camera,PixelType,16bit
Property,Camera,OnCameraCCDXSize,34
Property,Camera,OnCameraCCDYSize,26
Property,Camera,Exposure,20.0
"""
"""A C++ camera of 34 x 26 px and a C++ stand-in for a laser, 0 to 10 V."""


def wait_for(condition: Callable[[], Any], limit_s: float = 90.0) -> bool:
    """Poll until it is true."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return False


def laser_rows(folder: Path) -> list[dict[str, str]]:
    """Of the command log; empty when there is none."""
    path = folder / "laser.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stale_s(folder: Path) -> list[float]:
    """How old estimates were when the laser was held for it.

    Seconds on a machine that is busy; hours when a clock that jumped was believed.
    """
    reasons = " ".join(row["reason"] for row in laser_rows(folder))
    return [
        float(age) for age in re.findall(r"no fresh estimate for ([\d.]+) s", reasons)
    ]


@dataclass
class MicroManager:
    """A Micro-Manager in a process of its own: `bridge_double`."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def was_set(self) -> list[tuple[float, float]]:
        """Time and value of everything the laser was set to."""
        if not self.log.exists():
            return []
        lines = self.log.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["time_s"], float(row["set"][2])) for row in rows]


@dataclass
class Run:
    """`blinkloop run` as a process."""

    process: subprocess.Popen[str]
    folder: Path
    out: str = ""
    err: str = ""

    def kill(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, limit_s: float = 120.0) -> int:
        """Wait for its end; the exit code."""
        self.out, self.err = self.process.communicate(timeout=limit_s)
        return self.process.returncode

    @property
    def report(self) -> Any:
        """`report.json`."""
        return json.loads((self.folder / "report.json").read_text())

    @property
    def laser_on(self) -> bool:
        """Whether its log says that the laser was switched on."""
        return any(float(row["written"] or 0) > 0 for row in laser_rows(self.folder))


@dataclass
class Said:
    """What `blinkloop run` left when it was called in this process."""

    code: int
    err: str
    folder: Path

    @property
    def error(self) -> str:
        """The one line; the last on stderr, and no traceback anywhere."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error:")]
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0], self.err
        assert "Traceback" not in self.err
        return errors[0]

    @property
    def report(self) -> Any:
        """`report.json`."""
        return json.loads((self.folder / "report.json").read_text())


def check_books(folder: Path) -> Any:
    """Data readable, every frame accounted for, laser's log ends safe; the report."""
    report = json.loads((folder / "report.json").read_text())
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert report["frames_seen"] == sum(report[part] for part in parts)
    table = read_table(folder / "localizations.zarr")
    assert len(table) == report["localizations"]
    events = (folder / "events.csv").read_text().splitlines()
    assert f"seen {report['frames_seen']}," in events[-1]
    written = [row for row in laser_rows(folder) if row["written"] not in ("", "nan")]
    assert float(written[-1]["written"]) == float(written[-1]["read_back"]) == 0
    return report
