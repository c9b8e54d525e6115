"""Listening to an MDA that somebody else runs, on real cores."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from busy import PATIENCE_S, wait_for

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")

import useq  # ships with pymmcore-plus

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager import MdaSource, watch
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Frame, Roi


@pytest.fixture(autouse=True)
def small(demo_core):
    logger = logging.getLogger("pymmcore-plus")
    before, logger.disabled = logger.disabled, True
    demo_core.setROI(10, 20, 96, 64)
    demo_core.setExposure(2.0)
    demo_core.mda.engine.use_hardware_sequencing = True
    demo_core.setCircularBufferMemoryFootprint(64)
    yield
    logger.disabled = before
    demo_core.mda.events.frameReady.disconnect()
    demo_core.setCircularBufferMemoryFootprint(64)


def plan(frames: int, **more) -> useq.MDASequence:
    return useq.MDASequence(time_plan={"interval": 0, "loops": frames}, **more)


def two_sequences(first: int, second: int, exposures_ms=(2.0, 2.0)):
    """Events of two hardware sequences: another property, and exposure, in the second.

    The laser's, so that it is the same movie when the exposures are the same.
    """
    return [
        useq.MDAEvent(
            index={"t": t},
            exposure=exposures_ms[t >= first],
            properties=[("DA405", "Voltage", str(int(t >= first)))],
        )
        for t in range(first + second)
    ]


@contextmanager
def running(
    core, events, errors: list[BaseException] | None = None
) -> Iterator[threading.Thread]:
    """The owner's MDA, on a thread of its own as in a GUI."""

    def run() -> None:
        try:
            core.mda.run(events)
        except Exception as error:
            (errors if errors is not None else []).append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def take(source: MdaSource, use: Callable[[Frame], object] = lambda f: None):
    indices = []
    for frame in source.frames():
        indices.append(frame.index)
        use(frame)
    return indices


@pytest.mark.parametrize(
    ("roi", "frames"), [((10, 20, 96, 64), 120), ((0, 0, 512, 512), 60)]
)
def test_every_frame_of_a_hardware_sequence(demo_core, roi, frames) -> None:
    demo_core.setROI(*roi)
    source = MdaSource(demo_core)
    assert isinstance(source, FrameSource)
    assert source.roi == Roi(*roi)
    assert source.camera_facts()["exposure_ms"] == 2.0
    # The run's copy is the frame that the owner got.
    owner, ours = [], []
    note = lambda image, event, meta: owner.append(int(image[-1, -1]))  # noqa: E731
    demo_core.mda.events.frameReady.connect(note)
    source.start()
    with running(demo_core, plan(frames)):
        indices = take(source, lambda f: ours.append(int(f.pixels[-1, -1])))
    demo_core.mda.events.frameReady.disconnect(note)
    np.testing.assert_array_equal(indices, np.arange(frames))
    assert ours == owner
    assert source.lost == source.relay_dropped == source.estimated == 0


def test_snapped_frames_of_a_queue_of_events(demo_core) -> None:
    events: queue.Queue[object] = queue.Queue()
    stop = object()
    for k in range(6):
        events.put(useq.MDAEvent(index={"t": k}, exposure=1.0))
    events.put(stop)
    source = MdaSource(demo_core)
    source.start()
    with running(demo_core, iter(events.get, stop)):
        assert take(source) == list(range(6))
    assert source.lost == 0


def test_the_next_sequence_goes_on_counting(demo_core) -> None:
    """The core's numbers start again at 0, and nothing is lost."""
    events = two_sequences(12, 9)
    source = MdaSource(demo_core)
    source.start()
    numbers: list[int] = []
    note = lambda image, event, meta: numbers.append(  # noqa: E731
        int(meta["camera_metadata"]["ImageNumber"])
    )
    demo_core.mda.events.frameReady.connect(note)
    with running(demo_core, events):
        assert take(source) == list(range(21))
    demo_core.mda.events.frameReady.disconnect(note)
    assert numbers == [*range(12), *range(9)]


def test_a_consumer_that_is_too_slow_does_not_slow_the_mda(demo_core) -> None:
    """It ends while the consumer stands still; every frame is delivered or counted."""
    frames = 200
    source = MdaSource(demo_core, relay_mb=1e-9)  # 16 frames
    source.start()
    errors: list[BaseException] = []
    ended: list[bool] = []
    with running(demo_core, plan(frames), errors) as owner:
        delivered = take(
            source, lambda f: ended.append(wait_for(lambda: not owner.is_alive()))
        )
    assert all(ended)
    assert errors == []
    assert source.relay_dropped >= frames - 16
    assert len(delivered) + source.relay_dropped == frames
    jumps = int(np.sum(np.diff([-1, *delivered]) - 1))
    assert jumps + source.lost == source.relay_dropped


