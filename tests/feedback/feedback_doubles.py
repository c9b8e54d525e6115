"""Doubles for the feedback tests: a laser, a clock, frame results made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from blinkloop.errors import DeviceError
from blinkloop.runtime.density import BLOCK_PX, DensityEstimate
from blinkloop.runtime.records import FrameResult, Roi
from blinkloop.schema import LOCALIZATION_DTYPE

FIELD = Roi(0, 0, 64, 64)


@dataclass
class LaserDouble:
    """A laser in memory; `mood` says how it misbehaves from `since_write` on."""

    mood: str = "good"
    since_write: int = 0
    label: str = "405"
    limits: tuple[float, float] = (0.0, 100.0)
    value: float = 0.0
    written: list[float] = field(default_factory=list)

    def write(self, value: float) -> None:
        moody = len(self.written) >= self.since_write
        if moody and self.mood == "refuses":
            raise DeviceError("shutter interlock open")
        if moody and self.mood == "breaks":
            raise OSError("serial port gone")
        self.written.append(value)
        if moody and self.mood == "refuses while on" and value > 0:
            raise DeviceError("key switch off")
        if moody and self.mood == "stuck":
            return
        self.value = 2 * value if moody and self.mood == "other" else value

    def read(self) -> float:
        if self.mood == "mute":
            raise OSError("no answer")
        if self.mood == "reads nan":
            return float("nan")
        return self.value


class ClockDouble:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def result(
    index: int,
    count: float = 20.0,
    variance: float = 1.0,
    *,
    roi: Roi = FIELD,
    blocks: np.ndarray | None = None,
    fps: float = 50.0,
    localizations: np.ndarray | None = None,
) -> FrameResult:
    """A frame whose count is spread evenly over its pixels."""
    if localizations is None:
        localizations = np.zeros(0, LOCALIZATION_DTYPE)
    if blocks is None:
        rows = np.diff([*range(0, roi.height, BLOCK_PX), roi.height])
        columns = np.diff([*range(0, roi.width, BLOCK_PX), roi.width])
        blocks = np.outer(rows, columns) * count / (roi.width * roi.height)
    return FrameResult(
        index=index,
        timestamp_s=index / fps,
        roi=roi,
        segment=0,
        localizations=localizations,
        table_full=False,
        count_mean=count,
        count_variance=variance,
        block_mean=np.asarray(blocks, np.float32),
    )


def estimate(
    density: float, sd: float = 0.01, *, index: int = 0, n_frames: int = 20
) -> DensityEstimate:
    """An estimate of that density."""
    return DensityEstimate(index, index / 50.0, density, sd, density, sd, 1.0, n_frames)
