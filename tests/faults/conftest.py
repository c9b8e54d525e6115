"""`blinkloop run` and a Micro-Manager (a double with a real core) as processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


def wait_for(condition: Callable[[], Any], limit_s: float = 30.0) -> bool:
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


@pytest.fixture
def cpp_config(tmp_path: Path) -> Path:
    """A configuration of C++ devices."""
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
    path = tmp_path / "scope.cfg"
    path.write_text(CONFIG, "utf-8")
    return path


@pytest.fixture
def micro_manager(
    cpp_config: Path, tmp_path: Path
) -> Iterator[Callable[..., MicroManager]]:
    """Starts one; ended with the test."""
    pytest.importorskip("pycromanager", reason="needs the extra `pycromanager`")
    started: list[subprocess.Popen[str]] = []

    def start(version: str = "5.1.0") -> MicroManager:
        log = tmp_path / f"set{len(started)}.jsonl"
        words = [HERE / "bridge_double.py", cpp_config, log, version]
        process = subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return MicroManager(process, int(process.stdout.readline()), log)

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@dataclass
class Run:
    """`blinkloop run` as a process."""

    process: subprocess.Popen[str]
    folder: Path
    out: str = ""
    err: str = ""

    def kill(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, limit_s: float = 60.0) -> int:
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


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts `blinkloop run` on a tiny network; ended with the test."""
    if sys.platform == "win32":
        pytest.skip("processes are ended in the way of POSIX")
    started: list[Run] = []

    def start(*words: object, limits: Callable[[], None] | None = None) -> Run:
        folder = tmp_path / f"run{len(started)}"
        fixed = ("run", "-m", MODEL, "--pixel-size-nm", 100, "-o", folder, "--json")
        process = subprocess.Popen(
            [sys.executable, "-m", "blinkloop.cli", *map(str, (*fixed, *words))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{HERE}:{HERE.parent / 'cli'}",
            },
            preexec_fn=limits,
        )
        started.append(Run(process, folder))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()
