"""Faults in `blinkloop run` with C++ camera and laser (DemoCamera) of the real core."""

from __future__ import annotations

import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from busy import spinning
from fault_helpers import MODEL, check_books, laser_rows, wait_for

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

from blinkloop.cli import _feedback
from blinkloop.integrations import micromanager
from blinkloop.integrations.formats import read_table
from blinkloop.integrations.micromanager import MicroManagerSource
from blinkloop.runtime import StreamLocalizer

CONTROL = ("--mode", "control", "--laser", "DA405.Voltage", "--update-frames", 20)
CONTROL = (*CONTROL, "--start-power", 2, "--exposure-ms", 10)


@dataclass
class Scope:
    """The core of the run, and what it delivered; `act` is done after `at` frames."""

    config: Path
    core: Any = None
    numbers: list[int] = field(default_factory=list)
    at: int = -1
    act: Callable[[Any], object] = lambda core: None

    @property
    def volts(self) -> float:
        """Of the laser now, by the real core."""
        return float(self.core.getProperty("DA405", "Voltage"))


@pytest.fixture
def scope(cpp_config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scope]:
    """Looks over the shoulder of the core that `run` opens."""
    scope = Scope(cpp_config)
    open_core = micromanager.open_core

    def opened(*words: Any, **named: Any) -> Any:
        scope.core = core = open_core(*words, **named)
        pop = core.popNextImageAndMD

        def popped() -> Any:
            image, tags = pop()
            scope.numbers.append(int(tags["ImageNumber"]))
            if len(scope.numbers) == scope.at:
                scope.act(core)
            return image, tags

        core.popNextImageAndMD = popped
        return core

    monkeypatch.setattr(micromanager, "open_core", opened)
    yield scope
    if scope.core is not None:
        scope.core.unloadAllDevices()


def check(scope: Scope, folder: Path) -> Any:
    """Laser dark by the core's word, books closed, data readable."""
    assert scope.volts == 0
    assert any(float(row["written"]) > 0 for row in laser_rows(folder))
    assert not scope.core.isSequenceRunning()
    return check_books(folder)


@pytest.mark.parametrize("beside", [nullcontext, spinning], ids=["quiet", "loaded"])
def test_overflow(here, scope, monkeypatch, beside) -> None:
    """The camera's thread stands still for longer than the core's ring lasts."""
    defaults: Any = MicroManagerSource.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "ring_seconds", 0.1)
    scope.at, scope.act = 40, lambda core: wait_for(core.isBufferOverflowed)
    # Small frames would all fit into the smallest ring that a core has, 1 MB.
    size = ("--set", "Camera.OnCameraCCDXSize=160", "--set")
    size = (*size, "Camera.OnCameraCCDYSize=140")
    with beside():
        said = here("--config", scope.config, *CONTROL, *size)
    assert said.code == 1
    assert "the core's ring of " in said.error
    assert "frames was full" in said.error
    report = check(scope, said.folder)
    assert scope.numbers == list(range(len(scope.numbers)))
    assert report["frames_seen"] == len(scope.numbers) + 1
    assert report["frames_lost"] == 1


@pytest.mark.parametrize("roi", [(0, 0, 20, 16), (4, 2, 30, 22)])
def test_roi_changed_mid_run(here, scope, roi) -> None:
    """This camera ends its sequence then; one that goes on is in the next test."""
    scope.at, scope.act = 40, lambda core: core.setROI(*roi)
    said = here("--config", scope.config, *CONTROL)
    assert said.code == 1
    x, y, width, height = roi
    assert "changed its ROI from 34 x 26 px at (0, 0) to" in said.error
    assert f"to {width} x {height} px at ({x}, {y}) during the run" in said.error
    assert check(scope, said.folder)["frames_localized"] == 40


def test_roi_moved_while_the_camera_goes_on(here, scope) -> None:
    """The tags of a double: same size, another place."""

    def move(core: Any) -> None:
        pop = core.popNextImageAndMD

        def moved() -> Any:
            image, tags = pop()
            return image, {**tags, "ROI-X-start": "4"}

        core.popNextImageAndMD = moved

    scope.at, scope.act = 40, move
    said = here("--config", scope.config, *CONTROL)
    assert said.code == 1
    assert "changed its ROI's corner from (0, 0) to (4, 0)" in said.error
    assert check(scope, said.folder)["frames_localized"] == 40


def test_exposure_changed_mid_run(here, scope) -> None:
    scope.at, scope.act = 40, lambda core: core.setExposure(30)
    said = here("--config", scope.config, *CONTROL)
    assert said.code == 1
    assert "changed its exposure from 10 ms to 30 ms" in said.error
    assert check(scope, said.folder)["frames_localized"] >= 40


