"""The loop holds a number of spots of a real C++ camera.

The laser is a property of that camera: DemoCamera draws `BeadDensity` beads (10 to 500,
a whole number) at fixed places, a plant of known gain behind the real core, ring,
source and property. The counter is a double: local maxima, no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.testing import assert_allclose

from blinkloop.integrations.micromanager import MicroManagerSource, MMLaser
from blinkloop.runtime.density import BLOCK_PX, DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)
from blinkloop.runtime.records import Frame, FrameResult
from blinkloop.schema import LOCALIZATION_DTYPE

WIDTH, HEIGHT = 192, 160
AREA_UM2 = WIDTH * HEIGHT * 0.01


@pytest.fixture
def bead_core(demo_core: Any) -> Iterator[Any]:
    demo_core.setProperty("Camera", "Mode", "Fluorescent Beads")
    demo_core.setProperty("Camera", "BeadDensity", 20)
    demo_core.setROI(128, 128, WIDTH, HEIGHT)
    yield demo_core
    demo_core.clearROI()
    demo_core.setProperty("Camera", "BeadDensity", 100)
    demo_core.setProperty("Camera", "Mode", "Artificial Waves")


def counted(frame: Frame) -> FrameResult:
    """Local maxima well above the background, as a network's result."""
    pixels = frame.pixels.astype(np.float32)
    centre = pixels[1:-1, 1:-1]
    spots = centre > np.median(pixels) + 5 * _noise(pixels)
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            part = pixels[dy : dy + centre.shape[0], dx : dx + centre.shape[1]]
            # Of equal neighbours the first one counts.
            spots &= (centre > part) if (dy, dx) < (1, 1) else (centre >= part)
    rows, columns = np.nonzero(spots)
    shape = (-(-HEIGHT // BLOCK_PX), -(-WIDTH // BLOCK_PX))
    blocks = np.zeros(shape, np.float32)
    np.add.at(blocks, ((rows + 1) // BLOCK_PX, (columns + 1) // BLOCK_PX), 1.0)
    return FrameResult(
        index=frame.index,
        timestamp_s=frame.timestamp_s,
        roi=frame.roi,
        segment=0,
        localizations=np.zeros(0, LOCALIZATION_DTYPE),
        table_full=False,
        count_mean=float(rows.size),
        count_variance=0.02 * rows.size,
        block_mean=blocks,
    )


def _noise(pixels: npt.NDArray[np.float32]) -> float:
    return 1.4826 * float(np.median(np.abs(pixels - np.median(pixels)))) + 1e-6


@pytest.mark.parametrize(
    ("start", "wanted"), [(100, 40.0), (450, 15.0)], ids=["too few", "too many"]
)
def test_bead_density_is_held(bead_core: Any, start: int, wanted: float) -> None:
    laser = MMLaser(bead_core, "Camera", "BeadDensity")
    assert (laser.limits, laser.resolution) == ((10.0, 500.0), 1.0)
    limits = LaserLimits(max_value=500, min_value=10, safe_value=10, resolution=1)
    controller = FeedbackController(
        ControllerSettings(
            target_per_um2=wanted / AREA_UM2,
            start_power=start,
            max_power=500,
            min_power=10,
            resolution=1,
            on_time_frames=0.5,
        )
    )
    guard = LaserGuard(laser, limits, mode="control")
    loop = FeedbackLoop(
        DensityEstimator(100.0, average_frames=10, on_time_frames=0.5),
        controller,
        guard,
    )
    source = MicroManagerSource(
        bead_core, camera="Camera", n_frames=220, exposure_ms=8.0
    )
    loop.start()
    try:
        for frame in source.frames():
            loop.observe([counted(frame)])
        held = loop.history()
        assert held["frame"].size == 220
        assert guard.state == "armed"
        after = held["density_per_um2"][170:] * AREA_UM2
        # Beads that come in as pairs are one maximum: the number has steps.
        assert_allclose(after.mean(), wanted, rtol=0.05)
        assert after.std() <= 2.0
        assert 10 < laser.read() < 500
    finally:
        loop.close()
    assert laser.read() == 10.0  # its safe value
