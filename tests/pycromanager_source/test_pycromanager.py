"""Pycro-Manager's Python backend for real, on the C++ demo camera."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from busy import PATIENCE_S, wait_for

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager import MMLaser, watch
from blinkloop.integrations.pycromanager import CamelCore, PycroSource, connect
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Roi

pytest.importorskip("mm_test_adapters", reason="needs the package mm-test-adapters")
pycromanager = pytest.importorskip("pycromanager", reason="needs extra `pycromanager`")


def test_micro_manager_does_not_run() -> None:
    """First in this file: no backend has been started yet."""
    with pytest.raises(InputError, match="does not answer on port 4827") as caught:
        connect()
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def _headless() -> Iterator[None]:
    from mm_test_adapters import device_adapter_path

    pycromanager.start_headless(
        device_adapter_path(),
        "MMConfig_demo.cfg",
        python_backend=True,
        buffer_size_mb=64,
    )
    yield
    pycromanager.stop_headless()


@pytest.fixture
def core(_headless: None) -> Any:
    core = pycromanager.Core()
    core.set_property("Camera", "PixelType", "16bit")
    core.set_exposure(2.0)
    core.set_roi(10, 20, 96, 64)
    return core


@contextmanager
def acquiring(source: PycroSource, frames: int, fn: Callable | None = None) -> Any:
    """The owner's acquisition, on a thread of its own."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with pycromanager.Acquisition(
                directory=None,
                name="x",
                image_process_fn=fn or source.process,
                notification_callback_fn=source.notify,
                show_display=False,
            ) as acquisition:
                acquisition.acquire([{"axes": {"time": i}} for i in range(frames)])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_every_frame(core: Any) -> None:
    source = PycroSource(core)
    assert isinstance(source, FrameSource)
    assert source.roi == Roi(10, 20, 96, 64)
    assert source.camera_facts()["exposure_ms"] == 2.0
    owner: list[int] = []

    def process(image: Any, metadata: Any) -> Any:
        owner.append(int(image[-1, -1]))
        return source.process(image, metadata)

    with acquiring(source, 100, process) as errors:
        frames = [(f.index, int(f.pixels[-1, -1])) for f in source.frames()]
    assert errors == []
    assert [index for index, _ in frames] == list(range(100))
    assert [value for _, value in frames] == owner
    assert source.lost == source.relay_dropped == 0


def test_a_consumer_that_is_too_slow_does_not_slow_the_acquisition(core: Any) -> None:
    """It ends while the consumer stands still."""
    source = PycroSource(core, relay_mb=1e-9)  # 16 frames
    delivered, processed, held_up = [], [], []

    def process(image: Any, metadata: Any) -> Any:
        processed.append(0)
        return source.process(image, metadata)

    with acquiring(source, 150, process) as errors:
        for frame in source.frames():
            delivered.append(frame.index)
            held_up.append(not wait_for(lambda: len(processed) == 150))
    assert not any(held_up)
    assert errors == []
    assert source.relay_dropped >= 150 - 16
    assert len(delivered) + source.relay_dropped == 150
    assert int(np.sum(np.diff([-1, *delivered]) - 1)) + source.lost == (
        source.relay_dropped
    )


