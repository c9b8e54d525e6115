"""Frames and stores for the tests of raw data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.raw import RawRecorder, RawStore
from blinkloop.runtime.records import Frame, Roi

ROI = Roi(3, 5, 17, 13)
STEP = 20
"""The child says every so many frames how far it is."""
PATIENCE_S = 120.0
"""Only matters when a test fails."""


def wait_for(condition: Callable[[], bool], pause_s: float = 0.01) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(pause_s)


def pixels_of(
    index: int, roi: Roi = ROI, dtype: npt.DTypeLike = np.uint16
) -> npt.NDArray[Any]:
    """(height, width) that tell which frame they are."""
    generator = np.random.default_rng(index)
    return generator.integers(0, 250, (roi.height, roi.width)).astype(dtype)


def make_frame(index: int, roi: Roi = ROI, dtype: npt.DTypeLike = np.uint16) -> Frame:
    return Frame(index, index / 100, pixels_of(index, roi, dtype), roi)


def make_recorder(path: Path, chunk: int = 8, **more: Any) -> RawRecorder:
    store = RawStore(path, ROI, np.uint16, frames_per_chunk=chunk)
    return RawRecorder(store, **{"flush_s": 0.05, **more})