def test_slow_consumer(here, scope, monkeypatch) -> None:
    """An analysis that stands still while 200 frames come; the ring has room for 100.

    And then takes 50 ms per frame of 10 ms.
    """
    push = StreamLocalizer.push

    def slow(localizer: StreamLocalizer, frames: Any) -> Any:
        assert wait_for(lambda: len(scope.numbers) >= 200)
        time.sleep(0.05 * len(frames))
        return push(localizer, frames)

    monkeypatch.setattr(StreamLocalizer, "push", slow)
    said = here("--config", scope.config, *CONTROL, "--frames", 250)
    assert said.code == 0, said.err
    report = check(scope, said.folder)
    assert report["frames_seen"] == 250
    assert report["frames_skipped"] > 50
    assert report["frames_lost"] == 0
    assert any("frames were skipped" in warning for warning in report["warnings"])


def test_backend_crash(here, scope, monkeypatch) -> None:
    """A double of a driver that gives up."""
    push = StreamLocalizer.push

    def crash(localizer: StreamLocalizer, frames: Any) -> Any:
        if frames[0].index > 30:
            raise RuntimeError("CUDA error: the device was lost")
        return push(localizer, frames)

    monkeypatch.setattr(StreamLocalizer, "push", crash)
    said = here("--config", scope.config, *CONTROL)
    assert said.code == 1
    assert "the device was lost" in said.error
    report = check(scope, said.folder)
    assert report["frames_localized"] >= 16
    assert report["frames_missing"]["analysis"] > 0


def test_nan_estimates(here, scope, monkeypatch, tmp_path) -> None:
    """A network with a weight that is not a number: the laser goes dark by itself."""
    onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
    network = onnx.load(MODEL)
    for weights in network.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.ndim > 1:
            broken = onnx.numpy_helper.from_array(values * np.nan, weights.name)
            weights.CopyFrom(broken)
    onnx.save(network, tmp_path / "nan.onnx")
    monkeypatch.setattr(_feedback, "_STALE_S", 0.4)
    monkeypatch.setattr(_feedback, "_DARK_AFTER_S", 0.8)
    words = ("--frames", 250, "-m", tmp_path / "nan.onnx")
    said = here("--config", scope.config, *CONTROL, *words)
    report = check(scope, said.folder)
    assert report["frames_seen"] == 250
    assert "no fresh estimate" in laser_rows(said.folder)[-1]["reason"]
    assert said.code == 0
    assert any("no finite density" in line for line in report["warnings"])
    assert any("laser went to its safe value" in line for line in report["warnings"])


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_signals(run, cpp_config, number, code) -> None:
    one = run("--config", cpp_config, *CONTROL, "--seconds", 120)
    frames = one.folder / "localizations.zarr" / "frames" / "index" / "c"
    assert wait_for(frames.is_dir), one.end()
    one.kill(number)
    assert one.end() == code, one.err
    report = check_books(one.folder)
    assert laser_rows(one.folder)[-1]["reason"] == f"safe: signal {number.name}"
    word = "interrupted" if number == signal.SIGINT else "SIGTERM"
    last = one.err.splitlines()[-1]
    assert last.startswith(f"{word}: {report['localizations']} localizations of ")
    assert "Traceback" not in one.err


@pytest.mark.parametrize("most", [2300, 6000], ids=["store", "tables"])
def test_disk_full(run, cpp_config, tmp_path, most) -> None:
    """A stand-in: no file may grow beyond so many bytes; a laser tells what it did."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    config, witness = cpp_config.read_text(), tmp_path / "witness"
    cpp_config.write_text(config + "#py pyDevice,L405,fault_devices,WitnessedLaser\n")
    laser = ("--mode", "control", "--laser", "L405.Power", "--start-power", 2)
    one = run(
        *("--config", cpp_config, *laser, "--update-frames", 20),
        *("--exposure-ms", 10, "--frames", 400),
        limits=small_files,
        environment={"LASER_WITNESS": str(witness)},
    )
    code = one.end()
    powers = [float(line) for line in witness.read_text().splitlines()]
    assert max(powers) > 0
    assert powers[-1] == 0
    rows = len(read_table(one.folder / "localizations.zarr"))
    assert rows > 0
    assert "Traceback" not in one.err
    if most == 6000:
        # The store is smaller: what other programs read is made again when there is
        # room.
        assert code == 0, one.err
        report = check_books(one.folder)
        assert any("localizations.hdf5 was not" in text for text in report["warnings"])
        return
    assert code == 1
    error = one.err.splitlines()[-1]
    assert error.startswith("error: sink LiveStore: ")
    assert "File too large" in error
    assert f"; {rows} of " in error
    assert not (one.folder / "report.json").exists()
    last = (one.folder / "events.csv").read_text().splitlines()[-1]
    books = re.search(r"seen (\d+), localized (\d+), skipped (\d+), lost (\d+)", last)
    assert books, last
    seen, *parts = map(int, books.groups())
    assert seen == sum(parts) == 400