def test_the_laser_is_set_from_another_thread_while_frames_come(core: Any) -> None:
    laser = MMLaser(CamelCore(core), "LED", "State", limits=(0, 9))
    source = PycroSource(core)
    with acquiring(source, 60) as errors:
        for frame in source.frames():
            if frame.index % 10 == 0:
                laser.write(frame.index // 10)
                assert laser.read() == frame.index // 10
    assert errors == []
    laser.write(0)


def test_another_size_ends_ours_only(core: Any) -> None:
    source = PycroSource(core)
    core.set_roi(0, 0, 32, 33)
    with (
        acquiring(source, 5) as errors,
        pytest.raises(DeviceError, match=r"its image from \(64, 96\) to \(33, 32\)"),
    ):
        list(source.frames())
    assert errors == []


@pytest.mark.parametrize("tagged", [True, False], ids=["on the frames", "asked for"])
def test_exposure_changed_mid_run(core: Any, monkeypatch, tagged: bool) -> None:
    """Ours ends; the owner's acquisition does not notice."""
    monkeypatch.setattr(watch, "_EVERY_S", 3600.0 if tagged else 0.05)
    source = PycroSource(core)
    owner: list[int] = []

    def process(image: Any, metadata: Any) -> Any:
        owner.append(len(owner))
        if len(owner) == 30:
            core.set_exposure(9.0)
        shown = {k: v for k, v in metadata.items() if tagged or k != "Exposure"}
        source.process(image, shown)
        return image, metadata

    indices: list[int] = []
    with (
        acquiring(source, 90, process) as errors,
        pytest.raises(DeviceError, match="exposure from 2 ms to 9 ms") as caught,
    ):
        indices.extend(frame.index for frame in source.frames())
    assert "\n" not in str(caught.value)
    assert errors == []
    assert len(owner) == 90
    assert source.lost == 0


def test_roi_changed_mid_run(core: Any, monkeypatch) -> None:
    """This camera ends its sequence then, and so the owner's acquisition."""
    monkeypatch.setattr(watch, "_EVERY_S", 3600.0)  # it is seen at the end
    source = PycroSource(core)
    owner: list[int] = []

    def process(image: Any, metadata: Any) -> Any:
        owner.append(len(owner))
        if len(owner) == 30:
            core.set_roi(4, 6, 48, 40)
        return source.process(image, metadata)

    said = r"ROI from 96 x 64 px at \(10, 20\) to 48 x 40 px at \(4, 6\)"
    indices: list[int] = []
    with (
        acquiring(source, 400, process) as errors,
        pytest.raises(DeviceError, match=said),
    ):
        indices.extend(frame.index for frame in source.frames())
    assert len(errors) == 1
    assert indices == list(range(len(owner)))


def test_another_size_as_java_sends_it(core: Any) -> None:
    """A double of the Java backend's records: flat pixels, their sides in the tags."""
    source = PycroSource(core)
    md = {"Axes": {"time": 0}, "ImageNumber": 0, "Width": 96, "Height": 64}
    source.process(np.zeros(96 * 64, np.int16), md)
    md = {"Axes": {"time": 1}, "ImageNumber": 1, "Width": 32, "Height": 33}
    source.process(np.zeros(32 * 33, np.int16), md)
    frames = source.frames()
    assert next(frames).index == 0
    with pytest.raises(DeviceError, match=r"its image from \(64, 96\) to \(33, 32\)"):
        next(frames)


def test_flat_signed_pixels_and_numbers_as_java_sends_them(core: Any) -> None:
    """A double of the Java backend's records, not Java."""
    source = PycroSource(core)
    pixels = np.arange(96 * 64).astype(np.int16) * np.int16(9)
    for k, number in ((0, 0), (1, 1), (2, 5)):
        md = {"Axes": {"time": k}, "ImageNumber": number, "ElapsedTime-ms": 2.0 * k}
        source.process(pixels, md)
    source.stop()
    frames = [(f.index, f.pixels.copy()) for f in source.frames()]
    assert [index for index, _ in frames] == [0, 1, 5]
    np.testing.assert_array_equal(frames[0][1], pixels.view(np.uint16).reshape(64, 96))


def test_java_containers_become_tuples() -> None:
    class Vector:
        def size(self) -> int:
            return 2

        def get(self, i: int) -> str:
            return "ab"[i]

    class Core:
        def get_loaded_devices(self) -> Vector:
            return Vector()

        def get_pixel_size_um(self) -> float:
            return 0.1

    named: Any = CamelCore(Core())
    assert named.getLoadedDevices() == ("a", "b")
    assert named.getPixelSizeUm() == 0.1


def test_versions_that_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_server(**_: object) -> object:
        import warnings

        warnings.warn(
            "Version mistmatch between Java ZMQ server and Python client. \nJava ZMQ "
            "server version: 4.2.0\nPython client expected version: 5.1.0\n To fix...",
            stacklevel=1,
        )
        return object()

    monkeypatch.setattr(pycromanager, "Core", old_server)
    with pytest.raises(InputError, match=r"version 4\.2\.0.*needs 5\.1\.0"):
        connect()