def test_an_overflow_of_the_owner_is_named(demo_core) -> None:
    source = MdaSource(demo_core, ring_seconds=0.01)
    source.start()
    demo_core.setCircularBufferMemoryFootprint(1)
    errors: list[BaseException] = []

    def slow(image, event, meta) -> None:
        if event.index["t"] == 20:
            assert wait_for(demo_core.isBufferOverflowed)

    demo_core.mda.events.frameReady.connect(slow)
    indices: list[int] = []
    with (
        running(demo_core, plan(2000), errors),
        pytest.raises(DeviceError, match="the core's ring was full") as caught,
    ):
        take(source, lambda frame: indices.append(frame.index))
    demo_core.mda.events.frameReady.disconnect(slow)
    assert "\n" not in str(caught.value)
    assert isinstance(errors[0], MemoryError)
    np.testing.assert_array_equal(indices, np.arange(len(indices)))
    assert 0 < len(indices) < 2000
    assert source.lost == 1


def test_channels_are_refused_unless_one_is_chosen(demo_core) -> None:
    two = plan(
        8,
        channels=[{"config": "DAPI", "exposure": 3}, {"config": "FITC", "exposure": 2}],
    )
    source = MdaSource(demo_core)
    source.start()
    errors: list[BaseException] = []
    with (
        running(demo_core, two, errors),
        pytest.raises(DeviceError, match=r"changes 'c'.*select=\{'c': 0\}"),
    ):
        take(source)
    assert errors == []  # the owner's run is not ours to stop
    chosen = MdaSource(demo_core, select={"c": 1})
    chosen.start()
    with running(demo_core, two):
        assert take(chosen) == list(range(8))
    assert chosen.lost == 0
    with pytest.raises(InputError, match="cannot name the axis 't'"):
        MdaSource(demo_core, select={"t": 3})


def test_another_size_during_the_run_ends_ours_only(demo_core) -> None:
    source = MdaSource(demo_core)
    demo_core.setROI(0, 0, 32, 33)
    source.start()
    errors: list[BaseException] = []
    with (
        running(demo_core, plan(5), errors),
        pytest.raises(DeviceError, match=r"its image from \(64, 96\) to \(33, 32\)"),
    ):
        take(source)
    assert errors == []
    assert source.lost == 0  # of another movie


def at(core, frames: int, act: Callable[[], object]) -> list[int]:
    """Do something on the MDA's thread after so many frames; what its owner gets."""
    got: list[int] = []

    def note(image, event, meta) -> None:
        got.append(len(got))
        if len(got) == frames:
            act()

    core.mda.events.frameReady.connect(note)
    return got


@pytest.mark.parametrize("tagged", [True, False], ids=["on the frames", "asked for"])
def test_exposure_changed_mid_run(demo_core, monkeypatch, tagged) -> None:
    """Ours ends; the owner gets all of its frames."""
    if not tagged:
        monkeypatch.setattr(watch, "_EVERY_S", 0.05)
        frame = watch.SettingsWatch.frame
        monkeypatch.setattr(
            watch.SettingsWatch, "frame", lambda self, s, t, _: frame(self, s, t)
        )
    source = MdaSource(demo_core)
    source.start()
    got = at(demo_core, 30, lambda: demo_core.setExposure(9.0))
    indices: list[int] = []
    errors: list[BaseException] = []
    with (
        running(demo_core, plan(90), errors),
        pytest.raises(DeviceError, match="exposure from 2 ms to 9 ms") as caught,
    ):
        take(source, lambda frame: indices.append(frame.index))
    assert "\n" not in str(caught.value)
    assert errors == []
    assert len(got) == 90
    assert indices == list(range(len(indices)))
    assert len(indices) == 30 if tagged else 30 <= len(indices) < 90
    assert source.lost == source.relay_dropped == 0


def test_an_exposure_that_the_plan_changes(demo_core) -> None:
    events = two_sequences(12, 9, (2.0, 3.0))
    source = MdaSource(demo_core)
    source.start()
    indices: list[int] = []
    with (
        running(demo_core, events),
        pytest.raises(DeviceError, match="exposure from 2 ms to 3 ms"),
    ):
        take(source, lambda frame: indices.append(frame.index))
    assert indices == list(range(12))


