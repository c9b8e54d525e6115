"""`PycroCamera` and `run --pycromanager --config` on the real Python backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busy import wait_for

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.formats import read_table
from blinkloop.integrations.pycromanager import (
    PycroCamera,
    start_python_backend,
    stop_python_backend,
)
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Frame, Roi

pytest.importorskip("mm_test_adapters", reason="needs the package mm-test-adapters")
pytest.importorskip("pycromanager", reason="needs the extra `pycromanager`")

MODEL = Path(__file__).parents[1] / "golden" / "tiny_half.onnx"


@pytest.fixture(scope="module")
def _backend() -> Iterator[Any]:
    core = start_python_backend()
    yield core
    stop_python_backend()


@pytest.fixture
def core(_backend: Any) -> Any:
    _backend.setProperty("Camera", "PixelType", "16bit")
    _backend.setROI(10, 20, 96, 64)
    return _backend


def test_frames_of_several_blocks(core: Any) -> None:
    source = PycroCamera(core, exposure_ms=2.0, n_frames=75, block_frames=30)
    assert isinstance(source, FrameSource)
    assert source.roi == Roi(10, 20, 96, 64)
    assert source.camera_facts()["exposure_ms"] == 2.0
    assert [frame.index for frame in source.frames()] == list(range(75))
    assert source.lost == source.relay_dropped == 0
    assert not core.isSequenceRunning()
    assert core.getBufferTotalCapacity() >= 1000  # 2 s of frames, not of MB


def test_without_an_end_until_it_is_stopped(core: Any) -> None:
    source = PycroCamera(core, exposure_ms=2.0, block_frames=30)
    indices = []
    for frame in source.frames():
        indices.append(frame.index)
        if frame.index == 70:
            source.stop()
    assert indices == list(range(len(indices)))
    assert len(indices) >= 71
    assert not core.isSequenceRunning()
    source.stop()
    assert list(PycroCamera(core).camera_facts())


def test_stopped_before_it_began(core: Any) -> None:
    source = PycroCamera(core)
    source.stop()
    assert list(source.frames()) == []


def test_a_camera_in_use_is_not_disturbed(core: Any) -> None:
    core.startContinuousSequenceAcquisition(0.0)
    try:
        with pytest.raises(DeviceError, match="already running"):
            PycroCamera(core).start()
        assert core.isSequenceRunning()
    finally:
        core.stopSequenceAcquisition()


def test_an_overflow_is_named_and_counted(core: Any, monkeypatch) -> None:
    """The acquisition's own processor stands still for longer than ring and queue."""
    monkeypatch.setattr(PycroCamera, "_set_ring", lambda self: None)
    core.setCircularBufferMemoryFootprint(1)
    source = PycroCamera(core, exposure_ms=2.0, block_frames=2000)
    room = int(core.getBufferTotalCapacity())
    take = source._take

    def slow(image: Any, metadata: Any) -> None:
        take(image, metadata)
        if source._taken == 20:
            assert wait_for(core.isBufferOverflowed)

    source._take = slow  # type: ignore[method-assign]
    indices = []
    with pytest.raises(DeviceError, match="ring was full") as caught:
        indices.extend(frame.index for frame in source.frames())
    assert "\n" not in str(caught.value)
    assert source.lost == room + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda core: core.setExposure(9.0), "exposure from 2 ms to 9 ms"),
        (lambda core: core.setROI(4, 6, 48, 40), "ROI from 96 x 64 px at"),
    ],
    ids=["exposure", "ROI"],
)
def test_settings_changed_mid_run(core: Any, change: Any, said: str) -> None:
    """The acquisition is ours, so it ends too."""
    source = PycroCamera(core, exposure_ms=2.0, block_frames=2000)
    indices: list[int] = []

    def take(frame: Frame) -> int:
        if frame.index == 30:
            change(core)
        return frame.index

    with pytest.raises(DeviceError, match=said) as caught:
        indices.extend(map(take, source.frames()))
    assert "\n" not in str(caught.value)
    assert len(indices) > 30
    assert indices == list(range(len(indices)))
    assert source.lost == source.relay_dropped == 0
    assert not core.isSequenceRunning()


@pytest.mark.parametrize("frames", [0, -3])
def test_impossible_numbers(core: Any, frames: int) -> None:
    with pytest.raises(InputError, match="number of frames"):
        PycroCamera(core, n_frames=frames)


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    fixed = ("run", "-m", MODEL, "-o", folder, "--json", "--pycromanager")
    return subprocess.run(
        [sys.executable, "-m", "blinkloop.cli", *map(str, (*fixed, *words))],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_command(tmp_path: Path) -> None:
    """Camera and laser of the C++ demo adapters through Pycro-Manager's own engine."""
    config = tmp_path / "scope.cfg"
    config.write_text(
        "Property,Core,Initialize,0\nDevice,Camera,DemoCamera,DCam\n"
        "Device,DHub,DemoCamera,DHub\nDevice,DA405,DemoCamera,D-DA\n"
        "Parent,DA405,DHub\nProperty,Core,Initialize,1\nProperty,Core,Camera,Camera\n"
        "Property,Camera,PixelType,16bit\nProperty,Camera,OnCameraCCDXSize,34\n"
        "Property,Camera,OnCameraCCDYSize,26\n"
    )
    words = ("--config", config, "--frames", 60, "--exposure-ms", 20)
    words = (*words, "--pixel-size-nm", 100, "--backend", "onnxruntime-cpu")
    words = (*words, "--mode", "control", "--laser", "DA405.Voltage")
    done = run(tmp_path / "out", *words, "--start-power", 2)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert record["frames_seen"] == sum(record[part] for part in parts) == 60
    assert record["frames_lost"] == 0
    assert len(read_table(record["files"]["store"])) == record["localizations"]
    assert record["laser_final"] == 0
    assert record["laser_commands"] >= 2
    assert "no dead man for the laser: DA405 is simulated" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", 1), "does not answer on port 1; start it and tick"),
        (("--config", "x.cfg", "--port", 4827), "give one of the two"),
        (("--config", "nowhere.cfg"), "no Micro-Manager configuration at"),
        (("--watch", "movie.tif"), "--watch follows a movie"),
    ],
    ids=["not running", "config and port", "no config", "watch"],
)
def test_one_line_when_it_cannot(tmp_path: Path, words: Any, said: str) -> None:
    done = run(tmp_path / "out", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_port_needs_pycromanager(tmp_path: Path) -> None:
    words = ["run", "-m", str(MODEL), "--port", "4827"]
    done = subprocess.run(
        [sys.executable, "-m", "blinkloop.cli", *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--port needs --pycromanager" in done.stderr
