"""Forced overflows of the real core's ring are found and sized, however it numbers."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from busy import spinning, wait_for

from blinkloop.integrations.micromanager import MicroManagerSource


class Renumbering:
    """MMCore 11's habit on the real core: a ring that was cleared counts from 0."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._last, self._base = -1, 0
        self.true_numbers: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def popNextImageAndMD(self) -> Any:
        pixels, tags = self._core.popNextImageAndMD()
        number = int(tags["ImageNumber"])
        if number > self._last + 1:
            self._base = number
        self._last = number
        self.true_numbers.append(number)
        told = dict(tags)
        told["ImageNumber"] = str(number - self._base)
        return pixels, told


LOADS = pytest.mark.parametrize(
    "beside", [nullcontext, spinning], ids=["quiet", "loaded"]
)
"""Alone, and beside processes that compute without a pause on every processor."""


def stand_still(core: Any, clears: int) -> None:
    """Take no frame until the core has cleared its full ring so often."""
    last = 0
    while clears and core.isSequenceRunning():
        now = core.getRemainingImageCount()
        clears -= now < last
        last = now
        time.sleep(0.001)


def lost(indices: list[int]) -> int:
    return int(np.sum(np.diff(indices) - 1))


@LOADS
@pytest.mark.parametrize(("size", "frames"), [(128, 500), (512, 120)])
def test_numbers_that_jump(demo_core, size, frames, beside) -> None:
    with beside():
        check_jumps(demo_core, size, frames)


def check_jumps(demo_core: Any, size: int, frames: int) -> None:
    demo_core.setROI(0, 0, size, size)
    source = MicroManagerSource(
        demo_core,
        exposure_ms=3.0,
        ring_frames=16,
        stop_on_overflow=False,
        n_frames=frames,
    )
    indices = []
    for frame in source.frames():
        indices.append(frame.index)
        if len(indices) in (20, 40):
            stand_still(demo_core, 2)
    assert lost(indices) > 20
    assert indices[-1] == frames - 1
    assert len(indices) + lost(indices) == frames
    assert source.estimated == 0


@LOADS
@pytest.mark.parametrize("exposure_ms", [10.0, 3.0])
def test_numbers_that_start_again(demo_core, exposure_ms, beside) -> None:
    """Exact, however badly the camera keeps its time: a cleared ring was full."""
    with beside():
        check_new_starts(demo_core, exposure_ms)


def check_new_starts(demo_core: Any, exposure_ms: float) -> None:
    demo_core.setROI(0, 0, 128, 128)
    core = Renumbering(demo_core)
    source = MicroManagerSource(
        core, exposure_ms=exposure_ms, ring_frames=8, stop_on_overflow=False
    )
    indices = []
    # How many frames it exposes is known to the test only.
    for frame in source.frames():
        indices.append(frame.index)
        if len(indices) in (20, 60, 100):
            stand_still(demo_core, len(indices) // 20)
        if len(indices) == 140:
            source.stop()
    true = lost(core.true_numbers)
    assert true >= 9 * source.ring_frames
    assert source.estimated == lost(indices)
    assert lost(indices) == pytest.approx(true, rel=0.1)
    np.testing.assert_allclose(indices, core.true_numbers, rtol=0.1)


def test_the_python_ring(demo_core) -> None:
    """It drops the oldest frames one by one; the pixels tell the truth."""
    from pymmcore_plus.experimental.unicore import CameraDevice

    class Counter(CameraDevice):
        made = 0

        def get_exposure(self) -> float:
            return 2.0

        def set_exposure(self, exposure: float) -> None:
            pass

        def shape(self) -> tuple[int, int]:
            return 33, 47

        def dtype(self):
            return np.uint16

        def start_sequence(self, n, get_buffer):
            for k in range(n):
                time.sleep(0.002)
                get_buffer((33, 47), np.uint16)[:] = k
                Counter.made = k + 1
                yield {}

    demo_core.loadPyDevice("Counter", Counter())
    demo_core.initializeDevice("Counter")
    try:
        source = MicroManagerSource(
            demo_core,
            camera="Counter",
            ring_frames=16,
            stop_on_overflow=False,
            n_frames=400,
        )
        indices, values = [], []
        for frame in source.frames():
            indices.append(frame.index)
            values.append(int(frame.pixels[32, 46]))
            if len(indices) % 15 == 0:
                enough = min(Counter.made + 60, 400)
                assert wait_for(lambda enough=enough: Counter.made >= enough)
        assert lost(values) > 40
        np.testing.assert_array_equal(indices, values)
        assert indices[-1] == 399
    finally:
        demo_core.setCameraDevice("")
        demo_core.unloadDevice("Counter")