def test_roi_changed_mid_run(demo_core, monkeypatch) -> None:
    """This camera ends its sequence then; the MDA says it completed."""
    monkeypatch.setattr(watch, "_EVERY_S", 3600.0)  # it is seen at the end
    source = MdaSource(demo_core)
    source.start()
    got = at(demo_core, 30, lambda: demo_core.setROI(4, 6, 48, 40))
    indices: list[int] = []
    said = r"ROI from 96 x 64 px at \(10, 20\) to 48 x 40 px at \(4, 6\)"
    with running(demo_core, plan(90)), pytest.raises(DeviceError, match=said):
        take(source, lambda frame: indices.append(frame.index))
    assert indices == list(range(len(got)))
    assert 30 <= len(got) < 90
    assert len(indices) + source.lost == 90


def test_roi_moved_between_snapped_frames(demo_core, monkeypatch) -> None:
    """Same size, and nothing is written on such frames: the core is asked."""
    monkeypatch.setattr(watch, "_EVERY_S", 0.0)
    source = MdaSource(demo_core)
    source.start()
    demo_core.mda.engine.use_hardware_sequencing = False
    at(demo_core, 4, lambda: demo_core.setROI(12, 20, 96, 64))
    indices: list[int] = []
    said = r"to 96 x 64 px at \(12, 20\)"
    with running(demo_core, plan(9)), pytest.raises(DeviceError, match=said):
        take(source, lambda frame: indices.append(frame.index))
    assert indices == list(range(4))


def test_stop_leaves_the_mda_alone(demo_core) -> None:
    got: list[int] = []
    count = lambda image, event, meta: got.append(1)  # noqa: E731
    demo_core.mda.events.frameReady.connect(count)
    source = MdaSource(demo_core)
    source.start()
    with running(demo_core, plan(60)):
        for frame in source.frames():
            if frame.index == 5:
                source.stop()
                source.stop()
    demo_core.mda.events.frameReady.disconnect(count)
    assert len(got) == 60
    assert len(demo_core.mda.events.frameReady) == 0
    source.start()  # a source runs once
    assert len(demo_core.mda.events.frameReady) == 0


@pytest.fixture
def python_camera(demo_core):
    """A Python camera of odd size, in a ring of 50 and a half of its frames."""
    from pymmcore_plus.experimental.unicore import CameraDevice

    class Counter(CameraDevice):
        def get_exposure(self) -> float:
            return 1.0

        def set_exposure(self, exposure: float) -> None:
            pass

        def shape(self) -> tuple[int, int]:
            return 33, 47

        def dtype(self):
            return np.uint16

        def start_sequence(self, n, get_buffer):
            k = 0
            while n is None or k < n:
                time.sleep(0.001)
                get_buffer((33, 47), np.uint16)[:] = k
                yield {}
                k += 1
                # However busy the computer is, the ring never overflows.
                room = demo_core.getBufferTotalCapacity() // 2
                wait_for(
                    lambda room=room: (
                        demo_core.getRemainingImageCount() < room
                        or not demo_core.isSequenceRunning()
                    )
                )

    demo_core.loadPyDevice("Counter", Counter())
    demo_core.initializeDevice("Counter")
    demo_core.setCameraDevice("")
    demo_core.setCameraDevice("Counter")
    demo_core.setCircularBufferMemoryFootprint(50.5 * 33 * 47 * 2 / 2**20)
    yield demo_core
    demo_core.setCameraDevice("")
    demo_core.unloadDevice("Counter")


def test_every_frame_of_a_python_camera(python_camera) -> None:
    """Far more frames than the ring holds: none goes at its wraps."""
    source = MdaSource(python_camera, ring_seconds=0.1)
    values: list[int] = []
    source.start()
    held = python_camera.getBufferTotalCapacity()
    frames = 3 * held + 50

    def hesitant(image, event, meta) -> None:
        # Frames wait in the ring, also while it wraps.
        if event.index["t"] % 25 == 0:
            # The last ones are all in the ring before it gets that far.
            wait_for(
                lambda: (
                    python_camera.getRemainingImageCount() >= 10
                    or not python_camera.isSequenceRunning()
                )
            )

    python_camera.mda.events.frameReady.connect(hesitant)
    with running(python_camera, plan(frames)):
        indices = take(source, lambda f: values.append(int(f.pixels[32, 46])))
    python_camera.mda.events.frameReady.disconnect(hesitant)
    np.testing.assert_array_equal(indices, np.arange(frames))
    np.testing.assert_array_equal(values, np.arange(frames))
    assert source.lost == 0
