"""The C++ DemoCamera, and a Python camera that fails, through MicroManagerSource."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from busy import PATIENCE_S, wait_for

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager import MicroManagerSource
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Frame, Roi


def cleared(core) -> Callable[[], bool]:
    """Whether the core has cleared its full ring, to be asked often; or has ended."""
    held = [0]

    def look() -> bool:
        held.append(core.getRemainingImageCount())
        return held[-1] < held[-2] or not core.isSequenceRunning()

    return look


def _take(source: MicroManagerSource, use: Callable[[Frame], object]) -> None:
    for frame in source.frames():
        use(frame)


def test_every_frame_of_the_demo_camera(demo_core) -> None:
    source = MicroManagerSource(demo_core)
    assert isinstance(source, FrameSource)
    assert source.ring_frames >= 200
    began_s = time.monotonic()
    source.start()
    indices, times = [], []
    for frame in source.frames():
        if frame.index == 60:
            stopper = threading.Thread(target=source.stop)
            stopper.start()
        assert frame.pixels.shape == (512, 512)
        assert frame.pixels.dtype == source.dtype == np.uint16
        indices.append(frame.index)
        times.append(frame.timestamp_s)
    stopper.join()
    np.testing.assert_array_equal(indices, np.arange(len(indices)))
    assert len(indices) > 60
    assert source.lost == 0
    assert np.all(np.diff(times) > 0)
    assert times[0] >= 0
    # On the camera's own clock it was exposed before it was popped.
    assert 0.3 < source.elapsed_ms / 1000 < times[-1] + 0.1
    assert times[-1] < time.monotonic() - began_s
    assert not demo_core.isSequenceRunning()


def test_a_number_of_frames_with_a_roi(demo_core) -> None:
    demo_core.setROI(100, 40, 64, 48)
    source = MicroManagerSource(demo_core, n_frames=7, exposure_ms=2.0)
    frames = list(source.frames())
    assert [f.index for f in frames] == list(range(7))
    assert source.roi == frames[0].roi == Roi(100, 40, 64, 48)
    assert frames[0].pixels.shape == (48, 64)
    assert source.camera_facts()["exposure_ms"] == 2.0
    assert source.camera_facts()["bit_depth"] == 16
    assert source.camera_facts()["pixel_size_nm"] == 1000.0


def test_8_bit(demo_core) -> None:
    demo_core.setProperty("Camera", "PixelType", "8bit")
    source = MicroManagerSource(demo_core, n_frames=1)
    (frame,) = source.frames()
    assert frame.pixels.dtype == source.dtype == np.uint8


@pytest.mark.parametrize("pixel_type", ["32bitRGB", "32bit"])
def test_other_pixels_are_refused(demo_core, pixel_type) -> None:
    demo_core.setProperty("Camera", "PixelType", pixel_type)
    with pytest.raises(InputError, match="8 or 16 bit"):
        MicroManagerSource(demo_core)


def test_overflow_is_found_and_reported(demo_core) -> None:
    source = MicroManagerSource(demo_core, exposure_ms=1.0, ring_frames=8)
    indices = []

    def stand_still(frame: Frame) -> None:
        indices.append(frame.index)
        if frame.index == 3:
            assert wait_for(demo_core.isBufferOverflowed)

    with pytest.raises(DeviceError, match="ring of 8 frames was full") as caught:
        _take(source, stand_still)
    assert f"after frame {indices[-1]}" in str(caught.value)
    assert source.lost == 1
    # What was in the ring came out without a hole.
    np.testing.assert_array_equal(indices, np.arange(len(indices)))
    assert len(indices) >= 8
    assert not demo_core.isSequenceRunning()


def test_without_stop_on_overflow_losses_are_jumps(demo_core) -> None:
    source = MicroManagerSource(
        demo_core, exposure_ms=1.0, ring_frames=8, stop_on_overflow=False, n_frames=80
    )
    indices = []
    for frame in source.frames():
        indices.append(frame.index)
        if len(indices) == 10:
            assert wait_for(cleared(demo_core), pause_s=0.0)
    assert len(indices) < 80
    assert np.diff(indices).max() > 1
    assert indices[-1] == 79


def test_stopped_before_and_after(demo_core) -> None:
    source = MicroManagerSource(demo_core)
    source.stop()
    assert list(source.frames()) == []
    source.stop()
    assert not demo_core.isSequenceRunning()


def test_a_consumer_that_leaves_stops_the_camera(demo_core) -> None:
    source = MicroManagerSource(demo_core)
    frames = source.frames()
    next(frames)
    assert demo_core.isSequenceRunning()
    frames.close()
    assert not demo_core.isSequenceRunning()


def test_a_camera_in_use_is_not_disturbed(demo_core) -> None:
    demo_core.startContinuousSequenceAcquisition(0)
    source = MicroManagerSource(demo_core)
    with pytest.raises(DeviceError, match="already running"):
        source.start()
    assert demo_core.isSequenceRunning()
    demo_core.stopSequenceAcquisition()


def test_somebody_stops_the_camera(demo_core) -> None:
    source = MicroManagerSource(demo_core)
    with pytest.raises(DeviceError, match="ended its sequence by itself"):
        _take(source, lambda f: f.index == 5 and demo_core.stopSequenceAcquisition())


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_impossible_numbers_of_frames(demo_core, n) -> None:
    with pytest.raises(InputError, match="number of frames"):
        MicroManagerSource(demo_core, n_frames=n)


def _python_camera(core, after: str):
    """A double: 5 frames of 5 x 7 px, then it raises or hangs."""
    from pymmcore_plus.experimental.unicore import CameraDevice

    release = threading.Event()

    class Failing(CameraDevice):
        def get_exposure(self) -> float:
            return 1.0

        def set_exposure(self, exposure: float) -> None:
            pass

        def shape(self) -> tuple[int, int]:
            return 5, 7

        def dtype(self):
            return np.uint16

        def start_sequence(self, n, get_buffer):
            for k in range(5):
                get_buffer((5, 7), np.uint16)[:] = k
                yield {}
            if after == "raises":
                raise OSError("USB cable pulled")
            get_buffer((5, 7), np.uint16)
            release.wait(PATIENCE_S)

    core.loadPyDevice("Failing", Failing())
    core.initializeDevice("Failing")
    return release


# The core lets the exception of the camera's thread go to threading.excepthook.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("after", "match"),
    [
        ("raises", "stopped after frame 4"),
        ("hangs", "no frame for 0.2 s after frame 4"),
    ],
)
def test_a_camera_that_disappears(demo_core, monkeypatch, after, match) -> None:
    release = _python_camera(demo_core, after)
    stop = demo_core.stopSequenceAcquisition

    def stop_and_let_go(*camera: str) -> None:
        # The core joins the camera's thread: what hangs lets go only when told to stop.
        release.set()
        stop(*camera)

    monkeypatch.setattr(demo_core, "stopSequenceAcquisition", stop_and_let_go)
    values = []
    try:
        source = MicroManagerSource(demo_core, camera="Failing", stall_timeout_s=0.2)
        source.start()
        assert wait_for(lambda: demo_core.getRemainingImageCount() == 5)
        with pytest.raises(DeviceError, match=match) as caught:
            _take(source, lambda f: values.append(int(f.pixels[4, 6])))
        assert "\n" not in str(caught.value)
        assert values == [0, 1, 2, 3, 4]
        assert not demo_core.isSequenceRunning()
    finally:
        release.set()
        demo_core.setCameraDevice("")
        demo_core.unloadDevice("Failing")


def test_switching_back_from_a_python_camera(demo_core) -> None:
    release = _python_camera(demo_core, "raises")
    release.set()
    assert MicroManagerSource(demo_core, camera="Failing").roi == Roi(0, 0, 7, 5)
    source = MicroManagerSource(demo_core, camera="Camera", n_frames=2)
    assert [f.pixels.shape for f in source.frames()] == [(512, 512)] * 2
    demo_core.unloadDevice("Failing")


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [
        ({}, 200),
        ({"ring_seconds": 0.01}, 16),
        ({"ring_max_mb": 10.0}, 20),
        ({"ring_frames": 3}, 3),
    ],
    ids=["2 s", "at least", "memory", "asked"],
)
def test_size_of_the_ring(demo_core, arguments, frames) -> None:
    assert MicroManagerSource(demo_core, **arguments).ring_frames == frames


def test_ring_of_one_frame_is_refused(demo_core) -> None:
    with pytest.raises(InputError, match="at least 2 frames"):
        MicroManagerSource(demo_core, ring_frames=1)
